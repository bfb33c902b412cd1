"""The commands of a conversation: send, regenerate, cancel, resume. They answer at once."""

from collections.abc import Awaitable, Callable
from contextlib import suppress

from gateway.runs.live_runs import LiveRuns
from gateway.runs.resume import Elsewhere, Expired, Replayable, Resumer
from gateway.runs.run_starter import RunStarter
from gateway.runs.transport import GoneError
from gateway.tenants.tier import Tier
from gateway.turns.accept import Acceptor
from gateway.turns.recover import Recovery
from gateway.wire.answers import Accepted as AcceptedAnswer
from gateway.wire.answers import Answer, Resumed
from gateway.wire.commands import Cancel, Regenerate, Resume, Send
from gateway.wire.errors import (
    BadRequestError,
    BusyError,
    NotFoundError,
    RateLimitedError,
    StorageUnavailableError,
)
from storage.keys import run_id
from storage.records import Accepted, Duplicate, Owner, Run
from storage.repositories import Store

Post = Callable[[Answer], Awaitable[None]]
"""Posts an answer to the connection that a command came from."""


class Conversation:
    """Carries out the commands about runs.

    Args:
        store: where runs are kept.
        acceptor: stores turns.
        live: the runs that are live here.
        resumer: finds what may be replayed.
        starter: generates replies.
        recovery: takes up runs that nobody generates.
        characters: the names a first send may choose from.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        *,
        store: Store,
        acceptor: Acceptor,
        live: LiveRuns,
        resumer: Resumer,
        starter: RunStarter,
        recovery: Recovery,
        characters: frozenset[str],
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._acceptor = acceptor
        self._live = live
        self._resumer = resumer
        self._starter = starter
        self._recovery = recovery
        self._characters = characters
        self._clock = clock

    async def send(
        self, owner: Owner, tier: Tier, connection_id: str, command: Send, post: Post
    ) -> None:
        """Accept a message, say so, and have it answered.

        Raises:
            WireError: it cannot be accepted.
        """
        if command.character is not None and (
            command.session_id is not None or command.character not in self._characters
        ):
            raise BadRequestError("Not valid: character.")
        await self._check_rate(owner, tier, command.id)
        try:
            outcome = await self._acceptor.send(owner, tier, command)
        except BusyError:
            if command.session_id is not None:
                await self._recovery.revive(owner, command.session_id)
            raise
        await self._accepted(owner, connection_id, outcome, post)
        if isinstance(outcome, Accepted) and command.if_busy == "cancel":
            for ahead in outcome.ahead:
                await self._stop(owner, ahead)

    async def regenerate(
        self, owner: Owner, tier: Tier, connection_id: str, command: Regenerate, post: Post
    ) -> None:
        """Accept that a stored message be answered again, say so, and have it answered.

        Raises:
            WireError: it cannot be accepted.
        """
        await self._check_rate(owner, tier, command.id)
        outcome = await self._acceptor.regenerate(owner, command)
        await self._accepted(owner, connection_id, outcome, post)

    async def cancel(self, owner: Owner, command: Cancel) -> None:
        """Stop a run; the answer is its `done`. A send id that is not known yet is remembered.

        Raises:
            NotFoundError: no such run of this owner.
        """
        if command.id is not None:
            await self._stop(owner, run_id(owner, command.id))
            return
        assert command.run_id is not None
        if await self._store.of(owner).runs.get(command.run_id) is None:
            raise NotFoundError
        await self._stop(owner, command.run_id)

    async def resume(
        self, owner: Owner, connection_id: str, command: Resume, post: Post
    ) -> Expired | None:
        """Say where a run stands, then post what the client lacks and go on live.

        Returns:
            The run if its log may not be replayed any more, else `None`.

        Raises:
            NotFoundError: no such run of this owner.
        """
        found = await self._find(owner, command.run_id)
        if isinstance(found, Expired):
            return found
        await post(Resumed(run_id=command.run_id, state=found.state, last_seq=found.last_seq))
        self._live.follow(found.feed, connection_id, after=command.after)
        return None

    async def forgotten(self, owner: Owner, session_id: str) -> None:
        """Stop what is under way in a session that was forgotten, and let nobody resume it."""
        for live in self._live.of_session(owner, session_id):
            live.forget()
            self._starter.start(live)
            self._live.drop(live)

    async def _check_rate(self, owner: Owner, tier: Tier, command_id: str) -> None:
        if self._live.count(owner) < tier.live_runs:
            return
        if await self._store.of(owner).runs.get(run_id(owner, command_id)) is None:
            raise RateLimitedError("Too many answers are under way.")

    async def _accepted(
        self, owner: Owner, connection_id: str, outcome: Accepted | Duplicate, post: Post
    ) -> None:
        run = outcome.run
        if isinstance(outcome, Duplicate):
            await self._accepted_before(owner, connection_id, run, post)
            return
        live = self._live.open(owner, run)
        live.context = outcome.context
        if not outcome.ahead or live.cancelled:
            self._starter.start(live)
        else:
            await self._recovery.revive(owner, run.session_id)
        with suppress(GoneError):  # what was accepted is answered, whoever reads it
            await post(_accepted_answer(run, duplicate=None))
            self._live.follow(live.feed, connection_id, after=0)

    async def _accepted_before(
        self, owner: Owner, connection_id: str, run: Run, post: Post
    ) -> None:
        found = await self._find(owner, run.run_id)
        await post(_accepted_answer(run, duplicate=True))
        if isinstance(found, Replayable) and not found.feed.follows(connection_id):
            self._live.follow(found.feed, connection_id, after=0)

    async def _find(self, owner: Owner, run_id: str) -> Replayable | Expired:
        found = await self._resumer.find(owner, run_id)
        if isinstance(found, Elsewhere) or (
            isinstance(found, Replayable) and found.state == "queued"
        ):
            await self._recovery.revive(owner, found.session_id)
            found = await self._resumer.find(owner, run_id)
        if isinstance(found, Elsewhere):
            raise StorageUnavailableError
        return found

    async def _stop(self, owner: Owner, run: str) -> None:
        live = self._live.find(owner, run)
        if live is not None:
            live.cancel()
        await self._store.of(owner).runs.cancel(run, now=self._clock())
        live = self._live.find(owner, run)  # it may have been accepted meanwhile
        if live is not None:
            live.cancel()
            self._starter.start(live)


def _accepted_answer(run: Run, *, duplicate: bool | None) -> AcceptedAnswer:
    return AcceptedAnswer(
        id=run.send_id,
        run_id=run.run_id,
        session_id=run.session_id,
        message_id=run.message_id,
        duplicate=duplicate,
    )

"""The commands of a conversation: send, regenerate, cancel. They answer at once."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from gateway.runs.identities import Identities
from gateway.runs.live_run import LiveRun
from gateway.runs.live_runs import LiveRuns
from gateway.runs.run_starter import RunStarter
from gateway.runs.transport import GoneError
from gateway.tenants.tier import Tier
from gateway.turns.accept import Acceptor
from gateway.turns.finish import last_events, started
from gateway.turns.following import Following, Post
from gateway.turns.outcome import Outcome
from gateway.turns.recover import Recovery
from gateway.wire import answers
from gateway.wire.commands import Cancel, Regenerate, Send
from gateway.wire.errors import (
    BadRequestError,
    NotFoundError,
    RateLimitedError,
)
from storage.errors import StorageError
from storage.keys import run_id
from storage.records import Accepted, Connection, Duplicate, Owner, Run
from storage.repositories import Store

T = TypeVar("T")

log = logging.getLogger(__name__)

Accept = Callable[[], Awaitable[Accepted | Duplicate]]
"""Stores a turn, as the `Acceptor` does."""


class Conversation:
    """Carries out the commands about runs.

    Args:
        store: where runs are kept.
        acceptor: stores turns.
        live: the runs that are live here.
        following: lets connections read runs.
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
        following: Following,
        starter: RunStarter,
        recovery: Recovery,
        characters: frozenset[str],
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._acceptor = acceptor
        self._live = live
        self._following = following
        self._starter = starter
        self._recovery = recovery
        self._characters = characters
        self._clock = clock

    async def send(
        self, owner: Owner, tier: Tier, here: Connection, command: Send, post: Post
    ) -> str | None:
        """Accept a message, say so, and have it answered.

        Returns:
            The session, if no event will soon tell who follows it: it is new, or the message waits. Also
            where the message is known and not answered yet: it may have seemed not to be stored.

        Raises:
            WireError: it cannot be accepted.
        """
        if command.character is not None and (
            command.session_id is not None or command.character not in self._characters
        ):
            raise BadRequestError("Not valid: character.")
        outcome = await self._accept(
            owner, tier, command.id, lambda: self._acceptor.send(owner, tier, here, command)
        )
        await self._accepted(owner, here, outcome, post, cancels=command.if_busy == "cancel")
        return outcome.run.session_id if _is_news(command, outcome) else None

    async def regenerate(
        self, owner: Owner, tier: Tier, here: Connection, command: Regenerate, post: Post
    ) -> None:
        """Accept that a stored message be answered again, say so, and have it answered.

        Raises:
            WireError: it cannot be accepted.
        """
        outcome = await self._accept(
            owner, tier, command.id, lambda: self._acceptor.regenerate(owner, here, command)
        )
        await self._accepted(owner, here, outcome, post, cancels=False)

    async def cancel(self, owner: Owner, command: Cancel) -> None:
        """Stop a run; the answer is its `done`. A send id that is not known yet is remembered.

        Raises:
            NotFoundError: no such run of this owner.
        """
        if command.id is not None:
            await self._stop(owner, run_id(owner, command.id))
            return
        assert command.run_id is not None
        is_live = self._live.find(owner, command.run_id) is not None  # stopped without the store
        if not is_live and await self._store.of(owner).runs.get(command.run_id) is None:
            raise NotFoundError
        await self._stop(owner, command.run_id)

    async def forget(self, owner: Owner, session_id: str, delete: Callable[[], Awaitable[T]]) -> T:
        """Have a session deleted, stop what is under way in it, and let nobody resume it.

        Args:
            owner: whose session it is.
            session_id: of the session.
            delete: deletes it, and raises `NotFoundError` if there is none.

        Returns:
            What `delete` returns.
        """
        waiting = await self._waiting_elsewhere(owner, session_id)
        try:
            deleted = await delete()
        except NotFoundError:
            # An earlier try has failed, to its caller, and was stored all the same.
            if self._live.of_session(owner, session_id):
                await self._forgotten(owner, session_id, ())
            raise
        await self._forgotten(owner, session_id, waiting)
        return deleted

    async def _waiting_elsewhere(self, owner: Owner, session_id: str) -> Sequence[Run]:
        """Return the session's queued runs that are not live in this process."""
        return [
            run
            for run in await self._store.of(owner).runs.live()
            if run.session_id == session_id and run.state == "queued"
            if self._live.find(owner, run.run_id) is None
        ]

    async def _forgotten(self, owner: Owner, session_id: str, waiting: Sequence[Run]) -> None:
        """End what was under way in a session that is gone.

        Nobody generates what has waited elsewhere any more: its readers are told here, if their identity
        holds.
        """
        for live in self._live.forget(owner, session_id):
            live.forget()
            self._starter.start(live)
        identities = Identities(self._store.connections, clock=self._clock)
        for run in waiting:
            readers = await identities.holding(run.readers)
            live = self._live.open(owner, run)
            end = last_events(run, Outcome(reason="cancelled"), None, saved=False)
            live.end([started(run), *end], saved=False)
            for reader in readers:
                self._live.followers.follow(live.feed, reader.connection_id, after=reader.after)
            self._live.retire(live, linger_s=0.0)

    async def _accept(
        self, owner: Owner, tier: Tier, command_id: str, accept: Accept
    ) -> Accepted | Duplicate:
        """Accept a run, unless so many are under way; what was accepted before takes no place.

        Where runs are generated in this process, nothing can come between the count and the place.

        Raises:
            RateLimitedError: as many as the tier allows are under way.
        """
        name = run_id(owner, command_id)
        if await self._following.count(owner) >= tier.live_runs:
            known = self._live.counts(owner, name)
            if not known and await self._store.of(owner).runs.get(name) is None:
                raise RateLimitedError("Too many answers are under way.")
        with self._live.accepting(owner, name):
            outcome = await accept()
            if isinstance(outcome, Accepted):
                self._live.open(owner, outcome.run).context = outcome.context
        return outcome

    async def _accepted(
        self,
        owner: Owner,
        here: Connection,
        outcome: Accepted | Duplicate,
        post: Post,
        *,
        cancels: bool,
    ) -> None:
        run = outcome.run
        if isinstance(outcome, Duplicate):
            found = None
            with suppress(RateLimitedError):  # too many read it; its client will ask to resume
                found = await self._following.find(owner, run.run_id, here, after=None)
            await post(_accepted(run, duplicate=True))
            if found is not None:
                self._following.follow(found, here, after=None)
            return
        live = self._live.open(owner, run)
        if not outcome.ahead or live.cancelled:
            self._starter.start(live)
            await asyncio.sleep(0)  # the request to the model leaves before a frame is written here
            await self._tell_accepted(live, here, post)
            return
        # Begins when the frame has been handed over, and does not wait for a slow reader to take it.
        ahead = outcome.ahead if cancels else ()
        clearing = asyncio.create_task(self._clear_the_way(owner, run.session_id, ahead))
        try:
            await self._tell_accepted(live, here, post)
        finally:
            await clearing

    async def _tell_accepted(self, live: LiveRun, here: Connection, post: Post) -> None:
        with suppress(GoneError):  # what was accepted is answered, whoever reads it
            await post(_accepted(live.run, duplicate=False))
            self._live.followers.follow(live.feed, here.connection_id, after=0)

    async def _clear_the_way(self, owner: Owner, session_id: str, stopped: Sequence[str]) -> None:
        """Let a run that waits have its turn; if that fails it goes on waiting, as its client was told.

        Args:
            owner: whose run it is.
            session_id: of the session.
            stopped: what is ahead of it and shall not be.
        """
        try:
            for ahead in stopped:
                await self._stop_or_log(owner, ahead)
            await self._recovery.revive(owner, session_id)
        except StorageError as error:
            fields = {"session_id": session_id, "cause": str(error)}
            log.warning("run not taken up", extra=fields)

    async def _stop_or_log(self, owner: Owner, run_id: str) -> None:
        try:
            await self._stop(owner, run_id)
        except StorageError as error:
            log.warning("run not cancelled", extra={"run_id": run_id, "cause": str(error)})

    async def _stop(self, owner: Owner, run_id: str) -> None:
        live = self._live.find(owner, run_id)
        if live is not None:
            live.cancel()
        run = await self._store.of(owner).runs.cancel(run_id, now=self._clock())
        live = self._live.find(owner, run_id)  # it may have been accepted meanwhile
        if live is None and run is not None and run.state == "queued":
            live = self._live.open(owner, run)  # it waits, for another one or for a process
        if live is not None:
            live.cancel()
            self._starter.start(live)
        elif run is not None and run.state == "running" and run.lease_until <= self._clock():
            await self._recovery.revive_met(owner, run)


def _is_news(command: Send, outcome: Accepted | Duplicate) -> bool:
    if isinstance(outcome, Accepted):
        return command.session_id is None or bool(outcome.ahead)
    state = outcome.run.state
    return state == "queued" or (command.session_id is None and state != "ended")


def _accepted(run: Run, *, duplicate: bool) -> bytes:
    return answers.accepted(
        id=run.send_id,
        run_id=run.run_id,
        session_id=run.session_id,
        message_id=run.message_id,
        duplicate=duplicate,
    )

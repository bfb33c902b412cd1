"""Following runs: resume one, subscribe to a session's. Live delivery after that needs no command."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from gateway.runs.found import Expired, Joined, Readable, Untended
from gateway.runs.live_runs import LiveRuns
from gateway.turns.recover import Recovery
from gateway.wire import answers
from gateway.wire.answers import Resumed, Subscribed, Unsubscribed
from gateway.wire.commands import Resume, Subscribe, Unsubscribe
from gateway.wire.errors import RateLimitedError, StorageUnavailableError
from storage.records import Connection, Owner

Post = Callable[[bytes], Awaitable[None]]
"""Posts an answer, encoded, to the connection that a command came from."""


class RunFinder(Protocol):
    """Knows where runs are generated: `LocalFinder` in this process, `SharedFinder` in others."""

    async def find(
        self, owner: Owner, run_id: str, reader: Connection, *, after: int | None
    ) -> Readable | Joined | Untended | Expired:
        """Return how that connection may follow the run.

        Args:
            owner: whose run it must be.
            run_id: of the run.
            reader: the connection that shall get the events after `after`.
            after: the number of the last event it has; `None`: from the start, unless it reads already.

        Raises:
            NotFoundError: no such run of this owner.
            RateLimitedError: too many read it.
            StorageUnavailableError: the store refuses.
        """
        ...

    async def subscribe(
        self, owner: Owner, session_id: str, reader: Connection
    ) -> Sequence[answers.LiveRun]:
        """Make the connection a reader of every later run of the session, until it leaves.

        Returns:
            The session's runs that have not ended, in their order; nobody follows those yet.

        Raises:
            NotFoundError: no such session of this owner.
            RateLimitedError: too many sessions, or too many connections.
            StorageUnavailableError: the store refuses.
        """
        ...

    async def unsubscribe(self, owner: Owner, session_id: str, reader: Connection) -> None:
        """Undo it for later runs; harmless when there is nothing to undo."""
        ...

    async def count(self, owner: Owner) -> int:
        """Return how many runs of that owner are queued or under way."""
        ...


class Following:
    """Lets connections read runs.

    Args:
        finder: knows where the runs are.
        live: the feeds of this process.
        recovery: takes up runs that nobody generates.
    """

    def __init__(self, *, finder: RunFinder, live: LiveRuns, recovery: Recovery) -> None:
        self._finder = finder
        self._live = live
        self._recovery = recovery

    async def resume(
        self, owner: Owner, here: Connection, command: Resume, post: Post
    ) -> Expired | None:
        """Say where a run stands, then post what the client lacks and go on live.

        Returns:
            The run if its log may not be replayed any more, else `None`.

        Raises:
            NotFoundError: no such run of this owner.
        """
        found = await self.find(owner, command.run_id, here, after=command.after)
        if isinstance(found, Expired):
            return found
        resumed = Resumed(run_id=command.run_id, state=found.state, last_seq=found.last_seq)
        await post(resumed.encode())
        self.follow(found, here, after=command.after)
        return None

    async def subscribe(
        self, owner: Owner, here: Connection, command: Subscribe, post: Post
    ) -> None:
        """Follow a session from now on, and what is under way in it from its start.

        Raises:
            WireError: it cannot be followed.
        """
        runs = await self._finder.subscribe(owner, command.session_id, here)
        try:
            found = [await self.find(owner, run.run_id, here, after=None) for run in runs]
        except RateLimitedError:  # who is refused shall not take the place of another one later
            await self._finder.unsubscribe(owner, command.session_id, here)
            raise
        subscribed = Subscribed(session_id=command.session_id, runs=tuple(runs))
        await post(subscribed.encode())
        for each in found:
            self.follow(each, here, after=None)

    async def unsubscribe(
        self, owner: Owner, here: Connection, command: Unsubscribe, post: Post
    ) -> None:
        """Follow no later run of a session."""
        await self._finder.unsubscribe(owner, command.session_id, here)
        await post(Unsubscribed(session_id=command.session_id).encode())

    async def count(self, owner: Owner) -> int:
        """Return how many runs of that owner are queued or under way."""
        return await self._finder.count(owner)

    async def find(
        self, owner: Owner, run_id: str, here: Connection, *, after: int | None
    ) -> Readable | Joined | Expired:
        """Return how that connection may follow a run; one that is dead is taken up first.

        Raises:
            NotFoundError, RateLimitedError, StorageUnavailableError: see `RunFinder.find`.
        """
        found = await self._finder.find(owner, run_id, here, after=after)
        match found:
            case Joined(overdue=True):
                await self._recovery.revive(owner, found.session_id)
            case Readable(state="queued"):
                await self._recovery.revive(owner, found.session_id)
                found = await self._finder.find(owner, run_id, here, after=after)
            case Untended():
                await self._recovery.revive_met(owner, found.run)
                found = await self._finder.find(owner, run_id, here, after=after)
        if isinstance(found, Untended):
            raise StorageUnavailableError
        return found

    def follow(
        self, found: Readable | Joined | Expired, here: Connection, *, after: int | None
    ) -> None:
        """Read what was found, if it is read in this process.

        Args:
            found: by `find`.
            here: who reads.
            after: the number of its last event; `None`: from the start, unless it reads already.
        """
        if not isinstance(found, Readable):
            return
        if after is not None or not found.feed.follows(here.connection_id):
            self._live.followers.follow(found.feed, here.connection_id, after=after or 0)

"""Finding what a client may follow, where each run is generated in another process."""

from collections.abc import Callable, Sequence

from gateway.runs.found import Expired, Joined, Readable, Untended, listed_run
from gateway.runs.replay import Replayer
from gateway.runs.run_starter import BEGUN_WITHIN_S, may_yet_begin
from gateway.wire import answers
from gateway.wire.errors import NotFoundError, RateLimitedError
from storage.records import Connection, Owner, Run, RunReader
from storage.repositories import SharedStore


class SharedFinder:
    """Answers who wants to follow a run from somewhere.

    Args:
        store: what the processes share.
        replayer: makes feeds of ended runs.
        new_id: makes nonces.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        *,
        store: SharedStore,
        replayer: Replayer,
        new_id: Callable[[], str],
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._replayer = replayer
        self._new_id = new_id
        self._clock = clock

    def reader(self, connection: Connection, *, after: int = 0) -> RunReader:
        """Return that connection as HEAD shall know it."""
        return RunReader(
            connection_id=connection.connection_id,
            after=after,
            nonce=self._new_id(),
            auth_expires_at=connection.auth_expires_at,
        )

    async def find(
        self, owner: Owner, run_id: str, reader: Connection, *, after: int | None
    ) -> Readable | Joined | Untended | Expired:
        """Make the connection a reader of a live run, or return what to follow; see `RunFinder.find`.

        Raises:
            NotFoundError: no such run of this owner.
            RateLimitedError: too many connections read it already.
            StorageUnavailableError: the store refuses.
        """
        run = await self._join(owner, run_id, reader, after)
        if run is None:
            raise NotFoundError
        if run.state == "ended":
            return await self._replayer.replay(owner, run)
        now = self._clock()
        if run.state == "running" and run.lease_until <= now:
            return Untended(run=run)
        if not _reads(run, reader):
            raise RateLimitedError("Too many connections read this answer.")
        return Joined(
            session_id=run.session_id,
            state=run.state,
            last_seq=run.last_seq,
            overdue=run.state == "queued" and not may_yet_begin(run, BEGUN_WITHIN_S, now=now),
        )

    async def subscribe(
        self, owner: Owner, session_id: str, reader: Connection
    ) -> Sequence[answers.LiveRun]:
        """Make the connection a reader of every later run of the session; see `RunFinder.subscribe`.

        Either a generation finds the subscriber when it has claimed its run, or the run is found here. Of
        the runs that wait one may be missing that was accepted in this second.

        Raises:
            NotFoundError: no such session of this owner.
            StorageUnavailableError: the store refuses.
        """
        its = self._store.of(owner)
        await its.subscribers.add(session_id, self.reader(reader), expires_at=reader.expires_at)
        session = await its.sessions.get(session_id)
        if session is None:
            await its.subscribers.remove(session_id, reader.connection_id)
            raise NotFoundError
        if session.active_run is None:
            return []
        active = await its.runs.get(session.active_run)
        others = [run for run in await its.runs.live() if run.run_id != session.active_run]
        runs = [run for run in others if run.session_id == session_id]
        if active is not None and active.state != "ended":
            runs.insert(0, active)
        return [listed_run(run, last_seq=run.last_seq) for run in runs]

    async def unsubscribe(self, owner: Owner, session_id: str, reader: Connection) -> None:
        """Undo it for later runs."""
        await self._store.of(owner).subscribers.remove(session_id, reader.connection_id)

    async def count(self, owner: Owner) -> int:
        """Return how many runs of that owner are queued or under way."""
        return len(await self._store.of(owner).runs.live())

    async def _join(
        self, owner: Owner, run_id: str, reader: Connection, after: int | None
    ) -> Run | None:
        runs = self._store.of(owner).runs
        if after is None:
            run = await runs.get(run_id)
            if run is None or _reads(run, reader):
                return run
        return await runs.join(run_id, self.reader(reader, after=after or 0), now=self._clock())


def _reads(run: Run, connection: Connection) -> bool:
    return any(reader.connection_id == connection.connection_id for reader in run.readers)

"""Finding what a client may follow, where runs are generated in this process."""

from collections.abc import Sequence

from gateway.runs.found import Expired, Readable, Untended, listed_run
from gateway.runs.live_runs import LiveRuns
from gateway.runs.replay import Replayer
from gateway.wire import answers
from gateway.wire.errors import NotFoundError, RateLimitedError
from storage.records import Connection, Owner, RunState
from storage.repositories import Store


class LocalFinder:
    """Answers who wants to follow a run from somewhere.

    Args:
        store: where the runs are.
        live: those that are live here.
        replayer: makes feeds of ended ones.
    """

    def __init__(self, *, store: Store, live: LiveRuns, replayer: Replayer) -> None:
        self._store = store
        self._live = live
        self._replayer = replayer

    async def find(
        self, owner: Owner, run_id: str, reader: Connection, *, after: int | None
    ) -> Readable | Untended | Expired:
        """Return the feed to follow; see `RunFinder.find`. Nobody follows it yet.

        Raises:
            NotFoundError: no such run of this owner.
            StorageUnavailableError: the store refuses.
        """
        found = self._find_live(owner, run_id)
        if found is not None:
            return found
        forgets = self._live.forgets
        run = await self._store.of(owner).runs.get(run_id)
        if run is None:
            raise NotFoundError
        if run.state == "queued" and self._live.forgets == forgets:  # else its session may be gone
            self._live.open(owner, run)
        found = self._find_live(owner, run_id)  # it may have begun while the store was asked
        if found is not None:
            return found
        if run.state != "ended":
            return Untended(run=run)
        return await self._replayer.replay(owner, run)

    async def subscribe(
        self, owner: Owner, session_id: str, reader: Connection
    ) -> Sequence[answers.LiveRun]:
        """Make the connection a reader of every later run of the session; see `RunFinder.subscribe`.

        Raises:
            NotFoundError: no such session of this owner.
            RateLimitedError: it follows too many already.
            StorageUnavailableError: the store refuses.
        """
        if await self._store.of(owner).sessions.get(session_id) is None:
            raise NotFoundError
        if not self._live.followers.subscribe(owner, session_id, reader.connection_id):
            raise RateLimitedError("This connection follows too many sessions.")
        return [
            listed_run(live.run, last_seq=live.feed.kept)
            for live in self._live.of_session(owner, session_id)
            if not live.feed.complete
        ]

    async def unsubscribe(self, owner: Owner, session_id: str, reader: Connection) -> None:
        """Undo it for later runs."""
        self._live.followers.unsubscribe(owner, session_id, reader.connection_id)

    async def count(self, owner: Owner) -> int:
        """Return how many runs of that owner are queued or under way."""
        return self._live.count(owner)

    def _find_live(self, owner: Owner, run_id: str) -> Readable | None:
        live = self._live.find(owner, run_id)
        if live is None:
            return None
        state: RunState = "running" if live.last_seq else "queued"
        if live.feed.complete:
            state = "ended"
        return Readable(
            feed=live.feed, session_id=live.run.session_id, state=state, last_seq=live.feed.kept
        )

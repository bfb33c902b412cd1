"""Finding what a client may replay: a live run's feed, or an ended run's whole log."""

from collections.abc import Callable
from dataclasses import dataclass

from gateway.frames.pack import LoggedEvent
from gateway.frames.spill import Spill
from gateway.runs.feed import Feed
from gateway.runs.live_runs import LiveRuns
from gateway.runs.transport import Transport
from gateway.wire.errors import NotFoundError
from storage.records import LogEntry, Owner, Run, RunState
from storage.repositories import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayable:
    """A feed and where its run stands."""

    feed: Feed
    session_id: str
    state: RunState
    last_seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """A run that is claimed, but not generated here: its generation died, or is another process's."""

    session_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired:
    """A run whose log may not be replayed any more."""

    run: Run


class Resumer:
    """Answers who wants to follow a run from somewhere.

    Args:
        store: where ended runs are read.
        live: the runs that are live here.
        transport, spill: what a replayed feed posts with.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        *,
        store: Store,
        live: LiveRuns,
        transport: Transport,
        spill: Spill,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._live = live
        self._transport = transport
        self._spill = spill
        self._clock = clock

    async def find(self, owner: Owner, run_id: str) -> Replayable | Elsewhere | Expired:
        """Return the feed to follow.

        Raises:
            NotFoundError: no such run of this owner.
            StorageUnavailableError: the store refuses.
        """
        found = self._find_live(owner, run_id)
        if found is not None:
            return found
        run = await self._store.of(owner).runs.get(run_id)
        if run is None:
            raise NotFoundError
        if run.state == "queued":
            self._live.open(owner, run)
        found = self._find_live(owner, run_id)  # it may have begun while the store was asked
        if found is not None:
            return found
        if run.state != "ended":
            return Elsewhere(session_id=run.session_id)
        if run.log_until <= self._clock():
            return Expired(run=run)
        return await self._replay(owner, run)

    def _find_live(self, owner: Owner, run_id: str) -> Replayable | None:
        live = self._live.find(owner, run_id)
        if live is None:
            return None
        state: RunState = "running" if live.last_seq else "queued"
        if live.feed.complete:
            state = "ended"
        return Replayable(
            feed=live.feed, session_id=live.run.session_id, state=state, last_seq=live.feed.kept
        )

    async def _replay(self, owner: Owner, run: Run) -> Replayable | Expired:
        log = await self._store.of(owner).log.read(run.run_id, after=0)
        feed = Feed(run_id=run.run_id, owner=owner, transport=self._transport, spill=self._spill)
        feed.events.extend(event for entry in log for event in events_of(entry))
        if len(feed.events) != run.last_seq:
            return Expired(run=run)
        feed.advance(run.last_seq, complete=True)
        return Replayable(
            feed=feed, session_id=run.session_id, state="ended", last_seq=run.last_seq
        )


def events_of(entry: LogEntry) -> list[LoggedEvent]:
    """Return the events of a log entry, one by one."""
    if entry.blob is not None:
        return [entry.blob]
    return list(entry.body.split(b"\n"))

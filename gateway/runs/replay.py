"""Replaying the log of an ended run."""

from collections.abc import Callable

from gateway.frames.pack import LoggedEvent
from gateway.frames.spill import Spill
from gateway.runs.feed import Feed
from gateway.runs.found import Expired, Readable
from gateway.runs.transport import Transport
from storage.records import LogEntry, Owner, Run
from storage.repositories import Store


class Replayer:
    """Makes feeds of the logs of ended runs.

    Args:
        store: where the logs are.
        transport, spill: what such a feed posts with.
        clock: Unix time in seconds.
    """

    def __init__(
        self, *, store: Store, transport: Transport, spill: Spill, clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._transport = transport
        self._spill = spill
        self._clock = clock

    async def replay(self, owner: Owner, run: Run) -> Readable | Expired:
        """Return the whole log of an ended run as a complete feed, or that it is over.

        Raises:
            StorageUnavailableError: the store refuses.
        """
        if run.log_until <= self._clock():
            return Expired(run=run)
        log = await self._store.of(owner).log.read(run.run_id, after=0)
        feed = Feed(run_id=run.run_id, owner=owner, transport=self._transport, spill=self._spill)
        feed.events.extend(event for entry in log for event in events_of(entry))
        if len(feed.events) != run.last_seq:
            return Expired(run=run)
        feed.advance(run.last_seq, complete=True)
        return Readable(feed=feed, session_id=run.session_id, state="ended", last_seq=run.last_seq)


def events_of(entry: LogEntry) -> list[LoggedEvent]:
    """Return the events of a log entry, one by one."""
    if entry.blob is not None:
        return [entry.blob]
    return list(entry.body.split(b"\n"))

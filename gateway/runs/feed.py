"""The part of a run's log that may be posted, and who reads it."""

import asyncio

from gateway.frames.pack import LoggedEvent
from gateway.frames.spill import Spill
from gateway.runs.reader import Reader
from gateway.runs.transport import Transport
from storage.records import BlobRef, Owner


class Feed:
    """A growing list of events with readers. Live delivery, resume, replay and fan-out are this.

    Attributes:
        events: event number n at index n - 1.
        kept: the last number that is in the log and so may be posted; 0 for none.
        complete: the event `kept` is the terminal one.
        volatile_after: events numbered above could not be logged; `None` while all could.
        unread_since: when the last reader left, or the generation began, if that was later; seconds of
            the event loop's clock. Says nothing while there are readers.
        gone: connections that read it until a post found them closed, for good.
    """

    def __init__(self, *, run_id: str, owner: Owner, transport: Transport, spill: Spill) -> None:
        self.run_id = run_id
        self.owner = owner
        self.transport = transport
        self.spill = spill
        self.events: list[LoggedEvent] = []
        self.kept = 0
        self.complete = False
        self.volatile_after: int | None = None
        self.unread_since = 0.0
        self.frames_posted = 0
        self.bytes_posted = 0
        self.gone: set[str] = set()
        self._readers: dict[str, Reader] = {}

    @property
    def readers(self) -> tuple[str, ...]:
        """The connections that read it."""
        return tuple(self._readers)

    def follow(self, connection_id: str, *, after: int) -> None:
        """Make that connection a reader from the event after `after`; a second time moves its cursor."""
        reader = self._readers.get(connection_id)
        if reader is None:
            reader = self._readers[connection_id] = Reader(self, connection_id)
        reader.move(min(after, self.kept))
        reader.pump()

    def follows(self, connection_id: str) -> bool:
        """Tell whether that connection is a reader."""
        return connection_id in self._readers

    def is_ahead_of(self, connection_id: str) -> bool:
        """Tell whether that connection is a reader that has not taken all that is kept."""
        reader = self._readers.get(connection_id)
        return reader is not None and not reader.is_level

    def backlog(self, connection_id: str, *, stalled_s: float) -> int:
        """Return how many bytes of events that connection leaves unread; see `Reader.backlog`."""
        reader = self._readers.get(connection_id)
        if reader is None:
            return 0
        unread = reader.backlog(stalled_s=stalled_s)
        return sum(len(event) for event in unread if not isinstance(event, BlobRef))

    def unfollow(self, connection_id: str) -> None:
        """Forget a reader; harmless when it is none."""
        reader = self._readers.pop(connection_id, None)
        if reader is not None:
            reader.stop()
            self.unread_since = asyncio.get_running_loop().time()

    def advance(self, kept: int, *, complete: bool = False) -> None:
        """Let the readers have everything up to event number `kept`."""
        self.kept = kept
        self.complete = complete
        for reader in tuple(self._readers.values()):
            reader.pump()

    async def delivered(self) -> None:
        """Wait until no frame is in flight: every reader has all that is kept, or is gone."""
        while waiting := [each.in_flight for each in self._readers.values() if each.in_flight]:
            await asyncio.wait(waiting)

    def count(self, frame: bytes) -> None:
        """Note a posted frame, for the run's log line."""
        self.frames_posted += 1
        self.bytes_posted += len(frame)

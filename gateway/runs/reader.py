"""A cursor of one connection in one run's log."""

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gateway.frames.pack import LoggedEvent, events_frame, next_events
from gateway.runs.transport import GoneError, UndeliveredError
from storage.errors import StorageError
from storage.records import BlobRef

if TYPE_CHECKING:
    from gateway.runs.feed import Feed

log = logging.getLogger(__name__)


class Reader:
    """Sends the next whole events, one frame in flight, and advances.

    `pump` does all that can be done now and never waits; where the transport asks to wait, a task
    of the reader's own pumps on afterwards. So a slow reader costs a cursor, not a queue.
    """

    __slots__ = (
        "_cursor",
        "_feed",
        "_posted_at",
        "_stopped",
        "_taken",
        "_waiting",
        "connection_id",
    )

    def __init__(self, feed: "Feed", connection_id: str) -> None:
        self.connection_id = connection_id
        self._feed = feed
        self._cursor = 0
        self._taken = 0
        self._waiting: asyncio.Future[None] | None = None
        self._posted_at = 0.0
        self._stopped = False

    @property
    def in_flight(self) -> "asyncio.Future[None] | None":
        """The post that is under way, if any."""
        return self._waiting

    @property
    def is_level(self) -> bool:
        """Whether all that may be posted was, and was taken."""
        return self._waiting is None and self._cursor >= self._feed.kept

    def backlog(self, *, stalled_s: float) -> Sequence[LoggedEvent]:
        """Return what it leaves unread, the frame in flight included; nothing while it goes on reading.

        Args:
            stalled_s: it goes on until its frame has been in flight for so long, in seconds.
        """
        if self._waiting is None or self._waiting.done():
            return ()
        if asyncio.get_running_loop().time() - self._posted_at < stalled_s:
            return ()
        return self._feed.events[self._taken : self._feed.kept]

    def move(self, after: int) -> None:
        """Go on with the event after `after`."""
        self._cursor = after

    def stop(self) -> None:
        """Post nothing more."""
        self._stopped = True

    def pump(self) -> None:
        """Post what may be posted, up to the first wait."""
        feed = self._feed
        while self._waiting is None and self._cursor < feed.kept:
            self._taken = self._cursor
            try:
                frame = self._next_frame()
                pending = feed.transport.post(self.connection_id, frame)
            except GoneError as error:
                self._end(error)
                return
            except StorageError as error:  # no URL can be signed now; its client asks again
                fields = {"run_id": feed.run_id, "cause": str(error)}
                log.warning("a payload cannot be announced", extra=fields)
                feed.unfollow(self.connection_id)
                return
            except Exception:  # one reader's fault must not be that of the run
                log.exception("a frame could not be posted", extra={"run_id": feed.run_id})
                feed.unfollow(self.connection_id)
                return
            feed.count(frame)
            if pending is not None:
                self._posted_at = asyncio.get_running_loop().time()
                self._waiting = asyncio.ensure_future(pending)
                self._waiting.add_done_callback(self._go_on)

    def _next_frame(self) -> bytes:
        feed, first = self._feed, self._cursor + 1
        events = next_events(feed.events, self._cursor, feed.kept)
        self._cursor += len(events) or 1
        volatile = feed.volatile_after is not None and self._cursor > feed.volatile_after
        if not events:
            ref = feed.events[first - 1]
            assert isinstance(ref, BlobRef)
            return feed.spill.announce(
                feed.owner,
                ref,
                of="events",
                run_id=feed.run_id,
                seq=first,
                volatile=volatile or None,
            )
        return events_frame(feed.run_id, first, events, volatile=volatile)

    def _go_on(self, waited: asyncio.Future[None]) -> None:
        self._waiting = None
        error = None if waited.cancelled() else waited.exception()
        if error is not None and not isinstance(error, GoneError):
            log.error("a frame could not be posted", exc_info=error)
        if self._stopped:
            return
        if error is not None or waited.cancelled():
            self._end(error)
            return
        self.pump()

    def _end(self, error: BaseException | None) -> None:
        if isinstance(error, GoneError) and not isinstance(error, UndeliveredError):
            self._feed.gone.add(self.connection_id)
        self._feed.unfollow(self.connection_id)

"""A run that is being generated here: merge, then number, then log, then send."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence

from gateway.frames.pace import Pace
from gateway.frames.pack import LoggedEvent, entries, events_frame, merged
from gateway.frames.spill import Spill, split_text_event
from gateway.runs.appender import Appender
from gateway.runs.feed import Feed
from gateway.runs.transport import Transport
from gateway.wire.events import CONTENT_DELTA_HEAD
from gateway.wire.limits import SPILL_ABOVE_BYTES
from storage.errors import StorageError
from storage.records import BlobRef, Context, LogEntry, Owner, Run
from storage.repositories import RunLog

log = logging.getLogger(__name__)


class LiveRun:
    """Writes the log of one run and feeds its readers. Lives until its terminal event is posted.

    On the way of an event there is no task, timer, lock or await: `emit` numbers it and hands it to
    the log, the log's acknowledgement posts it. Only an event too large for a frame, and a log that
    refuses, leave that way; and where every write costs, events wait for each other (`pace`) before
    they are merged and numbered.

    Args:
        run: the accepted run.
        claimed_by: who we are to the log; makes us the run's one generation once claimed.
        spill_until: how long blobs of this run are kept, Unix time in seconds.
        pace: the rhythm of the writes; `None` where they cost nothing.

    Attributes:
        claimed: whether the store knows `claimed_by` already; set by who claims the run.
        context: what to answer from, if the run was claimed when it was accepted; set by who accepts it.
        started: whether a `RunStarter` has taken it on; set by that.
        cancelled: whether somebody asked to stop it.
        forgotten: whether its session was deleted.
        lost: whether somebody else generates or has ended it; nothing more is logged or posted.
    """

    def __init__(
        self,
        *,
        owner: Owner,
        run: Run,
        claimed_by: str,
        log: RunLog,
        transport: Transport,
        spill: Spill,
        spill_until: float,
        pace: Pace | None = None,
    ) -> None:
        self.owner = owner
        self.run = run
        self.claimed_by = claimed_by
        self.feed = Feed(run_id=run.run_id, owner=owner, transport=transport, spill=spill)
        self.claimed = run.claimed_by == claimed_by
        self.context: Context | None = None
        self.cancelled = run.cancel_at is not None
        self.forgotten = False
        self.started = False
        self.lost = False
        self._appender = Appender(
            log, claimed_by=claimed_by, kept=self._kept, gave_up=self._turn_volatile, lost=self.lose
        )
        self._spill_until = spill_until
        self._pace = pace
        self._flush_due: asyncio.TimerHandle | None = None
        self._unpaced: list[bytes] = []
        self._unpaced_bytes = 0
        self._unnumbered: deque[bytes] = deque()
        self._spilling: asyncio.Task[None] | None = None
        self._settling: asyncio.Event | None = None
        self._stop: Callable[[], object] | None = None

    @property
    def last_seq(self) -> int:
        """The highest number given to an event so far."""
        return len(self.feed.events)

    @property
    def volatile(self) -> bool:
        """Whether the log refused for too long, so that the rest is only shown."""
        return self.feed.volatile_after is not None

    # Generation

    @property
    def generating(self) -> bool:
        """Whether a generation is under way that nobody has stopped yet."""
        return self._stop is not None

    def stopped_by(self, stop: Callable[[], object] | None) -> None:
        """Say how to stop the generation that is under way; `None` when it is over."""
        self._stop = stop
        if stop is not None:
            self.feed.unread_since = asyncio.get_running_loop().time()

    def cancel(self) -> None:
        """Stop the generation: at once if it is under way, else as soon as it begins."""
        self.cancelled = True
        self.interrupt()

    def forget(self) -> None:
        """Stop the generation of a run whose session was deleted; nothing of it can be stored."""
        self.forgotten = True
        self.cancel()

    def interrupt(self) -> None:
        """Stop the generation without marking the run as cancelled (the process is going down)."""
        # A second time would cut off its closing of the upstream.
        stop, self._stop = self._stop, None
        if stop is not None:
            stop()

    # Events

    def emit(self, events: Sequence[bytes]) -> None:
        """Number, log and post these events, in this order.

        Args:
            events: encoded events; the terminal one goes to `end` instead.
        """
        if self.lost or not events:
            return
        if self._pace is not None:
            self._unpaced.extend(events)
            self._unpaced_bytes += sum(map(len, events))
            self._flush_when_due(self._pace)
            return
        if len(events) == 1 and len(events[0]) <= SPILL_ABOVE_BYTES and self._spilling is None:
            self._append(events, events[0], None)  # nearly always
            return
        self._unnumbered.extend(events)
        self._advance()

    async def settle(self) -> None:
        """Wait until every emitted event is logged, or can be no more (`volatile`, `lost`).

        Bounded by `appender.VOLATILE_AFTER_S` and the time a blob store may take. Cancelling is safe.
        """
        self._settling = asyncio.Event()
        self._flush_if_paced()
        self._check_settled()
        await self._settling.wait()

    def end(self, events: Sequence[bytes], *, saved: bool) -> None:
        """Post the last events, the terminal one among them, that `finish` has stored (or could not).

        `settle` must have returned.
        """
        feed = self.feed
        if not saved and feed.volatile_after is None:
            feed.volatile_after = self.last_seq
        feed.events.extend(events)
        feed.advance(self.last_seq, complete=True)

    def terminal_entry(self, events: Sequence[bytes]) -> LogEntry:
        """Return the log entry for the last events, to be stored by `finish`; `settle` goes first.

        It takes the log's next slot, which for a volatile run is not the number the readers will see:
        such a log is never replayed.
        """
        logged = self.feed.volatile_after
        first = (self.last_seq if logged is None else logged) + 1
        return LogEntry(
            run_id=self.run.run_id,
            first=first,
            last=first + len(events) - 1,
            body=b"\n".join(events),
        )

    # Pacing

    def _flush_if_paced(self) -> None:
        if self._pace is not None:
            self._flush_when_due(self._pace)

    def _flush_when_due(self, pace: Pace) -> None:
        """Number what waits if its time has come and nothing is on its way to the log; else come back.

        An acknowledgement, the end of a spill and a timer come back here.
        """
        if self._flush_due is not None:
            self._flush_due.cancel()
            self._flush_due = None
        if not self._unpaced or self._is_writing():
            return
        loop = asyncio.get_running_loop()
        wait = 0.0
        if self._settling is None and not self.volatile:
            wait = pace.wait(
                now=loop.time(),
                waiting_bytes=self._unpaced_bytes,
                is_read=bool(self.feed.readers),
            )
        if wait > 0:
            self._flush_due = loop.call_later(wait, self._flush_when_due, pace)
            return
        events, self._unpaced, self._unpaced_bytes = merged(self._unpaced), [], 0
        if any(event.startswith(CONTENT_DELTA_HEAD) for event in events):
            pace.flushed(now=loop.time())
        self._unnumbered.extend(events)
        self._advance()

    def _is_writing(self) -> bool:
        """Whether something is on its way to the log or the blob store, or is refused by the log."""
        return self._spilling is not None or not self._appender.is_done

    # Numbering

    def _advance(self) -> None:
        waiting = self._unnumbered
        while waiting and self._spilling is None:
            if len(waiting[0]) > SPILL_ABOVE_BYTES:
                self._spilling = asyncio.create_task(self._spill(waiting.popleft()))
                return
            small: list[bytes] = []
            while waiting and len(waiting[0]) <= SPILL_ABOVE_BYTES:
                small.append(waiting.popleft())
            for group in entries(small):
                self._append(group, b"\n".join(group), None)
        self._check_settled()

    async def _spill(self, event: bytes) -> None:
        seq = self.last_seq + 1
        frame = events_frame(self.run.run_id, seq, [event])
        try:
            ref = await self.feed.spill.keep(
                self.owner, f"{self.run.run_id}.{seq}", frame, expires_at=self._spill_until
            )
        except StorageError as error:  # then it goes in pieces
            log.warning(
                "an event cannot be spilled",
                extra={"run_id": self.run.run_id, "cause": str(error)},
            )
            for piece in entries(split_text_event(event)):
                self._append(piece, b"\n".join(piece), None)
        else:
            self._append([ref], b"", ref)
        finally:
            self._spilling = None
        self._advance()
        self._flush_if_paced()

    def _append(self, events: Sequence[LoggedEvent], body: bytes, blob: BlobRef | None) -> None:
        if self.lost:
            return
        first = self.last_seq + 1
        self.feed.events.extend(events)
        if self.volatile:
            self.feed.advance(self.last_seq)
            return
        self._appender.append(
            LogEntry(run_id=self.run.run_id, first=first, last=self.last_seq, body=body, blob=blob)
        )

    # Logging

    def _kept(self, last: int) -> None:
        self.feed.advance(last)
        self._flush_if_paced()
        self._check_settled()

    def _turn_volatile(self) -> None:
        self.feed.volatile_after = self.feed.kept
        self.feed.advance(self.last_seq)
        self._flush_if_paced()
        self._check_settled()

    def lose(self) -> None:
        """Somebody else ended this run: close upstream, post nothing more."""
        self.lost = True
        del self.feed.events[self.feed.kept :]
        self._appender.stop()
        self._unnumbered.clear()
        self._unpaced.clear()
        self._check_settled()
        self.interrupt()

    def _is_settled(self) -> bool:
        # what has no number yet waits for a spill, or for its time
        return self._appender.is_done and self._spilling is None and not self._unpaced

    def _check_settled(self) -> None:
        if self._settling is not None and self._is_settled():
            self._settling.set()

"""The deadlines of one reply, watched by a single timer."""

import asyncio
from types import TracebackType

from streaming.models.chat_model import Deadlines
from streaming.models.errors import ModelTimeoutError, TimeoutPhase

__all__ = ["DeadlineWatch"]


class DeadlineWatch:
    """Starts when made, ends with `stop`, which must be called.

    Every wait for the provider goes inside ``with watch:``. When a deadline passes there, the wait is
    cancelled (as `asyncio.timeout` does it: a cancellation from elsewhere stays one) and the block
    raises `ModelTimeoutError`. Code outside the block, the consumer of the reply above all, is never
    interrupted; a deadline that passes then raises at the next block.

    All blocks of one watch must run in the same task: it is asked for once, because that includes a
    system call before Python 3.12. A chunk costs no timer either. The one timer is armed for the
    earliest moment a deadline can pass; when it fires too early, because events came meanwhile, it
    is armed again for the new moment.

    Attributes:
        answering: Whether the first part has come.
    """

    __slots__ = (
        "_between",
        "_cancelling",
        "_expired",
        "_first_due",
        "_loop",
        "_progress",
        "_since",
        "_task",
        "_timer",
        "_total_due",
        "_waiting",
        "answering",
    )

    def __init__(self, deadlines: Deadlines) -> None:
        self._loop = asyncio.get_running_loop()
        now = self._loop.time()
        self._between = deadlines.between_chunks
        self._first_due = now + deadlines.first_token
        self._total_due = now + deadlines.total
        self._since = now
        self._progress = False
        self._waiting = False
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._expired: TimeoutPhase | None = None
        self.answering = False
        self._timer = self._arm(now)

    @property
    def first_token_left(self) -> float:
        """Seconds until the first part is due; 0 once it has come."""
        return 0.0 if self.answering else self._first_due - self._loop.time()

    def event_came(self) -> None:
        """Say that the provider sent an event: the next wait starts afresh."""
        self._progress = True

    def answer_came(self) -> None:
        """Say that the first part came: from now on the gap between events counts."""
        self.answering = True
        self._progress = True
        now = self._loop.time()
        if self._next_due(now)[0] < self._timer.when():
            self._timer.cancel()
            self._timer = self._arm(now)

    def stop(self) -> None:
        """End the watch; no deadline passes any more. Safe to call twice."""
        self._timer.cancel()

    def __enter__(self) -> None:
        if self._expired is not None:
            raise ModelTimeoutError(self._expired)
        task = self._task
        if task is None:
            task = self._task = asyncio.current_task()
            assert task is not None
        self._cancelling = task.cancelling()
        self._waiting = True
        if self._progress:
            self._since = self._loop.time()
            self._progress = False

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._waiting = False
        if self._expired is None:
            return
        assert self._task is not None
        if self._task.uncancel() > self._cancelling:
            return
        raise ModelTimeoutError(self._expired) from None

    def _arm(self, now: float) -> asyncio.TimerHandle:
        return self._loop.call_at(self._next_due(now)[0], self._check)

    def _next_due(self, now: float) -> tuple[float, TimeoutPhase]:
        total: tuple[float, TimeoutPhase] = (self._total_due, "total")
        if not self.answering:
            return min((self._first_due, "first_token"), total)
        since = self._since if self._waiting else now
        return min((since + self._between, "between_chunks"), total)

    def _check(self) -> None:
        now = self._loop.time()
        due, phase = self._next_due(now)
        if due > now:
            self._timer = self._loop.call_at(due, self._check)
            return
        self._expired = phase
        if self._waiting:
            assert self._task is not None
            self._task.cancel()

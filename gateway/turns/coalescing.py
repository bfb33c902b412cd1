"""How long an answer waits before it reads on, so that a hundred at once do not slow each other down."""

import asyncio
import math
from types import TracebackType
from typing import Final

READS_PER_S: Final = 1_250
"""How often a process reads from providers, from ten answers on and up to 112 at once."""

SHORTEST_S: Final = 0.008
"""So short a wait is not worth its timer: up to ten answers are read whenever something comes."""

LONGEST_S: Final = 0.09
"""However many they are, each answer moves ten times a second."""

TICK_S: Final = 0.01
"""Waits end together, each at the tick that is nearest: what is read at one moment is logged by one write."""


class Coalescing:
    """Counts the answers that stream in this process and shares its reads among them.

    A read wakes a task and costs an entry in the log and a frame to each reader: together more than the
    parsing of what was read. When many answers stream, each waits a moment between two reads and finds
    what came meanwhile as one piece. So load makes pieces longer instead of late, as network drivers
    coalesce interrupts (J. C. Mogul and K. K. Ramakrishnan, "Eliminating Receive Livelock in an
    Interrupt-Driven Kernel", ACM TOCS 15(3), 1997).

    A context manager that may be entered many times at once: an answer streams inside it. All on one loop.
    """

    __slots__ = ("_answers", "_ticks")

    def __init__(self) -> None:
        self._answers = 0
        self._ticks: dict[int, asyncio.Event] = {}

    @property
    def gap_s(self) -> float:
        """Seconds that an answer waits after a piece of text, on average; 0.0 for not at all."""
        gap = self._answers / READS_PER_S
        return 0.0 if gap <= SHORTEST_S else min(gap, LONGEST_S)

    async def wait(self) -> None:
        """Wait until it is time to read on; returns at once while few answers stream."""
        gap = self.gap_s
        if not gap:
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        number = max(round((now + gap) / TICK_S), math.ceil(now / TICK_S))
        tick = self._ticks.get(number)
        if tick is None:
            tick = self._ticks[number] = asyncio.Event()
            loop.call_at(number * TICK_S, self._end, number)
        await tick.wait()

    def _end(self, number: int) -> None:
        self._ticks.pop(number).set()

    def __enter__(self) -> None:
        self._answers += 1

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._answers -= 1

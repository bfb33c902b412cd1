"""How long an answer waits before it reads on, so that a hundred at once do not slow each other down."""

from types import TracebackType
from typing import Final

READS_PER_S: Final = 2_000
"""How often a process reads from providers, all its answers together, once these are many."""

SHORTEST_S: Final = 0.005
"""A shorter wait is not worth its timer: up to ten answers are read whenever something comes."""

LONGEST_S: Final = 0.1
"""However many they are, each answer moves ten times a second."""


class Coalescing:
    """Counts the answers that stream in this process and shares its reads among them.

    A read wakes a task and costs an entry in the log and a frame to each reader: together more than the
    parsing of what was read. When many answers stream, each waits a moment between two reads and finds
    what came meanwhile as one piece. So load makes pieces longer instead of late, as network drivers
    coalesce interrupts (J. C. Mogul and K. K. Ramakrishnan, "Eliminating Receive Livelock in an
    Interrupt-Driven Kernel", ACM TOCS 15(3), 1997).

    A context manager that may be entered many times at once: an answer streams inside it.
    """

    __slots__ = ("_answers",)

    def __init__(self) -> None:
        self._answers = 0

    @property
    def gap_s(self) -> float:
        """Seconds that an answer waits after a piece of text; 0.0 for not at all."""
        gap = self._answers / READS_PER_S
        return 0.0 if gap < SHORTEST_S else min(gap, LONGEST_S)

    def __enter__(self) -> None:
        self._answers += 1

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._answers -= 1

"""When events may leave, where every write and every post costs. Pure."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class PaceRules:
    """How often a run's events are logged and posted.

    Attributes:
        every_s: least time between two flushes while somebody reads.
        unread_s: the same while nobody does.
        at_bytes: so many waiting bytes leave at once.
    """

    every_s: float = 0.1
    unread_s: float = 1.0
    at_bytes: int = 4096


class Pace:
    """The rhythm of one run: its first text leaves at once, then what has come goes in flushes.

    A timer never delays a first word; afterwards a tenth of a second is what nobody sees and what
    turns a hundred posts a second into ten.

    Args:
        rules: the figures.
    """

    __slots__ = ("_flushed_at", "_rules")

    def __init__(self, rules: PaceRules) -> None:
        self._rules = rules
        self._flushed_at: float | None = None

    def wait(self, *, now: float, waiting_bytes: int, is_read: bool) -> float:
        """Return in how many seconds what waits may leave; 0 or less: now.

        Args:
            now: seconds of a clock that never goes back.
            waiting_bytes: size of the events that wait.
            is_read: whether a connection reads the run.
        """
        if self._flushed_at is None or waiting_bytes >= self._rules.at_bytes:
            return 0.0
        gap = self._rules.every_s if is_read else self._rules.unread_s
        return self._flushed_at + gap - now

    def flushed(self, *, now: float) -> None:
        """Say that text has just left: from now on the rhythm holds."""
        self._flushed_at = now


PER_WRITE: Final = PaceRules()
"""Where an entry of the log is a write of its own and a frame a post of its own: on AWS."""

"""The log of one run that has not ended, in memory: what its next slot is, who may fill it, what it holds."""

from collections.abc import Sequence
from typing import Final

from storage.records import LogEntry, Owner
from storage.sqlite import log_format
from storage.sqlite.log_format import Record
from storage.sqlite.segments import Segment

_RECENT: Final = 64
"""Records from which on they are joined: small objects cost more memory than the text in them."""


class LiveLog:
    """Lives from a run's claim, or from the start that found it unfinished, to its end.

    It holds the run's records as the journal has them, so that a reader needs no file and the end of
    the run only joins them.

    Attributes:
        claimed_by: who alone may append; `None` while no generation has claimed the run.
        next: the number of the next event.
        ends: how many attempts to end it are on their way into the database; nobody may append then.
        segment, handle: where its latest record lies, and what it is called there.
    """

    __slots__ = (
        "_blocks", "_recent", "claimed_by", "ends", "handle", "next", "owner", "run_id", "segment",
    )  # fmt: skip

    def __init__(self, owner: Owner, run_id: str, claimed_by: str | None) -> None:
        self.owner = owner
        self.run_id = run_id
        self.claimed_by = claimed_by
        self.next = 1
        self.ends = 0
        self.segment: Segment | None = None
        self.handle = 0
        self._blocks: list[tuple[int, bytes]] = []
        self._recent: list[bytes] = []

    def add(self, record: bytes, last: int) -> None:
        """Take one more record, which `drop` may still take back."""
        self._recent.append(record)
        self.next = last + 1

    def drop(self, first: int) -> None:
        """Take back the latest record: it could not be written."""
        self._recent.pop()
        self.next = first

    def settle(self) -> None:
        """Join small records, once none of them may be dropped any more."""
        if len(self._recent) >= _RECENT:
            self._blocks.append((self.next - 1, b"".join(self._recent)))
            self._recent.clear()

    def restore(self, record: Record) -> None:
        """Take a record that the journal gave back."""
        self.add(record.again(), record.last)
        self.settle()

    def body(self) -> bytes:
        """Return all records, in the form of an ended run's row."""
        return b"".join((*(block for _, block in self._blocks), *self._recent))

    def entries(self, *, after: int) -> Sequence[LogEntry]:
        """Return the entries that hold events numbered above `after`."""
        blocks = [block for last, block in self._blocks if last > after]
        return log_format.entries(self.run_id, b"".join((*blocks, *self._recent)), after=after)

    def holds(self, first: int, last: int) -> bool:
        """Whether exactly this slot was filled already."""
        return any(e.first == first and e.last == last for e in self.entries(after=first - 1))

"""What this process writes into the logs of runs: one put in flight per run, in order.

The slot alone keeps a log safe: whoever comes second finds it taken, and stops. What is known here besides
is who claimed a run in this process and which slot is next; it spares a read per entry, and makes a run
that was ended, taken over or forgotten in this process refuse at once. A claim that another process has
taken over learns it from its next beat, or from the first slot it finds taken.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import Final

from storage import ttl
from storage.dynamodb.client import ConditionFailedError, Item
from storage.dynamodb.expressions import text
from storage.dynamodb.items import entry_item, is_claimed, last_of
from storage.dynamodb.keys import LOG, OwnerKeys
from storage.dynamodb.table import DataTable
from storage.errors import (
    LogSlotTakenError,
    NotRunOwnerError,
    StorageError,
    StorageUnavailableError,
)
from storage.records import LogEntry, Owner
from storage.repositories import Acknowledge

_MOST_KNOWN: Final = 1024
"""Runs that are remembered; what is known of an older one is read again when it is needed."""

_Append = tuple[LogEntry, str, Acknowledge]


class LogWriters:
    """Of all runs that this process writes. Lives as long as the store; close it with `aclose`.

    Args:
        table: holds the entries.
        clock: Unix time in seconds.
    """

    def __init__(self, table: DataTable, clock: Callable[[], float]) -> None:
        self._table = table
        self._clock = clock
        self._writers: OrderedDict[tuple[Owner, str], LogWriter] = OrderedDict()

    def of(self, owner: Owner, run_id: str) -> "LogWriter":
        """Return the writer of a run."""
        writer = self._writers.get((owner, run_id))
        if writer is None:
            writer = LogWriter(OwnerKeys(owner), run_id, self._table, self._clock)
            self._writers[owner, run_id] = writer
            self._forget_oldest()
        return writer

    async def stop(self, owner: Owner, run_ids: Iterable[str]) -> None:
        """Forget runs that were ended or deleted, once nothing of theirs is under way."""
        for run_id in run_ids:
            if (writer := self._writers.pop((owner, run_id), None)) is not None:
                writer.lose()
                await writer.settle()

    async def aclose(self) -> None:
        """Write out what is pending."""
        for writer in self._writers.values():
            await writer.settle()

    def _forget_oldest(self) -> None:
        while len(self._writers) > _MOST_KNOWN:
            idle = next((key for key, each in self._writers.items() if each.idle), None)
            if idle is None:
                return
            del self._writers[idle]


class LogWriter:
    """Puts the entries of one run into their slots.

    Attributes:
        next: the number of the next event, `None` while it is not known here.
        unsure: whether a put ended without an answer: its slot may hold an entry of ours that nobody was
            shown.
    """

    def __init__(
        self, keys: OwnerKeys, run_id: str, table: DataTable, clock: Callable[[], float]
    ) -> None:
        self.next: int | None = None
        self.unsure = False
        self._keys = keys
        self._run_id = run_id
        self._table = table
        self._clock = clock
        self._claimed_by: str | None = None
        self._waiting: deque[_Append] = deque()
        self._writing: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return self._writing is None

    def claimed(self, claimed_by: str, *, next_number: int | None) -> None:
        """Take it that this claim owns the run now, and the log is as far as that if it is known."""
        self._claimed_by, self.next, self.unsure = claimed_by, next_number, False

    def still_claimed(self, claimed_by: str) -> None:
        """Take it that this claim owns the run, and may have written already."""
        if claimed_by != self._claimed_by:
            self.claimed(claimed_by, next_number=None)

    def lose(self, claimed_by: str | None = None) -> None:
        """Take it that this claim (`None`: whichever it is) does not own the run any more."""
        if claimed_by in (None, self._claimed_by):
            self._claimed_by = None

    def append(self, append: _Append) -> None:
        """Put an entry after those that wait, in a task."""
        self._waiting.append(append)
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())

    async def settle(self) -> None:
        """Wait until every entry that was appended is acknowledged or refused."""
        while self._writing is not None:
            await asyncio.wait([self._writing])

    async def next_number(self, claimed_by: str) -> int:
        """Return the number of the next event for that claim, read unless it is known."""
        if claimed_by == self._claimed_by and self.next is not None:
            return self.next
        return await self._read_next()

    async def _write(self) -> None:
        try:
            while self._waiting:
                entry, claimed_by, acknowledge = self._waiting.popleft()
                self._acknowledge(acknowledge, await self._kept(entry, claimed_by))
        finally:
            self._writing = None

    def _acknowledge(self, acknowledge: Acknowledge, error: StorageError | None) -> None:
        try:
            acknowledge(error)
        except Exception as exc:  # noqa: BLE001 - one bad callback must not silence the others
            asyncio.get_running_loop().call_exception_handler(
                {"message": "acknowledge failed", "exception": exc}
            )

    async def _kept(self, entry: LogEntry, claimed_by: str) -> StorageError | None:
        try:
            await self._keep(entry, claimed_by)
        except StorageError as refusal:
            return refusal
        except Exception as exc:  # noqa: BLE001 - whatever it is, nobody may wait for ever
            error = StorageUnavailableError("an entry cannot be written")
            error.__cause__ = exc
            return error
        return None

    async def _keep(self, entry: LogEntry, claimed_by: str) -> None:
        if claimed_by != self._claimed_by:
            await self._check_claim(claimed_by)
        if self.next is None:
            self.next = await self._read_next()
        if entry.first > self.next:
            raise StorageUnavailableError("an earlier entry was not kept")
        if entry.first < self.next:
            slot = await self._table.get(self._keys.slot(self._run_id, entry.first))
        else:
            slot = await self._put(entry, claimed_by)
        if slot is not None and not _is_ours(slot, entry, claimed_by):
            raise LogSlotTakenError("the slot is taken")
        if slot is None and entry.first < self.next:
            raise LogSlotTakenError("the slot is inside another one")
        self.next = max(self.next, entry.last + 1)

    async def _put(self, entry: LogEntry, claimed_by: str) -> Item | None:
        """Create the slot; return what lies there instead, if something does."""
        key = self._keys.slot(self._run_id, entry.first)
        item = entry_item(key, entry, claimed_by=claimed_by, ttl=log_expiry(self._clock()))
        try:
            await self._table.put(item, "attribute_not_exists(#pk)")
        except ConditionFailedError as failed:
            self.unsure = False
            if failed.item is None:
                raise LogSlotTakenError("the slot is taken") from failed
            return failed.item
        except StorageUnavailableError:
            self.unsure = True
            raise
        self.unsure = False
        return None

    async def _check_claim(self, claimed_by: str) -> None:
        """Read whether a claim that is not known here owns the run."""
        head = await self._table.get(self._keys.head(self._run_id))
        if not is_claimed(head, claimed_by):
            raise NotRunOwnerError("the run is not ours, or has ended")
        self.claimed(claimed_by, next_number=None)

    async def _read_next(self) -> int:
        newest = self._table.query(
            "#pk = :pk AND begins_with(#sk, :prefix)",
            {":pk": text(self._keys.run_partition(self._run_id)), ":prefix": text(LOG)},
            descending=True,
            limit=1,
        )
        item = await anext(newest, None)
        await newest.aclose()
        return 1 if item is None else last_of(item) + 1


def log_expiry(now: float) -> float:
    """Return until when an entry that is written now may be read at least, Unix time in seconds.

    A run of hours must be whole for as long as its `log_until` says, which counts from its end.
    """
    return now + ttl.LOG + ttl.DAY


def _is_ours(slot: Item, entry: LogEntry, claimed_by: str) -> bool:
    """Whether it is the same entry of the same claim: a repeat whose answer was lost."""
    return slot["claimed_by"]["S"] == claimed_by and last_of(slot) == entry.last

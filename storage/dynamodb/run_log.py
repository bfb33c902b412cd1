"""One owner's logs, in DynamoDB: an item per entry, under the number of its first event."""

from collections.abc import Sequence

from storage.dynamodb.expressions import text
from storage.dynamodb.items import entry_of
from storage.dynamodb.keys import LOG, OwnerKeys, slot_name
from storage.dynamodb.log_writers import LogWriters
from storage.dynamodb.table import DataTable
from storage.records import LogEntry, Owner
from storage.repositories import Acknowledge


class DynamoRunLog:
    """`RunLog` of one owner; cheap to make.

    Args:
        owner: of the runs.
        table: holds the entries.
        writers: of the whole store.
    """

    __slots__ = ("_keys", "_owner", "_table", "_writers")

    def __init__(self, owner: Owner, table: DataTable, writers: LogWriters) -> None:
        self._owner = owner
        self._keys = OwnerKeys(owner)
        self._table = table
        self._writers = writers

    def append(self, entry: LogEntry, *, claimed_by: str, acknowledge: Acknowledge) -> None:
        """Create the next slot; see `RunLog.append`."""
        self._writers.of(self._owner, entry.run_id).append((entry, claimed_by, acknowledge))

    async def read(self, run_id: str, *, after: int) -> Sequence[LogEntry]:
        """Return the entries with events above `after`; see `RunLog.read`."""
        start = await self._slot_of(run_id, after + 1) if after > 0 else slot_name(0)
        found = self._table.query(
            "#pk = :pk AND #sk BETWEEN :start AND :end",
            {
                ":pk": text(self._keys.run_partition(run_id)),
                ":start": text(start),
                ":end": text(f"{LOG}:"),
            },
        )
        entries = [entry_of(run_id, item) async for item in found]
        return tuple(entry for entry in entries if entry.last > after)

    async def _slot_of(self, run_id: str, number: int) -> str:
        """Return the sort key of the entry in which that event is, or would be."""
        found = self._table.query(
            "#pk = :pk AND #sk BETWEEN :start AND :end",
            {
                ":pk": text(self._keys.run_partition(run_id)),
                ":start": text(slot_name(0)),
                ":end": text(slot_name(number)),
            },
            descending=True,
            limit=1,
            only="#sk",
        )
        item = await anext(found, None)
        await found.aclose()
        return slot_name(number) if item is None else str(item["sk"]["S"])

"""The connections that follow whole conversations of one owner, in DynamoDB.

They lie beside their conversation and not in its item, which every accept and finish changes.
"""

from contextlib import aclosing

from storage.dynamodb.expressions import text
from storage.dynamodb.items import expiry, reader_of, reader_value
from storage.dynamodb.keys import OwnerKeys
from storage.dynamodb.table import DataTable
from storage.dynamodb.tables import TTL
from storage.records import MAX_READERS, Owner, RunReader


class DynamoSubscribers:
    """`Subscribers` of one owner; cheap to make.

    Args:
        owner: of every item that is read or written.
        table: holds them.
    """

    __slots__ = ("_keys", "_table")

    def __init__(self, owner: Owner, table: DataTable) -> None:
        self._keys = OwnerKeys(owner)
        self._table = table

    async def add(self, session_id: str, reader: RunReader, *, expires_at: float) -> None:
        """Store a subscriber; see `Subscribers.add`."""
        key = self._keys.subscriber(session_id, reader.connection_id)
        await self._table.put(
            {
                **key,
                "connection_id": text(reader.connection_id),
                "reader": reader_value(reader),
                TTL: expiry(expires_at),
            }
        )

    async def remove(self, session_id: str, connection_id: str) -> None:
        """Forget a subscriber; harmless when it is none."""
        await self._table.delete(self._keys.subscriber(session_id, connection_id))

    async def of(self, session_id: str, *, now: float) -> tuple[RunReader, ...]:
        """Return the newest subscribers; see `Subscribers.of`."""
        found = self._table.query(
            "#pk = :pk", {":pk": text(self._keys.subscribers_partition(session_id))}
        )
        async with aclosing(found):
            readers = [
                reader_of(item["connection_id"]["S"], item["reader"]["S"])
                async for item in found
                if float(item[TTL]["N"]) > now  # DynamoDB deletes late
            ]
        return tuple(sorted(readers, key=lambda reader: reader.nonce)[-MAX_READERS:])

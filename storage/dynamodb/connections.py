"""The open connections, in the table at the door."""

import math
from collections.abc import Callable

from storage.dynamodb.client import DynamoClient, Item
from storage.dynamodb.expressions import number, text
from storage.dynamodb.keys import Key, key
from storage.dynamodb.table import DataTable
from storage.dynamodb.tables import TTL
from storage.records import Connection, Owner


class DynamoConnections:
    """`Connections` of the shared backend.

    Args:
        client: stays open for as long as this is used.
        table: the name of the table at the door.
        clock: Unix time in seconds; decides what has expired, since TTL deletes late.
    """

    __slots__ = ("_clock", "_table")

    def __init__(self, client: DynamoClient, table: str, *, clock: Callable[[], float]) -> None:
        self._table = DataTable(client, table)
        self._clock = clock

    async def save(self, connection: Connection) -> None:
        """Store a connection as it is now."""
        await self._table.put(_item(connection))

    async def get(self, connection_id: str) -> Connection | None:
        """Return the connection, or `None` once it is closed or expired."""
        item = await self._table.get(_key(connection_id))
        connection = _connection(item) if item is not None else None
        return connection if connection and connection.expires_at > self._clock() else None

    async def remove(self, connection_id: str) -> None:
        """Forget a closed connection; harmless when repeated."""
        await self._table.delete(_key(connection_id))


def _key(connection_id: str) -> Key:
    return key(f"CONNECTION#{connection_id}", "CONNECTION")


def _item(connection: Connection) -> Item:
    item: Item = {
        **_key(connection.connection_id),
        "connection_id": text(connection.connection_id),
        "issuer": text(connection.issuer),
        "auth_expires_at": number(connection.auth_expires_at),
        "opened_at": number(connection.opened_at),
        "expires_at": number(connection.expires_at),
        TTL: number(math.ceil(connection.expires_at)),
    }
    if connection.owner is not None:
        item |= {
            "tenant_id": text(connection.owner.tenant_id),
            "user_id": text(connection.owner.user_id),
        }
    return item


def _connection(item: Item) -> Connection:
    known = "tenant_id" in item
    return Connection(
        connection_id=item["connection_id"]["S"],
        owner=Owner(tenant_id=item["tenant_id"]["S"], user_id=item["user_id"]["S"])
        if known
        else None,
        issuer=item["issuer"]["S"],
        auth_expires_at=float(item["auth_expires_at"]["N"]),
        opened_at=float(item["opened_at"]["N"]),
        expires_at=float(item["expires_at"]["N"]),
    )

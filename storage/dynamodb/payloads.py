"""One owner's blobs, in DynamoDB: the items that say which bodies lie where and until when."""

import secrets
from collections.abc import Callable

from storage.dynamodb.client import ConditionFailedError
from storage.dynamodb.items import payload_item, payload_of
from storage.dynamodb.keys import OwnerKeys
from storage.dynamodb.table import DataTable
from storage.errors import StorageError
from storage.records import Owner, Payload


class DynamoPayloads:
    """`Payloads` of one owner; cheap to make.

    Args:
        owner: of every item that is read or written.
        table: holds them.
        clock: Unix time in seconds; decides what has expired but is not deleted yet.
    """

    __slots__ = ("_clock", "_keys", "_table")

    def __init__(self, owner: Owner, table: DataTable, clock: Callable[[], float]) -> None:
        self._keys = OwnerKeys(owner)
        self._table = table
        self._clock = clock

    async def reserve(self, payload: Payload) -> None:
        """Store the row, before its blob is written or its upload is signed."""
        attempt = secrets.token_hex(6)
        item = payload_item(self._keys.payload(payload.payload_id), payload, attempt=attempt)
        try:
            await self._table.put(item, "attribute_not_exists(#pk)")
        except ConditionFailedError as failed:
            if failed.item is None or failed.item["attempt"]["S"] != attempt:
                raise StorageError("a payload with that id exists already") from failed

    async def get(self, payload_id: str) -> Payload | None:
        """Return the row, or `None` if there is none or it has expired."""
        item = await self._table.get(self._keys.payload(payload_id))
        payload = payload_of(item) if item else None
        return payload if payload and payload.expires_at > self._clock() else None

"""Deleting a conversation with all that was said in it, in DynamoDB: many items, no transaction holds them.

It is marked first: from then on nobody sees it, nothing is accepted into it and no run of it can be finished.
Each item goes after those that are found through it, and the conversation's own last: a deletion that was cut
half-way is ended by a repeat.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from storage.blobs.blob_store import BlobStore
from storage.dynamodb.client import ConditionFailedError, Item
from storage.dynamodb.contents import Contents
from storage.dynamodb.expressions import text
from storage.dynamodb.items import forgotten_item
from storage.dynamodb.keys import SESSION, OwnerKeys, key_of
from storage.dynamodb.log_writers import LogWriters
from storage.dynamodb.table import DataTable
from storage.dynamodb.tables import SESSIONS_OF, SORT_KEY
from storage.records import Owner
from storage.ttl import FORGOTTEN

_AT_ONCE: Final = 8
"""Runs that are deleted side by side."""

_ITEMS: Final = 100
"""Messages that are read, and deleted, in one go."""


class Forgetting:
    """Deletes conversations of one owner; cheap to make.

    Args:
        owner: whose conversations.
        table: holds them.
        contents: of the owner's messages.
        blobs: holds what runs have spilled.
        writers: of the whole store: they learn which runs are gone. A run that another process generates
            learns it from its next beat; an entry that it wrote meanwhile goes by its TTL.
    """

    __slots__ = ("_blobs", "_contents", "_keys", "_owner", "_table", "_writers")

    def __init__(
        self,
        owner: Owner,
        table: DataTable,
        contents: Contents,
        blobs: BlobStore,
        writers: LogWriters,
    ) -> None:
        self._owner = owner
        self._keys = OwnerKeys(owner)
        self._table = table
        self._contents = contents
        self._blobs = blobs
        self._writers = writers

    async def forget(self, session_id: str, *, now: float) -> bool:
        """Delete the conversation; see `Sessions.forget`."""
        if not await self._mark(session_id):
            return False
        while items := await self._some_of(session_id):
            await self._forget_runs({item["run_id"]["S"] for item in items}, now)
            messages = [item for item in items if "message_id" in item]
            for message in messages:
                await self._contents.drop(message)
            places = [self._keys.place(message["message_id"]["S"]) for message in messages]
            await self._table.delete_all(places)
            await self._table.delete_all([key_of(item) for item in items])
        await self._table.delete(self._keys.session(session_id))
        return True

    async def _mark(self, session_id: str) -> bool:
        try:
            await self._table.update(
                self._keys.session(session_id),
                f"SET #forgotten = :true REMOVE #{SESSIONS_OF}",
                "attribute_exists(#pk)",
                {":true": {"BOOL": True}},
            )
        except ConditionFailedError:
            return False
        return True

    async def _some_of(self, session_id: str) -> Sequence[Item]:
        """Return some items of the conversation that still exist, but for its own."""
        found = self._table.query(
            "#pk = :pk",
            {":pk": text(self._keys.session_partition(session_id))},
            only="#pk, #sk, #run_id, #message_id, #blob",
            limit=_ITEMS,
        )
        items: list[Item] = []
        try:
            async for item in found:
                if item[SORT_KEY]["S"] != SESSION:
                    items.append(item)
                if len(items) == _ITEMS:
                    break
        finally:
            await found.aclose()
        return items

    async def _forget_runs(self, run_ids: Iterable[str], now: float) -> None:
        free = asyncio.Semaphore(_AT_ONCE)

        async def forget(run_id: str) -> None:
            async with free:
                await self._forget_run(run_id, now)

        outcomes = await asyncio.gather(*map(forget, run_ids), return_exceptions=True)
        for failure in filter(None, outcomes):
            raise failure

    async def _forget_run(self, run_id: str, now: float) -> None:
        """Make HEAD a tombstone, which stops its generation; delete the log and what that has spilled."""
        head = self._keys.head(run_id)
        await self._table.put(forgotten_item(head, until=now + FORGOTTEN))
        await self._writers.stop(self._owner, [run_id])
        found = self._table.query(
            "#pk = :pk",
            {":pk": text(self._keys.run_partition(run_id))},
            only="#pk, #sk, #blob",
        )
        items = [item async for item in found if key_of(item) != head]
        for item in items:
            if "blob" in item:
                await self._blobs.delete(item["blob"]["M"]["key"]["S"])
        await self._table.delete_all([key_of(item) for item in items])

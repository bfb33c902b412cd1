"""One owner's stored facts, in DynamoDB. Their ids sort by creation."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final

from storage import cursors
from storage.dynamodb.client import Item
from storage.dynamodb.expressions import text
from storage.dynamodb.items import memory_of
from storage.dynamodb.keys import MEMORIES, Key, OwnerKeys
from storage.dynamodb.paging import page_of
from storage.dynamodb.table import DataTable
from storage.paging import OpenPage
from storage.records import Memory, Owner, Page, Room

_AT_ONCE: Final = 100
_MOST: Final = 1000
"""Memories that `newest` looks at, however short they are."""


class DynamoMemories:
    """`Memories` of one owner; cheap to make."""

    __slots__ = ("_keys", "_scope", "_table")

    def __init__(self, owner: Owner, table: DataTable) -> None:
        self._scope = ("memories", owner.tenant_id, owner.user_id)
        self._keys = OwnerKeys(owner)
        self._table = table

    async def page(
        self, *, before: str | None, limit: int, room: Room[Memory] | None = None
    ) -> Page[Memory]:
        """Return one page; see `Memories.page`."""
        start = None
        if before is not None:
            _, memory_id = cursors.decode(before, (float, str), *self._scope)
            start = self._keys.memory(memory_id)
        found = self._newest(start, at_once=limit + 1)
        page = OpenPage(limit, room, *self._scope)
        return await page_of(found, page, memory_of, lambda each: (each.created_at, each.memory_id))

    async def newest(self, *, max_bytes: int) -> Sequence[Memory]:
        """Return the newest that fit; see `Memories.newest`."""
        fitting: list[Memory] = []
        async with aclosing(self._newest(None, at_once=_AT_ONCE)) as found:
            async for item in found:
                memory = memory_of(item)
                max_bytes -= len(memory.value.encode())
                if max_bytes < 0 or len(fitting) == _MOST:
                    break
                fitting.append(memory)
        return tuple(reversed(fitting))

    async def forget(self, memory_id: str) -> bool:
        """Delete one. False if there is none.

        It is looked for first: a deletion whose answer was lost is repeated and finds none.
        """
        key = self._keys.memory(memory_id)
        found = await self._table.get(key)
        if found is None:
            return False
        await self._table.delete(key)
        return True

    def _newest(self, start: Key | None, *, at_once: int) -> AsyncGenerator[Item, None]:
        return self._table.query(
            "#pk = :pk AND begins_with(#sk, :prefix)",
            {":pk": text(self._keys.memory_partition()), ":prefix": text(MEMORIES)},
            descending=True,
            start=start,
            limit=at_once,
        )

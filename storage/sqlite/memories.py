"""One owner's stored facts, in SQLite."""

import sqlite3
from collections.abc import Iterable, Sequence

from storage import cursors
from storage.paging import OpenPage
from storage.records import Memory, Owner, Page, Room
from storage.sqlite.paging import page_of
from storage.sqlite.rows import Key, key_of, memory_of
from storage.sqlite.threads import Reader, Writer

_PAGE = """
    SELECT * FROM memories
    WHERE tenant_id = ? AND user_id = ? AND (created_at, memory_id) < (?, ?)
    ORDER BY created_at DESC, memory_id DESC LIMIT ?
"""

_NEWEST = (float("inf"), "")

_MOST = 1000
"""Memories that `newest` looks at, however short they are."""


class SqliteMemories:
    """`Memories` of one owner; cheap to make."""

    __slots__ = ("_key", "_reader", "_writer")

    def __init__(self, owner: Owner, reader: Reader, writer: Writer) -> None:
        self._key = key_of(owner)
        self._reader = reader
        self._writer = writer

    async def page(
        self, *, before: str | None, limit: int, room: Room[Memory] | None = None
    ) -> Page[Memory]:
        """Return one page; see `Memories.page`."""
        scope = ("memories", *self._key)
        after = _NEWEST if before is None else cursors.decode(before, (float, str), *scope)
        values = (*self._key, *after, limit + 1)
        page = OpenPage(limit, room, *scope)
        return await self._reader.call(
            lambda connection: page_of(
                connection.execute(_PAGE, values), page, memory_of, ("created_at", "memory_id")
            )
        )

    async def newest(self, *, max_bytes: int) -> Sequence[Memory]:
        """Return the newest that fit; see `Memories.newest`."""
        return await self._reader.call(
            lambda connection: newest_memories(connection, self._key, max_bytes)
        )

    async def forget(self, memory_id: str) -> bool:
        """Delete one. False if there is none."""
        deleted = await self._writer.call(
            lambda connection: (
                connection.execute(
                    "DELETE FROM memories WHERE tenant_id = ? AND user_id = ? AND memory_id = ?",
                    (*self._key, memory_id),
                ).rowcount
            ),
            erases=True,
        )
        return deleted > 0


def add_memories(connection: sqlite3.Connection, key: Key, memories: Iterable[Memory]) -> None:
    """Store what a reply taught."""
    connection.executemany(
        "INSERT INTO memories (tenant_id, user_id, memory_id, value, created_at, session_id,"
        " message_id) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            (*key, each.memory_id, each.value, each.created_at, each.session_id, each.message_id)
            for each in memories
        ),
    )


def newest_memories(connection: sqlite3.Connection, key: Key, max_bytes: int) -> Sequence[Memory]:
    """Return the newest that fit; see `Memories.newest`."""
    newest: list[Memory] = []
    for row in connection.execute(_PAGE, (*key, *_NEWEST, _MOST)):
        memory = memory_of(row)
        max_bytes -= len(memory.value.encode())
        if max_bytes < 0:
            break
        newest.append(memory)
    return tuple(reversed(newest))

"""One owner's messages, in SQLite.

A message has a place `(turn, version)` in its session: the user's message is version 0 of its turn, the
replies to it 1, 2, .. Only the newest reply is `shown`. So history is one walk down an index.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter

from storage import cursors
from storage.paging import OpenPage
from storage.records import Message, Owner, Page, Room
from storage.sqlite.paging import page_of
from storage.sqlite.rows import Key, key_of, message_of
from storage.sqlite.threads import Reader

_GET = "SELECT * FROM messages WHERE tenant_id = ? AND user_id = ? AND message_id = ?"

_PAGE = """
    SELECT * FROM messages
    WHERE tenant_id = ? AND user_id = ? AND session_id = ? AND (turn, version) < (?, ?) AND shown
    ORDER BY turn DESC, version DESC LIMIT ?
"""

_INSERT = """
    INSERT INTO messages (
        tenant_id, user_id, message_id, session_id, turn, version, role, content, created_at, run_id,
        reply_to, emotion, category, end_reason
    ) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

_END = (2**53, 0)
"""A place after every message."""


class SqliteMessages:
    """`Messages` of one owner; cheap to make."""

    __slots__ = ("_key", "_reader")

    def __init__(self, owner: Owner, reader: Reader) -> None:
        self._key = key_of(owner)
        self._reader = reader

    async def get(self, message_id: str) -> Message | None:
        """Return the message, or `None`."""
        return await self._reader.call(
            lambda connection: get_message(connection, self._key, message_id)
        )

    async def page(
        self,
        session_id: str,
        *,
        before: str | None,
        limit: int,
        room: Room[Message] | None = None,
    ) -> Page[Message]:
        """Return one page; see `Messages.page`."""
        scope = ("messages", *self._key, session_id)
        after = _END if before is None else cursors.decode(before, (int, int), *scope)
        values = (*self._key, session_id, *after, limit + 1)
        page = OpenPage(limit, room, *scope)
        return await self._reader.call(
            lambda connection: page_of(
                connection.execute(_PAGE, values), page, message_of, ("turn", "version")
            )
        )

    async def turns_before(self, message_id: str, *, max_bytes: int) -> Sequence[Message]:
        """Return the turns before a user message; see `Messages.turns_before`."""
        return await self._reader.call(
            lambda connection: turns_before(connection, self._key, message_id, max_bytes)
        )


def add_question(
    connection: sqlite3.Connection, key: Key, message: Message, *, is_first: bool
) -> None:
    """Store a user's message at the end of its session."""
    turn = 1
    if not is_first:
        (turn,) = connection.execute(
            "SELECT COALESCE(MAX(turn), 0) + 1 FROM messages"
            " WHERE tenant_id = ? AND user_id = ? AND session_id = ?",
            (*key, message.session_id),
        ).fetchone()
    _insert(connection, key, message, turn, 0)


def add_reply(connection: sqlite3.Connection, key: Key, message_id: str, reply: Message) -> None:
    """Store a reply beside the user's message, in place of an older one in the history."""
    session_id, turn = connection.execute(
        "SELECT session_id, turn FROM messages"
        " WHERE tenant_id = ? AND user_id = ? AND message_id = ?",
        (*key, message_id),
    ).fetchone()
    place = (*key, session_id, turn)
    (version,) = connection.execute(
        "SELECT MAX(version) + 1 FROM messages"
        " WHERE tenant_id = ? AND user_id = ? AND session_id = ? AND turn = ?",
        place,
    ).fetchone()
    connection.execute(
        "UPDATE messages SET shown = 0"
        " WHERE tenant_id = ? AND user_id = ? AND session_id = ? AND turn = ? AND version > 0",
        place,
    )
    _insert(connection, key, reply, turn, version)


def get_message(connection: sqlite3.Connection, key: Key, message_id: str) -> Message | None:
    """Return the message, or `None`."""
    row = connection.execute(_GET, (*key, message_id)).fetchone()
    return message_of(row) if row else None


def is_question(connection: sqlite3.Connection, key: Key, session_id: str, message_id: str) -> bool:
    """Whether that is a user's message of that session."""
    message = get_message(connection, key, message_id)
    return message is not None and message.session_id == session_id and message.role == "user"


def _insert(
    connection: sqlite3.Connection, key: Key, message: Message, turn: int, version: int
) -> None:
    connection.execute(
        _INSERT,
        (
            *key,
            message.message_id,
            message.session_id,
            turn,
            version,
            message.role,
            message.content,
            message.created_at,
            message.run_id,
            message.reply_to,
            message.emotion,
            message.category,
            message.end,
        ),
    )


def turns_before(
    connection: sqlite3.Connection, key: Key, message_id: str, max_bytes: int
) -> Sequence[Message]:
    """Return the turns before a user message; see `Messages.turns_before`."""
    start = connection.execute(_GET, (*key, message_id)).fetchone()
    if start is None:
        return ()
    rows = connection.execute(_PAGE, (*key, start["session_id"], start["turn"], 0, -1))
    return tuple(reversed(list(_newest_turns(rows, max_bytes))))


def _newest_turns(rows: Iterator[sqlite3.Row], max_bytes: int) -> Iterator[Message]:
    """Yield the messages of whole turns, newest first, while they fit."""
    for _, turn in groupby(rows, key=itemgetter("turn")):
        messages = [message_of(row) for row in turn]
        max_bytes -= sum(len(message.content.encode()) for message in messages)
        if max_bytes < 0:
            return
        yield from messages

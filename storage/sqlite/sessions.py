"""One owner's conversations, in SQLite."""

import sqlite3
from collections.abc import Callable, Sequence

from storage import cursors
from storage.paging import OpenPage
from storage.records import Owner, Page, Room, Session
from storage.sqlite import log_format
from storage.sqlite.paging import page_of
from storage.sqlite.rows import Key, key_of, session_of
from storage.sqlite.threads import Reader, Writer
from storage.ttl import FORGOTTEN

_OWN = """
    SELECT *, (
        SELECT run_id FROM runs
        WHERE tenant_id = sessions.tenant_id AND user_id = sessions.user_id
            AND session_id = sessions.session_id AND state IN ('queued', 'running')
        ORDER BY position LIMIT 1
    ) AS active_run
    FROM sessions WHERE tenant_id = ? AND user_id = ?
"""

_GET = f"{_OWN} AND session_id = ?"

_PAGE = f"""{_OWN}
    AND (updated_at, session_id) < (?, ?)
    ORDER BY updated_at DESC, session_id DESC LIMIT ?
"""

_NEWEST = (float("inf"), "")

_BLOBS_DUE = """
    UPDATE payloads SET expires_at = 0 WHERE tenant_id = ? AND user_id = ? AND blob_key = ?
"""


_BURY = """
    INSERT OR REPLACE INTO run_tombstones
        (tenant_id, user_id, run_id, cancel_at, expires_at, forgotten)
    VALUES (?, ?, ?, ?, ?, 1)
"""


class SqliteSessions:
    """`Sessions` of one owner; cheap to make.

    Args:
        owner: of every row that is read or written.
        reader, writer: the threads of the store.
        forgotten: called on the loop with the ids of the runs that were deleted.
    """

    __slots__ = ("_forgotten", "_key", "_reader", "_writer")

    def __init__(
        self,
        owner: Owner,
        reader: Reader,
        writer: Writer,
        forgotten: Callable[[Sequence[str]], None],
    ) -> None:
        self._key = key_of(owner)
        self._reader = reader
        self._writer = writer
        self._forgotten = forgotten

    async def get(self, session_id: str) -> Session | None:
        """Return the session, or `None`."""
        return await self._reader.call(lambda connection: _get(connection, self._key, session_id))

    async def page(
        self, *, before: str | None, limit: int, room: Room[Session] | None = None
    ) -> Page[Session]:
        """Return one page; see `Sessions.page`."""
        scope = ("sessions", *self._key)
        after = _NEWEST if before is None else cursors.decode(before, (float, str), *scope)
        values = (*self._key, *after, limit + 1)
        page = OpenPage(limit, room, *scope)
        return await self._reader.call(
            lambda connection: page_of(
                connection.execute(_PAGE, values), page, session_of, ("updated_at", "session_id")
            )
        )

    async def rename(self, session_id: str, title: str) -> Session | None:
        """Set the title; see `Sessions.rename`."""

        def work(connection: sqlite3.Connection) -> Session | None:
            connection.execute(
                "UPDATE sessions SET title = ?"
                " WHERE tenant_id = ? AND user_id = ? AND session_id = ?",
                (title, *self._key, session_id),
            )
            return _get(connection, self._key, session_id)

        return await self._writer.call(work)

    async def forget(self, session_id: str, *, now: float) -> bool:
        """Delete the session and all that is in it; see `Sessions.forget`."""
        runs = await self._writer.call(
            lambda connection: _forget(connection, self._key, session_id, now),
            erases=True,
            done=lambda runs: self._forgotten(runs or ()),
        )
        return runs is not None


def _get(connection: sqlite3.Connection, key: Key, session_id: str) -> Session | None:
    row = connection.execute(_GET, (*key, session_id)).fetchone()
    return session_of(row) if row else None


def _forget(
    connection: sqlite3.Connection, key: Key, session_id: str, now: float
) -> Sequence[str] | None:
    """Delete the session and return the ids of its runs; `None` if there is no such session."""
    one = (*key, session_id)
    deleted = connection.execute(
        "DELETE FROM sessions WHERE tenant_id = ? AND user_id = ? AND session_id = ?", one
    )
    if not deleted.rowcount:
        return None
    runs = connection.execute(
        "SELECT run_id FROM runs WHERE tenant_id = ? AND user_id = ? AND session_id = ?", one
    ).fetchall()
    for (run_id,) in runs:
        _forget_log(connection, key, run_id)
        connection.execute(_BURY, (*key, run_id, now, now + FORGOTTEN))
    connection.execute(
        "DELETE FROM runs WHERE tenant_id = ? AND user_id = ? AND session_id = ?", one
    )
    connection.execute(
        "DELETE FROM messages WHERE tenant_id = ? AND user_id = ? AND session_id = ?", one
    )
    return [run_id for (run_id,) in runs]


def _forget_log(connection: sqlite3.Connection, key: Key, run_id: str) -> None:
    """Delete a log, and let the next purge delete the blobs that it names."""
    row = connection.execute(
        "SELECT body FROM run_logs WHERE tenant_id = ? AND user_id = ? AND run_id = ?",
        (*key, run_id),
    ).fetchone()
    if row is None:
        return
    blobs = log_format.blob_keys(row["body"])
    connection.executemany(_BLOBS_DUE, [(*key, blob_key) for blob_key in blobs])
    connection.execute(
        "DELETE FROM run_logs WHERE tenant_id = ? AND user_id = ? AND run_id = ?", (*key, run_id)
    )

"""Deleting what has expired from SQLite, in bounded batches."""

import logging
import sqlite3
from collections.abc import Sequence
from typing import Final, NamedTuple

from storage.blobs.blob_store import BlobStore
from storage.errors import StorageError
from storage.sqlite.faults import name_of
from storage.sqlite.threads import Reader, Writer

_DELETES: Final = (
    "DELETE FROM run_logs WHERE rowid IN (SELECT rowid FROM run_logs WHERE log_until <= ? LIMIT ?)",
    "DELETE FROM tickets WHERE ticket_hash IN"
    " (SELECT ticket_hash FROM tickets WHERE expires_at <= ? LIMIT ?)",
    "DELETE FROM run_tombstones WHERE (tenant_id, user_id, run_id) IN"
    " (SELECT tenant_id, user_id, run_id FROM run_tombstones WHERE expires_at <= ? LIMIT ?)",
)

_EXPIRED_PAYLOADS: Final = """
    SELECT expires_at, tenant_id, user_id, payload_id, blob_key FROM payloads
    WHERE (expires_at, tenant_id, user_id, payload_id) > (?, ?, ?, ?) AND expires_at <= ?
    ORDER BY expires_at, tenant_id, user_id, payload_id LIMIT ?
"""

_log = logging.getLogger(__name__)


class ExpiredPayload(NamedTuple):
    """Where a row of `payloads` stands among those that expire, which is its key too, and its blob."""

    expires_at: float
    tenant_id: str
    user_id: str
    payload_id: str
    blob_key: str


_FIRST: Final = ExpiredPayload(-1, "", "", "", "")
"""Stands before every row."""


class PayloadPurge:
    """Walks through the payloads whose time is over, a batch at a time, and deletes them.

    A blob goes before its row: a row that stays behind is found again by the next walk, a blob without
    a row never would be. This walk goes on behind it.

    Args:
        reader, writer: the threads of the store.
    """

    def __init__(self, reader: Reader, writer: Writer) -> None:
        self._reader = reader
        self._writer = writer
        self._last = _FIRST
        self._stayed = 0
        self._fault = ""

    async def step(self, blobs: BlobStore, *, now: float, limit: int) -> int:
        """Try the next `limit` payloads; return how many there were: fewer if the walk has ended."""
        last = self._last
        payloads = await self._reader.call(
            lambda connection: _expired_payloads(connection, last, now, limit)
        )
        gone = [payload for payload in payloads if await self._is_deleted(blobs, payload.blob_key)]
        await self._writer.call(lambda connection: _delete_payloads(connection, gone))
        if len(payloads) < limit:
            self._start_again()
        elif payloads:
            self._last = payloads[-1]
        return len(payloads)

    async def _is_deleted(self, blobs: BlobStore, key: str) -> bool:
        try:
            await blobs.delete(key)
        except StorageError as exc:
            self._stayed += 1
            self._fault = name_of(exc.__cause__ or exc)
            return False
        return True

    def _start_again(self) -> None:
        if self._stayed:
            extra = {"blobs": self._stayed, "fault": self._fault}
            _log.warning("blob cannot be deleted", extra=extra)
        self._last = _FIRST
        self._stayed = 0


def delete_expired(connection: sqlite3.Connection, now: float, limit: int) -> int:
    """Delete up to `limit` expired logs, tickets and tombstones; return how many those were."""
    deleted = 0
    for statement in _DELETES:
        deleted += connection.execute(statement, (now, limit - deleted)).rowcount
    return deleted


def _expired_payloads(
    connection: sqlite3.Connection, last: ExpiredPayload, now: float, limit: int
) -> Sequence[ExpiredPayload]:
    """Return up to `limit` payloads behind that one whose time is over."""
    rows = connection.execute(_EXPIRED_PAYLOADS, (*last[:4], now, limit))
    return [ExpiredPayload(*row) for row in rows]


def _delete_payloads(connection: sqlite3.Connection, payloads: Sequence[ExpiredPayload]) -> None:
    connection.executemany(
        "DELETE FROM payloads WHERE tenant_id = ? AND user_id = ? AND payload_id = ?",
        [payload[1:4] for payload in payloads],
    )

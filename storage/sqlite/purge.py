"""Deleting what has expired from SQLite, in bounded batches."""

import sqlite3
from collections.abc import Sequence
from typing import Final, NamedTuple

_DELETES: Final = (
    "DELETE FROM run_logs WHERE rowid IN (SELECT rowid FROM run_logs WHERE log_until <= ? LIMIT ?)",
    "DELETE FROM tickets WHERE ticket_hash IN"
    " (SELECT ticket_hash FROM tickets WHERE expires_at <= ? LIMIT ?)",
    "DELETE FROM run_tombstones WHERE (tenant_id, user_id, run_id) IN"
    " (SELECT tenant_id, user_id, run_id FROM run_tombstones WHERE expires_at <= ? LIMIT ?)",
)


class ExpiredPayload(NamedTuple):
    """The key of a row in `payloads`, and of its blob."""

    tenant_id: str
    user_id: str
    payload_id: str
    blob_key: str


def expired_payloads(
    connection: sqlite3.Connection, now: float, limit: int
) -> Sequence[ExpiredPayload]:
    """Return up to `limit` payloads whose time is over.

    Delete their blobs first, then the rows: a row that stays behind is found again, a blob without a row
    never would be.
    """
    rows = connection.execute(
        "SELECT tenant_id, user_id, payload_id, blob_key FROM payloads"
        " WHERE expires_at <= ? ORDER BY expires_at LIMIT ?",
        (now, limit),
    )
    return [ExpiredPayload(*row) for row in rows]


def delete_payloads(connection: sqlite3.Connection, payloads: Sequence[ExpiredPayload]) -> int:
    """Delete those rows and return how many there were."""
    return connection.executemany(
        "DELETE FROM payloads WHERE tenant_id = ? AND user_id = ? AND payload_id = ?",
        [payload[:3] for payload in payloads],
    ).rowcount


def delete_expired(connection: sqlite3.Connection, now: float, limit: int) -> int:
    """Delete up to `limit` expired logs, tickets and tombstones; return how many those were."""
    deleted = 0
    for statement in _DELETES:
        deleted += connection.execute(statement, (now, limit - deleted)).rowcount
    return deleted

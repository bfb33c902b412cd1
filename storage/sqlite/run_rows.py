"""Rows of runs: reading one, and the steps that several verbs share."""

import sqlite3
from collections.abc import Sequence
from typing import Final

from storage.errors import NotRunOwnerError
from storage.records import Run
from storage.sqlite.rows import Key, run_of

OLDEST_FIRST: Final = """
    MAX(created_at) OVER (PARTITION BY tenant_id, user_id, session_id ORDER BY position), position
"""
"""The order of runs that have not ended: by age, but those of one session as they were accepted.

`created_at` was stamped before the accept, by a clock that may have been set back since.
"""

_GET = "SELECT * FROM runs WHERE tenant_id = ? AND user_id = ? AND run_id = ?"

_LIVE_IN_SESSION = """
    SELECT * FROM runs
    WHERE tenant_id = ? AND user_id = ? AND session_id = ? AND state IN ('queued', 'running')
    ORDER BY position
"""

_CLAIM = """
    UPDATE runs SET state = 'running', claimed_by = ?, lease_until = ?
    WHERE tenant_id = ? AND user_id = ? AND run_id = ? AND state = 'queued'
        AND (
            cancel_at IS NOT NULL
            OR NOT EXISTS (
                SELECT 1 FROM runs AS earlier INDEXED BY runs_live
                WHERE earlier.tenant_id = runs.tenant_id AND earlier.user_id = runs.user_id
                    AND earlier.session_id = runs.session_id AND earlier.position < runs.position
                    AND earlier.state IN ('queued', 'running')
            )
        )
"""


def get_run(connection: sqlite3.Connection, key: Key, run_id: str) -> Run | None:
    """Return the run, or `None`."""
    row = connection.execute(_GET, (*key, run_id)).fetchone()
    return run_of(row) if row else None


def live_in_session(
    connection: sqlite3.Connection, key: Key, session_id: str
) -> Sequence[sqlite3.Row]:
    """Return the rows of a session's runs that have not ended, in the order they were accepted."""
    return connection.execute(_LIVE_IN_SESSION, (*key, session_id)).fetchall()


def claim_run(
    connection: sqlite3.Connection, key: Key, run_id: str, claimed_by: str, lease_until: float
) -> Run:
    """Make a queued run ours; see `Runs.claim`."""
    connection.execute(_CLAIM, (claimed_by, lease_until, *key, run_id))
    return owned_run(connection, key, run_id, claimed_by)


def owned_run(connection: sqlite3.Connection, key: Key, run_id: str, claimed_by: str) -> Run:
    """Return a running run that is ours.

    Raises:
        NotRunOwnerError: it is not.
    """
    run = get_run(connection, key, run_id)
    if run is None or run.state != "running" or run.claimed_by != claimed_by:
        raise NotRunOwnerError("the run is not ours")
    return run


def touch_session(connection: sqlite3.Connection, key: Key, session_id: str, now: float) -> None:
    """Note that the session was talked in."""
    connection.execute(
        "UPDATE sessions SET updated_at = MAX(updated_at, ?)"
        " WHERE tenant_id = ? AND user_id = ? AND session_id = ?",
        (now, *key, session_id),
    )

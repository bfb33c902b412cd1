"""Accepting a turn, in SQLite: all of it in one transaction, and exactly once."""

import sqlite3
from dataclasses import replace

from storage.records import (
    MAX_QUEUED_RUNS,
    Acceptance,
    Accepted,
    AcceptOutcome,
    Claim,
    Context,
    Duplicate,
    Refused,
    Run,
    Session,
)
from storage.sqlite.memories import newest_memories
from storage.sqlite.messages import add_question, get_message, is_question, turns_before
from storage.sqlite.rows import Key
from storage.sqlite.run_rows import get_run, live_in_session, touch_session

_INSERT = """
    INSERT INTO runs (
        tenant_id, user_id, run_id, send_id, kind, request_hash, session_id, message_id, reply_id,
        created_at, log_until, state, position, claimed_by, lease_until, cancel_at, last_seq, end_reason
    ) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, NULL)
"""


def accept(connection: sqlite3.Connection, key: Key, acceptance: Acceptance) -> AcceptOutcome:
    """Store the turn; see `Runs.accept`."""
    run = acceptance.run
    stored = get_run(connection, key, run.run_id)
    if stored is not None:
        same = stored.request_hash == run.request_hash
        return Duplicate(run=stored) if same else Refused(why="conflict")
    tombstone = _tombstone(connection, key, run)
    is_forgotten = tombstone is not None and tombstone["forgotten"]
    if is_forgotten or not _has_place(connection, key, acceptance):
        return Refused(why="not_found")
    is_new = acceptance.new_session is not None  # then nothing of it needs to be looked for
    live = () if is_new else live_in_session(connection, key, run.session_id)
    if len(live) > (0 if acceptance.if_busy == "reject" else MAX_QUEUED_RUNS):
        return Refused(why="busy")
    if acceptance.new_session is None:
        touch_session(connection, key, run.session_id, run.created_at)
    else:
        _add_session(connection, key, acceptance.new_session)
    if acceptance.message is not None:
        add_question(connection, key, acceptance.message, is_first=is_new)
    if tombstone is not None:
        run = _cancelled_early(connection, key, run, tombstone)
    context, claim = None, acceptance.claim
    if claim is not None and not live and run.cancel_at is None:
        context = _context(connection, key, acceptance, claim)
        run = replace(
            run, state="running", claimed_by=claim.claimed_by, lease_until=claim.lease_until
        )
    _add_run(connection, key, run, position=live[-1]["position"] + 1 if live else 1)
    return Accepted(run=run, ahead=tuple(row["run_id"] for row in live), context=context)


def _context(
    connection: sqlite3.Connection, key: Key, acceptance: Acceptance, claim: Claim
) -> Context:
    run, new_session = acceptance.run, acceptance.new_session
    asked = acceptance.message or get_message(connection, key, run.message_id)
    assert asked is not None
    memories = newest_memories(connection, key, claim.memories_bytes)
    if new_session is not None:
        return Context(character=new_session.character, asked=asked, earlier=(), memories=memories)
    (character,) = connection.execute(
        "SELECT character FROM sessions WHERE tenant_id = ? AND user_id = ? AND session_id = ?",
        (*key, run.session_id),
    ).fetchone()
    earlier = turns_before(connection, key, run.message_id, claim.history_bytes)
    return Context(character=character, asked=asked, earlier=earlier, memories=memories)


def _has_place(connection: sqlite3.Connection, key: Key, acceptance: Acceptance) -> bool:
    """Whether the session, and the message that a regenerate answers, are there."""
    run = acceptance.run
    if acceptance.new_session is not None:
        return True
    if acceptance.message is None:
        return is_question(connection, key, run.session_id, run.message_id)
    found = connection.execute(
        "SELECT 1 FROM sessions WHERE tenant_id = ? AND user_id = ? AND session_id = ?",
        (*key, run.session_id),
    )
    return found.fetchone() is not None


def _tombstone(connection: sqlite3.Connection, key: Key, run: Run) -> sqlite3.Row | None:
    """Return what is remembered of this run, which is not there, if anything."""
    row: sqlite3.Row | None = connection.execute(
        "SELECT cancel_at, expires_at, forgotten FROM run_tombstones"
        " WHERE tenant_id = ? AND user_id = ? AND run_id = ?",
        (*key, run.run_id),
    ).fetchone()
    return row


def _cancelled_early(
    connection: sqlite3.Connection, key: Key, run: Run, tombstone: sqlite3.Row
) -> Run:
    """Take out the cancel that overtook this run and return the run with it, if it still counts."""
    connection.execute(
        "DELETE FROM run_tombstones WHERE tenant_id = ? AND user_id = ? AND run_id = ?",
        (*key, run.run_id),
    )
    counts = tombstone["expires_at"] > run.created_at
    return replace(run, cancel_at=tombstone["cancel_at"]) if counts else run


def _add_session(connection: sqlite3.Connection, key: Key, session: Session) -> None:
    connection.execute(
        "INSERT INTO sessions (tenant_id, user_id, session_id, title, character, created_at,"
        " updated_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            *key,
            session.session_id,
            session.title,
            session.character,
            session.created_at,
            session.updated_at,
        ),
    )


def _add_run(connection: sqlite3.Connection, key: Key, run: Run, *, position: int) -> None:
    connection.execute(
        _INSERT,
        (
            *key,
            run.run_id,
            run.send_id,
            run.kind,
            run.request_hash,
            run.session_id,
            run.message_id,
            run.reply_id,
            run.created_at,
            run.log_until,
            run.state,
            position,
            run.claimed_by,
            run.lease_until,
            run.cancel_at,
        ),
    )

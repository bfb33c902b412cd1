"""One owner's runs, in SQLite: every verb is one transaction, and the row's state decides."""

import sqlite3
from collections.abc import Sequence
from dataclasses import replace

from storage.errors import NotRunOwnerError
from storage.records import (
    MAX_QUEUED_RUNS,
    Acceptance,
    Accepted,
    AcceptOutcome,
    Claim,
    Completion,
    Context,
    Duplicate,
    Owner,
    Refused,
    Run,
    Session,
)
from storage.sqlite.journal import Journal
from storage.sqlite.memories import add_memories, newest_memories
from storage.sqlite.messages import (
    add_question,
    add_reply,
    get_message,
    is_question,
    turns_before,
)
from storage.sqlite.rows import Key, key_of, run_of
from storage.sqlite.threads import Reader, Writer
from storage.ttl import TOMBSTONE

_GET = "SELECT * FROM runs WHERE tenant_id = ? AND user_id = ? AND run_id = ?"

_LIVE_IN_SESSION = """
    SELECT * FROM runs
    WHERE tenant_id = ? AND user_id = ? AND session_id = ? AND state IN ('queued', 'running')
    ORDER BY position
"""

_LIVE = """
    SELECT * FROM runs INDEXED BY runs_live
    WHERE tenant_id = ? AND user_id = ? AND state IN ('queued', 'running')
    ORDER BY created_at, position LIMIT 100
"""

_INSERT = """
    INSERT INTO runs (
        tenant_id, user_id, run_id, send_id, kind, request_hash, session_id, message_id, reply_id,
        created_at, log_until, state, position, claimed_by, lease_until, cancel_at, last_seq, end_reason
    ) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'queued', ?, NULL, 0, ?, 0, NULL)
"""

_CLAIM = """
    UPDATE runs SET state = 'running', claimed_by = ?, lease_until = ?
    WHERE tenant_id = ? AND user_id = ? AND run_id = ? AND state = 'queued'
"""

_TAKE_OVER = """
    UPDATE runs SET claimed_by = ?
    WHERE tenant_id = ? AND user_id = ? AND run_id = ? AND state = 'running' AND lease_until <= ?
"""

_CANCEL = """
    UPDATE runs SET cancel_at = COALESCE(cancel_at, ?)
    WHERE tenant_id = ? AND user_id = ? AND run_id = ? AND state IN ('queued', 'running')
"""

_CANCEL_EARLY = """
    INSERT INTO early_cancels (tenant_id, user_id, run_id, cancel_at, expires_at)
    VALUES (?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET cancel_at = excluded.cancel_at, expires_at = excluded.expires_at
    WHERE expires_at <= excluded.cancel_at
"""

_END = """
    UPDATE runs SET state = 'ended', last_seq = ?, end_reason = ?, log_until = ?
    WHERE tenant_id = ? AND user_id = ? AND run_id = ?
"""


class SqliteRuns:
    """`Runs` of one owner; cheap to make.

    Args:
        owner: of every row that is read or written.
        reader, writer: the threads of the store.
        journal: learns who may append, and gives a run's log away when it ends.
        durable: whether also an accept, claim or cancel waits for the disk.
    """

    __slots__ = ("_durable", "_journal", "_key", "_owner", "_reader", "_writer")

    def __init__(
        self, owner: Owner, reader: Reader, writer: Writer, journal: Journal, *, durable: bool
    ) -> None:
        self._owner = owner
        self._key = key_of(owner)
        self._reader = reader
        self._writer = writer
        self._journal = journal
        self._durable = durable

    async def accept(self, acceptance: Acceptance) -> AcceptOutcome:
        """Store a turn exactly once; see `Runs.accept`."""
        return await self._writer.call(
            lambda connection: _accept(connection, self._key, acceptance),
            durable=self._durable,
            done=self._accepted,
        )

    def _accepted(self, outcome: AcceptOutcome) -> None:
        if isinstance(outcome, Accepted) and outcome.run.claimed_by is not None:
            self._journal.claimed(self._owner, outcome.run.run_id, outcome.run.claimed_by)

    async def get(self, run_id: str) -> Run | None:
        """Return the run, or `None`."""
        return await self._reader.call(lambda connection: _get(connection, self._key, run_id))

    async def live(self) -> Sequence[Run]:
        """Return the runs that have not ended; see `Runs.live`."""
        rows = await self._reader.call(
            lambda connection: connection.execute(_LIVE, self._key).fetchall()
        )
        return tuple(run_of(row) for row in rows)

    async def claim(self, run_id: str, *, claimed_by: str, lease_until: float) -> Run:
        """Make a queued run ours; see `Runs.claim`."""
        return await self._writer.call(
            lambda connection: _claim(connection, self._key, run_id, claimed_by, lease_until),
            durable=self._durable,
            done=lambda run: self._journal.claimed(self._owner, run.run_id, claimed_by),
        )

    async def take_over(self, run_id: str, *, claimed_by: str, now: float) -> Run:
        """Become the owner of a run whose lease is over; see `Runs.take_over`."""
        return await self._writer.call(
            lambda connection: _take_over(connection, self._key, run_id, claimed_by, now),
            durable=self._durable,
            done=lambda run: self._journal.claimed(self._owner, run.run_id, claimed_by),
        )

    async def cancel(self, run_id: str, *, now: float) -> Run | None:
        """Remember that the run shall stop; see `Runs.cancel`."""
        return await self._writer.call(
            lambda connection: _cancel(connection, self._key, run_id, now), durable=self._durable
        )

    async def finish(self, completion: Completion) -> Run | None:
        """Store the end of a run, on the disk; see `Runs.finish`."""
        log = await self._journal.seal(completion)
        run_id = completion.run_id
        return await self._writer.call(
            lambda connection: _finish(connection, self._key, completion, log),
            durable=True,
            done=lambda _: self._journal.ended(run_id),
            failed=lambda: self._journal.unsealed(run_id),
        )


def _get(connection: sqlite3.Connection, key: Key, run_id: str) -> Run | None:
    row = connection.execute(_GET, (*key, run_id)).fetchone()
    return run_of(row) if row else None


def _accept(connection: sqlite3.Connection, key: Key, acceptance: Acceptance) -> AcceptOutcome:
    run = acceptance.run
    stored = _get(connection, key, run.run_id)
    if stored is not None:
        same = stored.request_hash == run.request_hash
        return Duplicate(run=stored) if same else Refused(why="conflict")
    if not _has_place(connection, key, acceptance):
        return Refused(why="not_found")
    live = connection.execute(_LIVE_IN_SESSION, (*key, run.session_id)).fetchall()
    if len(live) > (0 if acceptance.if_busy == "reject" else MAX_QUEUED_RUNS):
        return Refused(why="busy")
    if acceptance.new_session is not None:
        _add_session(connection, key, acceptance.new_session)
    if acceptance.message is not None:
        add_question(connection, key, acceptance.message)
    run = replace(run, cancel_at=_early_cancel(connection, key, run))
    _add_run(connection, key, run, position=live[-1]["position"] + 1 if live else 1)
    _touch(connection, key, run.session_id, run.created_at)
    if acceptance.claim is None or live or run.cancel_at is not None:
        return Accepted(run=run, ahead=tuple(row["run_id"] for row in live))
    return _claim_at_once(connection, key, run, acceptance.claim)


def _claim_at_once(connection: sqlite3.Connection, key: Key, run: Run, claim: Claim) -> Accepted:
    asked = get_message(connection, key, run.message_id)
    assert asked is not None
    (character,) = connection.execute(
        "SELECT character FROM sessions WHERE tenant_id = ? AND user_id = ? AND session_id = ?",
        (*key, run.session_id),
    ).fetchone()
    context = Context(
        character=character,
        asked=asked,
        earlier=turns_before(connection, key, run.message_id, claim.history_bytes),
        memories=newest_memories(connection, key, claim.memories_bytes),
    )
    run = _claim(connection, key, run.run_id, claim.claimed_by, claim.lease_until)
    return Accepted(run=run, ahead=(), context=context)


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


def _early_cancel(connection: sqlite3.Connection, key: Key, run: Run) -> float | None:
    """Take out the cancel that overtook this run, if there was one."""
    one = (*key, run.run_id)
    row = connection.execute(
        "SELECT cancel_at, expires_at FROM early_cancels"
        " WHERE tenant_id = ? AND user_id = ? AND run_id = ?",
        one,
    ).fetchone()
    if row is None:
        return None
    connection.execute(
        "DELETE FROM early_cancels WHERE tenant_id = ? AND user_id = ? AND run_id = ?", one
    )
    return float(row["cancel_at"]) if row["expires_at"] > run.created_at else None


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
            position,
            run.cancel_at,
        ),
    )


def _touch(connection: sqlite3.Connection, key: Key, session_id: str, now: float) -> None:
    connection.execute(
        "UPDATE sessions SET updated_at = MAX(updated_at, ?)"
        " WHERE tenant_id = ? AND user_id = ? AND session_id = ?",
        (now, *key, session_id),
    )


def _claim(
    connection: sqlite3.Connection, key: Key, run_id: str, claimed_by: str, lease_until: float
) -> Run:
    connection.execute(_CLAIM, (claimed_by, lease_until, *key, run_id))
    return _owned(connection, key, run_id, claimed_by)


def _take_over(
    connection: sqlite3.Connection, key: Key, run_id: str, claimed_by: str, now: float
) -> Run:
    connection.execute(_TAKE_OVER, (claimed_by, *key, run_id, now))
    return _owned(connection, key, run_id, claimed_by)


def _owned(connection: sqlite3.Connection, key: Key, run_id: str, claimed_by: str) -> Run:
    run = _get(connection, key, run_id)
    if run is None or run.state != "running" or run.claimed_by != claimed_by:
        raise NotRunOwnerError("the run is not ours")
    return run


def _cancel(connection: sqlite3.Connection, key: Key, run_id: str, now: float) -> Run | None:
    connection.execute(_CANCEL, (now, *key, run_id))
    run = _get(connection, key, run_id)
    if run is None:
        connection.execute(_CANCEL_EARLY, (*key, run_id, now, now + TOMBSTONE))
    return run


def _finish(
    connection: sqlite3.Connection, key: Key, completion: Completion, log: bytes | None
) -> Run | None:
    run = _get(connection, key, completion.run_id)
    if run is None or run.state == "queued" or run.claimed_by != completion.claimed_by:
        raise NotRunOwnerError("the run is not ours, or has ended")
    if run.state == "running":
        if log is None:
            raise NotRunOwnerError("the run is not ours")
        _store_end(connection, key, run, completion, log)
    next_in_session = connection.execute(_LIVE_IN_SESSION, (*key, run.session_id)).fetchone()
    if next_in_session is None or next_in_session["state"] != "queued":
        return None
    return run_of(next_in_session)


def _store_end(
    connection: sqlite3.Connection, key: Key, run: Run, completion: Completion, log: bytes
) -> None:
    one = (*key, run.run_id)
    last_seq, log_until = completion.terminal.last, completion.log_until
    connection.execute(_END, (last_seq, completion.end, log_until, *one))
    connection.execute(
        "INSERT INTO run_logs (tenant_id, user_id, run_id, log_until, body) VALUES (?, ?, ?, ?, ?)",
        (*one, log_until, log),
    )
    if completion.reply is not None:
        add_reply(connection, key, run.message_id, completion.reply)
    add_memories(connection, key, completion.memories)
    if (usage := completion.usage) is not None:
        connection.execute(
            "INSERT INTO usage (tenant_id, user_id, run_id, finished_at, model, prompt_tokens,"
            " completion_tokens, estimated) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *one,
                completion.finished_at,
                usage.model,
                usage.prompt_tokens,
                usage.completion_tokens,
                usage.estimated,
            ),
        )
    _touch(connection, key, run.session_id, completion.finished_at)

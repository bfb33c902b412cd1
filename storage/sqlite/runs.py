"""One owner's runs, in SQLite: every verb is one transaction, and the row's state decides."""

import sqlite3
from collections.abc import Sequence

from storage.errors import NotRunOwnerError
from storage.records import (
    Acceptance,
    Accepted,
    AcceptOutcome,
    Completion,
    Owner,
    Run,
)
from storage.sqlite.accept import accept
from storage.sqlite.journal import Journal
from storage.sqlite.memories import add_memories
from storage.sqlite.messages import add_reply
from storage.sqlite.rows import Key, key_of, run_of
from storage.sqlite.run_rows import (
    OLDEST_FIRST,
    claim_run,
    get_run,
    live_in_session,
    owned_run,
    touch_session,
)
from storage.sqlite.threads import Reader, Writer
from storage.ttl import TOMBSTONE

_LIVE = f"""
    SELECT * FROM runs INDEXED BY runs_live
    WHERE tenant_id = ? AND user_id = ? AND state IN ('queued', 'running')
    ORDER BY {OLDEST_FIRST} LIMIT 100
"""  # noqa: S608 - a constant

_TAKE_OVER = """
    UPDATE runs SET claimed_by = ?
    WHERE tenant_id = ? AND user_id = ? AND run_id = ? AND state = 'running' AND lease_until <= ?
"""

_CANCEL = """
    UPDATE runs SET cancel_at = COALESCE(cancel_at, ?)
    WHERE tenant_id = ? AND user_id = ? AND run_id = ? AND state IN ('queued', 'running')
"""

_CANCEL_EARLY = """
    INSERT INTO run_tombstones (tenant_id, user_id, run_id, cancel_at, expires_at)
    VALUES (?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET cancel_at = excluded.cancel_at, expires_at = excluded.expires_at
    WHERE expires_at <= excluded.cancel_at AND NOT forgotten
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
            lambda connection: accept(connection, self._key, acceptance),
            durable=self._durable,
            done=self._accepted,
        )

    def _accepted(self, outcome: AcceptOutcome) -> None:
        if isinstance(outcome, Accepted) and outcome.run.claimed_by is not None:
            self._journal.claimed(self._owner, outcome.run.run_id, outcome.run.claimed_by)

    async def get(self, run_id: str) -> Run | None:
        """Return the run, or `None`."""
        return await self._reader.call(lambda connection: get_run(connection, self._key, run_id))

    async def live(self) -> Sequence[Run]:
        """Return the runs that have not ended; see `Runs.live`."""
        rows = await self._reader.call(
            lambda connection: connection.execute(_LIVE, self._key).fetchall()
        )
        return tuple(run_of(row) for row in rows)

    async def claim(self, run_id: str, *, claimed_by: str, lease_until: float) -> Run:
        """Make a queued run ours; see `Runs.claim`."""
        return await self._writer.call(
            lambda connection: claim_run(connection, self._key, run_id, claimed_by, lease_until),
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
        log = await self._journal.begin_end(completion)
        run_id = completion.run_id
        return await self._writer.call(
            lambda connection: _finish(connection, self._key, completion, log),
            durable=True,
            done=lambda _: self._journal.ended(run_id),
            failed=None if log is None else lambda: self._journal.undo_end(run_id),
        )


def _take_over(
    connection: sqlite3.Connection, key: Key, run_id: str, claimed_by: str, now: float
) -> Run:
    connection.execute(_TAKE_OVER, (claimed_by, *key, run_id, now))
    return owned_run(connection, key, run_id, claimed_by)


def _cancel(connection: sqlite3.Connection, key: Key, run_id: str, now: float) -> Run | None:
    connection.execute(_CANCEL, (now, *key, run_id))
    run = get_run(connection, key, run_id)
    if run is None:
        connection.execute(_CANCEL_EARLY, (*key, run_id, now, now + TOMBSTONE))
    return run


def _finish(
    connection: sqlite3.Connection, key: Key, completion: Completion, log: bytes | None
) -> Run | None:
    run = get_run(connection, key, completion.run_id)
    if run is None or run.state == "queued" or run.claimed_by != completion.claimed_by:
        raise NotRunOwnerError("the run is not ours, or has ended")
    if run.state == "running":
        if log is None:
            raise NotRunOwnerError("the run is not ours")
        _store_end(connection, key, run, completion, log)
    live = live_in_session(connection, key, run.session_id)
    return run_of(live[0]) if live and live[0]["state"] == "queued" else None


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
    touch_session(connection, key, run.session_id, completion.finished_at)

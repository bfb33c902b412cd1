"""The logs of all runs: of live ones in an append-only journal, of ended ones in a row each.

What one turn of the event loop appends, for all runs, is written by one `os.write` from a callback of
the next turn, and acknowledged in that callback in the order of the appends. So an acknowledged entry
survives the end of the process; whoever posts only what was acknowledged shows nothing that could be
lost that way.

Slot rules: only `claimed_by` of a running run may append, and only the slot after its last one.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Iterable, Sequence

from storage.errors import (
    LogSlotTakenError,
    NotRunOwnerError,
    StorageError,
    StorageUnavailableError,
)
from storage.records import Completion, LogEntry, Owner
from storage.repositories import Acknowledge
from storage.sqlite import log_format
from storage.sqlite.faults import name_of
from storage.sqlite.live_log import LiveLog
from storage.sqlite.log_format import entry_record
from storage.sqlite.segments import Segment, Segments
from storage.sqlite.threads import Reader

_log = logging.getLogger(__name__)

_Pending = tuple[LogEntry, str, Acknowledge]


class OwnedLog:
    """`RunLog` of one owner over the journal of all."""

    __slots__ = ("_journal", "_owner", "append")

    def __init__(self, owner: Owner, journal: "Journal") -> None:
        self._owner = owner
        self._journal = journal
        self.append = journal.append  # a run is known by its id and claim: no call between

    async def read(self, run_id: str, *, after: int) -> Sequence[LogEntry]:
        """Return the acknowledged entries; see `RunLog.read`."""
        return await self._journal.read(self._owner, run_id, after=after)


class Journal:
    """The logs of all owners. Close it with `aclose`; the loop it was made on is the only one.

    Args:
        segments: the files; closed by `aclose`.
        logs: of the runs that were found unfinished.
        reader: for the logs of ended runs.
    """

    def __init__(self, segments: Segments, logs: Iterable[LiveLog], reader: Reader) -> None:
        self._segments = segments
        self._logs = {log.run_id: log for log in logs}
        self._reader = reader
        self._loop = asyncio.get_running_loop()
        self._pending: list[_Pending] = []
        self._complained = False

    def append(self, entry: LogEntry, *, claimed_by: str, acknowledge: Acknowledge) -> None:
        """Create the next slot; see `RunLog.append`."""
        if not self._pending:
            self._loop.call_soon(self._flush)
        self._pending.append((entry, claimed_by, acknowledge))

    async def read(self, owner: Owner, run_id: str, *, after: int) -> Sequence[LogEntry]:
        """Return the acknowledged entries of that owner's run; see `RunLog.read`."""
        log = self._logs.get(run_id)
        if log is not None:
            return log.entries(after=after) if log.owner == owner else ()
        key = (owner.tenant_id, owner.user_id, run_id)
        return await self._reader.call(lambda connection: _stored(connection, key, after))

    def claimed(self, owner: Owner, run_id: str, claimed_by: str) -> None:
        """Let `claimed_by` alone append from now on, as the database has it."""
        log = self._logs.get(run_id)
        if log is None:
            self._logs[run_id] = LiveLog(owner, run_id, claimed_by)
        else:
            log.claimed_by = claimed_by

    async def begin_end(self, completion: Completion) -> bytes | None:
        """Refuse further appends and return the whole log, its terminal entry included, for one row.

        Follow it by `ended` or `undo_end`, but for `None`: then no such claim is live here, and appends are
        as before; the database may hold its end already.

        Raises:
            LogSlotTakenError: the terminal entry does not follow the last one that was kept.
        """
        if self._pending:  # what was appended before belongs before the end
            await asyncio.sleep(0)
        log = self._logs.get(completion.run_id)
        if log is None or log.claimed_by != completion.claimed_by:
            return None
        if completion.terminal.first != log.next:
            raise LogSlotTakenError("the terminal entry does not fit the log")
        log.ends += 1
        return log.body() + entry_record(0, completion.terminal)

    def undo_end(self, run_id: str) -> None:
        """Allow appends again: the end could not be stored."""
        if (log := self._logs.get(run_id)) is not None:
            log.ends -= 1

    def ended(self, run_id: str) -> None:
        """Forget a run whose log is in the database durably, or that was deleted."""
        if self._logs.pop(run_id, None) is not None:
            self._segments.release(run_id)

    async def aclose(self) -> None:
        """Write and acknowledge what is pending, sync and close; harmless when repeated."""
        if self._pending:
            self._flush()
        self._logs.clear()
        await self._segments.aclose()

    def _flush(self) -> None:
        """Write all that is pending in one frame, then acknowledge it in order."""
        pending, self._pending = self._pending, []
        refused: dict[int, StorageError] = {}
        if pending:
            try:
                self._write(pending, refused)
            except Exception as exc:  # noqa: BLE001 - whatever it is, nobody may wait for ever
                self._complain(exc)
                error = StorageUnavailableError("the journal cannot be written")
                error.__cause__ = exc
                refused = dict.fromkeys(range(len(pending)), error) | refused
        for index, (_, _, acknowledge) in enumerate(pending):
            try:
                acknowledge(refused.get(index) if refused else None)
            except Exception as exc:  # noqa: BLE001 - one bad callback must not silence the others
                self._loop.call_exception_handler(
                    {"message": "acknowledge failed", "exception": exc}
                )

    def _write(self, pending: Sequence[_Pending], refused: dict[int, StorageError]) -> None:
        kept: list[tuple[LiveLog, int]] = []
        try:
            parts = self._stage(pending, kept, refused)
            if kept:
                self._segments.write(log_format.frame(parts))
        except Exception:
            for log, first in reversed(kept):
                log.drop(first)
            for log in self._logs.values():
                log.segment = None  # the records that open handles may be lost with this frame
            raise
        for log, _ in kept:
            log.settle()

        self._complained = False

    def _complain(self, fault: Exception) -> None:
        """Log the first of several failures: on a full disk every turn of the loop has one."""
        if not self._complained:
            _log.error("journal cannot be written", extra={"fault": name_of(fault)})
            self._complained = True

    def _stage(
        self,
        pending: Sequence[_Pending],
        kept: list[tuple[LiveLog, int]],
        refused: dict[int, StorageError],
    ) -> list[bytes]:
        """Return the records of all entries that may be written, and take those into their logs."""
        segment = self._segments.current()
        parts: list[bytes] = []
        for index, (entry, claimed_by, _) in enumerate(pending):
            log = self._logs.get(entry.run_id)
            first = entry.first
            if log is None or log.claimed_by != claimed_by or log.ends or first != log.next:
                if (error := _refusal(log, entry, claimed_by)) is not None:
                    refused[index] = error
                continue
            if log.segment is not segment:
                parts.append(_open(log, segment))
            record = entry_record(log.handle, entry)
            log.add(record, entry.last)
            parts.append(record)
            kept.append((log, first))
        return parts


def _stored(
    connection: sqlite3.Connection, key: tuple[str, str, str], after: int
) -> Sequence[LogEntry]:
    row = connection.execute(
        "SELECT body FROM run_logs WHERE tenant_id = ? AND user_id = ? AND run_id = ?", key
    ).fetchone()
    return log_format.entries(key[2], row["body"], after=after) if row else ()


def _open(log: LiveLog, segment: Segment) -> bytes:
    """Give the run a handle in this file and return the record that says so."""
    assert log.claimed_by is not None
    segment.handles += 1
    segment.runs.add(log.run_id)
    log.segment, log.handle = segment, segment.handles
    return log_format.opening_record(log.handle, log.run_id, log.claimed_by)


def _refusal(log: LiveLog | None, entry: LogEntry, claimed_by: str) -> StorageError | None:
    """Return why the entry is not the next one of its log, or `None` if it is there already."""
    if log is None or log.claimed_by != claimed_by or log.ends:
        return NotRunOwnerError("the run is not ours, or has ended")
    if entry.first > log.next:
        return StorageUnavailableError("an earlier entry was not kept")
    if log.holds(entry.first, entry.last):
        return None
    return LogSlotTakenError("the slot is taken")

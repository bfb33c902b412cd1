"""The embedded backend as a whole: one data folder, opened by one process."""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

from storage.blobs.blob_store import BlobStore
from storage.records import Owner, Run
from storage.repositories import Repositories
from storage.sqlite.connections import LocalConnections
from storage.sqlite.database import connect, prepare, usable
from storage.sqlite.folder import FolderLock, make_private
from storage.sqlite.journal import Journal, OwnedLog
from storage.sqlite.live_log import LiveLog
from storage.sqlite.memories import SqliteMemories
from storage.sqlite.messages import SqliteMessages
from storage.sqlite.payloads import SqlitePayloads
from storage.sqlite.purge import PayloadPurge, delete_expired
from storage.sqlite.recovery import recover
from storage.sqlite.rows import owner_of, run_of
from storage.sqlite.run_rows import OLDEST_FIRST
from storage.sqlite.runs import SqliteRuns
from storage.sqlite.segments import Segment, Segments
from storage.sqlite.sessions import SqliteSessions
from storage.sqlite.threads import PATIENCE, Reader, Writer
from storage.sqlite.tickets import SqliteTickets

Durability = Literal["process", "power"]
"""What an `accept` survives when it returns: the end of the process, or also a power cut."""

DATABASE: Final = "makoto.db"
JOURNAL: Final = "journal"

BOUND_MAX: Final = 1_024
"""Of how many owners the repositories are kept; others get new ones."""

_UNFINISHED = f"""
    SELECT * FROM runs WHERE state IN ('queued', 'running') ORDER BY {OLDEST_FIRST}
"""  # noqa: S608 - a constant


async def open_store(
    folder: Path,
    *,
    durability: Durability = "process",
    clock: Callable[[], float] = time.time,
    patience: float = PATIENCE,
) -> "SqliteStore":
    """Open the data folder, make it ready after whatever happened to it, and own it until `aclose`.

    Runs that were live when the last process ended are found by `SqliteStore.unfinished`, with the
    lease of their owner over and their entries readable.

    Args:
        folder: created when missing, private to its user.
        durability: `finish` always waits for the disk; `power` makes accepts and claims wait too.
        clock: Unix time in seconds.
        patience: seconds until a call that the database does not answer fails.

    Raises:
        UnusableDataError: the folder is in use, cannot be read or written, is no data of this program
            or that of a newer version; its text is one line for the operator. Nothing was changed.
    """
    opening = asyncio.ensure_future(asyncio.to_thread(_Opened, folder))
    try:
        opened = await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close_unused)
        raise
    reader = Reader("makoto-read", opened.reading, patience=patience)
    writer = Writer("makoto-write", opened.writing, patience=patience)
    return SqliteStore(
        lock=opened.lock,
        reader=reader,
        writer=writer,
        journal=Journal(Segments(folder / JOURNAL, opened.segments), opened.logs, reader),
        durability=durability,
        clock=clock,
    )


class SqliteStore:
    """`EmbeddedStore` of the embedded backend; made by `open_store`, ended by `aclose`."""

    def __init__(
        self,
        *,
        lock: FolderLock,
        reader: Reader,
        writer: Writer,
        journal: Journal,
        durability: Durability,
        clock: Callable[[], float],
    ) -> None:
        self._lock = lock
        self._reader = reader
        self._writer = writer
        self._journal = journal
        self._durable = durability == "power"
        self._clock = clock
        self._bound = lru_cache(BOUND_MAX)(self._bind)
        self._tickets = SqliteTickets(reader, writer)
        self._connections = LocalConnections(clock)
        self._payloads = PayloadPurge(reader, writer)

    @property
    def tickets(self) -> SqliteTickets:
        """Handshake tickets."""
        return self._tickets

    @property
    def connections(self) -> LocalConnections:
        """Open connections."""
        return self._connections

    def of(self, owner: Owner) -> Repositories:
        """Return the repositories bound to that owner; cheap, no I/O."""
        return self._bound(owner)

    def _bind(self, owner: Owner) -> Repositories:
        reader, writer = self._reader, self._writer
        return Repositories(
            sessions=SqliteSessions(owner, reader, writer, self._forgotten),
            messages=SqliteMessages(owner, reader),
            memories=SqliteMemories(owner, reader, writer),
            runs=SqliteRuns(owner, reader, writer, self._journal, durable=self._durable),
            log=OwnedLog(owner, self._journal),
            payloads=SqlitePayloads(owner, reader, writer, self._clock),
        )

    async def unfinished(self) -> Sequence[tuple[Owner, Run]]:
        """Return every run that is not ended, oldest first."""
        return await self._reader.call(_unfinished)

    async def purge(self, blobs: BlobStore, *, now: float, limit: int) -> int:
        """Delete up to `limit` expired rows, or try to; see `EmbeddedStore.purge`."""
        deleted = self._connections.purge(now=now, limit=limit)
        deleted += await self._writer.call(
            lambda connection: delete_expired(connection, now, limit - deleted)
        )
        return deleted + await self._payloads.step(blobs, now=now, limit=limit - deleted)

    async def aclose(self) -> None:
        """Write out what is pending, close everything and give the folder free."""
        async with contextlib.AsyncExitStack() as closing:
            closing.callback(self._lock.release)
            closing.push_async_callback(self._reader.aclose)
            closing.push_async_callback(self._writer.aclose)
            closing.push_async_callback(self._journal.aclose)

    def _forgotten(self, run_ids: Iterable[str]) -> None:
        for run_id in run_ids:
            self._journal.ended(run_id)


class _Opened:
    """What the opening thread hands to the loop."""

    def __init__(self, folder: Path) -> None:
        path = folder / DATABASE
        with contextlib.ExitStack() as undo:
            make_private(folder)
            self.lock = FolderLock(folder)
            undo.callback(self.lock.release)
            make_private(folder / JOURNAL)
            with usable(path):
                prepare(path)
                self.writing = undo.enter_context(contextlib.closing(connect(path)))
                self.reading = undo.enter_context(contextlib.closing(connect(path)))
                self.reading.execute("PRAGMA query_only=ON")
                self.logs, self.segments = _recover(self.writing, folder / JOURNAL)
            self.close = undo.pop_all().close


def _close_unused(opening: asyncio.Future[_Opened]) -> None:
    """Close what was opened for a caller that was cancelled meanwhile."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


def _recover(connection: sqlite3.Connection, folder: Path) -> tuple[list[LiveLog], list[Segment]]:
    """Read the journal, and let the database agree with it.

    Every lease is over with the process that held it, and a run that has entries was running.
    """
    logs = [LiveLog(owner, run.run_id, run.claimed_by) for owner, run in _unfinished(connection)]
    with usable(folder):
        segments = recover(folder, logs)
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("UPDATE runs SET lease_until = 0 WHERE state IN ('queued', 'running')")
    connection.executemany(
        "UPDATE runs SET state = 'running', claimed_by = ?"
        " WHERE tenant_id = ? AND user_id = ? AND run_id = ? AND state = 'queued'",
        [
            (log.claimed_by, log.owner.tenant_id, log.owner.user_id, log.run_id)
            for log in logs
            if log.claimed_by is not None
        ],
    )
    connection.execute("COMMIT")
    return logs, segments


def _unfinished(connection: sqlite3.Connection) -> Sequence[tuple[Owner, Run]]:
    return [(owner_of(row), run_of(row)) for row in connection.execute(_UNFINISHED)]

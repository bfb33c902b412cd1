"""Two threads between the event loop and SQLite: one that writes, in group commits, and one that reads.

A call from the loop becomes a `Job` in a bounded queue. The thread takes all jobs that wait, performs
them, and hands the whole batch back in one `call_soon_threadsafe`.
"""

import asyncio
import contextlib
import logging
import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Final, Generic, TypeVar

from storage.errors import StorageUnavailableError
from storage.sqlite.faults import as_storage_error, is_busy, name_of

T = TypeVar("T")

PATIENCE: Final = 4.5
"""Seconds until a caller hears that the database does not answer; the contract says within 5."""

MAX_WAITING: Final = 4096
"""Jobs that may wait for one thread; the next is refused at once."""

MAX_BATCH: Final = 256
_CLOSE_WITHIN: Final = 10.0

ERASE_EVERY: Final = 10.0
"""Seconds between two attempts to empty the write-ahead log: each waits for the disk."""

_log = logging.getLogger(__name__)

Work = Callable[[sqlite3.Connection], T]


class Job(Generic[T]):
    """One call on its way through a thread and back. It comes back even when its caller has left.

    Attributes:
        work: what to do with the thread's connection.
        durable: whether its commit waits until the disk has it (writer only).
        erases: whether what it deletes shall soon be in no file any more (writer only).
        done: called on the loop when the work is stored, before the caller goes on.
        failed: called on the loop instead when it is not.
        abandoned: set on the loop when the caller has left; the thread then skips what it has not begun.
        result: set by the thread, unless there is an `error`.
    """

    __slots__ = (
        "abandoned", "done", "durable", "erases", "error", "failed", "future", "result", "work",
    )  # fmt: skip

    def __init__(
        self,
        work: Work[T],
        future: asyncio.Future[T],
        *,
        durable: bool,
        erases: bool,
        done: Callable[[T], None] | None,
        failed: Callable[[], None] | None,
    ) -> None:
        self.work = work
        self.future = future
        self.durable = durable
        self.erases = erases
        self.done = done
        self.failed = failed
        self.abandoned = False
        self.error: Exception | None = None
        self.result: T

    def perform(self, connection: sqlite3.Connection) -> None:
        """Do the work, on the thread, and keep its result or its error."""
        try:
            self.result = self.work(connection)
        except Exception as exc:  # noqa: BLE001 - belongs to the caller, who gets it from `deliver`
            self.error = as_storage_error(exc)

    def deliver(self) -> None:
        """Tell the caller how it went, on the loop."""
        if self.error is not None:
            if self.failed is not None:
                self.failed()
            if not self.future.done():
                self.future.set_exception(self.error)
            return
        if self.done is not None:
            self.done(self.result)
        if not self.future.done():
            self.future.set_result(self.result)


class DatabaseThread(ABC):
    """One thread with one connection, from construction to `aclose`, which closes both.

    Args:
        name: of the thread.
        connection: handed over; nobody else may use it.
        patience: seconds until a caller is told that the database does not answer.
    """

    def __init__(self, name: str, connection: sqlite3.Connection, *, patience: float) -> None:
        self._connection = connection
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[Job[Any] | None] = SimpleQueue()
        self._waiting = 0
        self._closing = False
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._thread.start()

    async def call(
        self,
        work: Work[T],
        *,
        durable: bool = False,
        erases: bool = False,
        done: Callable[[T], None] | None = None,
        failed: Callable[[], None] | None = None,
    ) -> T:
        """Run `work` on the thread and return its result; arguments as in `Job`.

        Cancelling, or running out of patience, skips work that has not begun; what has begun is still
        stored, whole or not at all, and `done` or `failed` is still called.

        Raises:
            StorageUnavailableError: the queue is full, the database refuses or does not answer.
            StorageError: what `work` itself raises.
        """
        if self._closing or self._waiting >= MAX_WAITING:
            if failed is not None:
                failed()
            raise StorageUnavailableError("the database is closed or has too much to do")
        future: asyncio.Future[T] = self._loop.create_future()
        job = Job(work, future, durable=durable, erases=erases, done=done, failed=failed)
        self._waiting += 1
        self._queue.put(job)
        patience = self._loop.call_later(self._patience, _give_up, future)
        try:
            return await future
        finally:
            patience.cancel()
            job.abandoned = True

    async def aclose(self) -> None:
        """Finish the jobs that wait and close the connection; harmless when repeated."""
        if not self._closing:
            self._closing = True
            self._queue.put(None)
        try:
            async with asyncio.timeout(_CLOSE_WITHIN):
                await self._ended.wait()
        except TimeoutError:
            _log.error("database thread does not end", extra={"database_thread": self._thread.name})
            return
        self._thread.join()

    @abstractmethod
    def _perform(self, batch: Sequence[Job[Any]]) -> None:
        """Give every job of the batch a result or an error."""

    @abstractmethod
    def _rest(self) -> None:
        """Get ready for the next batch, while nobody waits."""

    def _main(self) -> None:
        try:
            while batch := self._take():
                try:
                    self._perform(batch)
                except Exception as exc:  # noqa: BLE001 - the thread must outlive it
                    self._fail(batch, exc)
                self._loop.call_soon_threadsafe(self._deliver, batch)
                try:
                    self._rest()
                except Exception as exc:  # noqa: BLE001 - the next batch may find it mended
                    self._fail((), exc)
        finally:
            self._connection.close()
            with contextlib.suppress(RuntimeError):  # the loop was closed without `aclose`
                self._loop.call_soon_threadsafe(self._ended.set)

    def _fail(self, batch: Sequence[Job[Any]], fault: Exception) -> None:
        """Fail what an unforeseen fault left without a result, and leave no transaction open."""
        _log.error(
            "database thread failed",
            extra={"database_thread": self._thread.name},
            exc_info=fault,
        )
        _roll_back(self._connection)
        error = StorageUnavailableError("the database failed")
        error.__cause__ = fault
        for job in batch:
            job.error = job.error or error

    def _take(self) -> list[Job[Any]]:
        """Return all jobs that wait, at least one; none once the last is done after `aclose`."""
        batch: list[Job[Any]] = []
        job = self._queue.get()
        while job is not None:
            batch.append(job)
            if len(batch) >= MAX_BATCH:
                return batch
            try:
                job = self._queue.get_nowait()
            except Empty:
                return batch
        if batch:
            self._queue.put(None)  # comes back for the end mark after these
        return batch

    def _deliver(self, batch: Sequence[Job[Any]]) -> None:
        self._waiting -= len(batch)
        for job in batch:
            job.deliver()


class Reader(DatabaseThread):
    """Reads, one job after the other, each in a snapshot of committed data."""

    def _perform(self, batch: Sequence[Job[Any]]) -> None:
        for job in batch:
            if job.abandoned:
                job.error = StorageUnavailableError("nobody waits for it any more")
                continue
            try:
                self._read(job)
            except Exception as exc:  # noqa: BLE001 - the reads before it have succeeded
                self._fail((job,), exc)

    def _rest(self) -> None:
        """A reader is always ready."""

    def _read(self, job: Job[Any]) -> None:
        try:
            self._connection.execute("BEGIN")
            job.perform(self._connection)
            self._connection.execute("COMMIT")
        except sqlite3.Error as exc:
            job.error = as_storage_error(exc)
            _roll_back(self._connection)


class Writer(DatabaseThread):
    """Writes all jobs that wait in one transaction: one commit, and at most one wait for the disk.

    Each job of several runs inside a savepoint, so that a failing one leaves no trace and spoils no
    neighbour.
    """

    def __init__(self, name: str, connection: sqlite3.Connection, *, patience: float) -> None:
        self._synchronous = ""
        self._erasing = False
        self._erase_at = 0.0
        super().__init__(name, connection, patience=patience)

    def _perform(self, batch: Sequence[Job[Any]]) -> None:
        self._erasing = self._erasing or any(job.erases for job in batch)
        try:
            if self._begin(batch):
                if len(batch) == 1:
                    self._attempt_alone(batch[0])
                    return
                for job in batch:
                    self._attempt(job)
                self._connection.execute("COMMIT")
                return
            fault: Exception = StorageUnavailableError("nobody waits for it any more")
        except sqlite3.Error as exc:
            _log.warning("write transaction failed", extra={"fault": name_of(exc)})
            _roll_back(self._connection)
            fault = as_storage_error(exc)
        for job in batch:
            job.error = job.error or fault

    def _begin(self, batch: Sequence[Job[Any]]) -> bool:
        """Start a transaction, as often as somebody still waits for one; False when nobody does."""
        self._synchronise("FULL" if any(job.durable for job in batch) else "NORMAL")
        while not all(job.abandoned for job in batch):
            try:
                self._connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as exc:
                if not is_busy(exc):
                    raise
            else:
                return True
        return False

    def _synchronise(self, level: str) -> None:
        """Set when a commit waits for the disk; SQLite allows it outside a transaction only."""
        if self._synchronous != level:
            self._connection.execute(f"PRAGMA synchronous={level}")
            self._synchronous = level

    def _rest(self) -> None:
        """Most batches wait for no disk; one that did must not cost the next one a statement."""
        self._synchronise("NORMAL")
        if self._erasing and time.monotonic() >= self._erase_at:
            self._erase()

    def _erase(self) -> None:
        """Empty the write-ahead log, where pages are kept as they were before a deletion.

        A reader's snapshot, or a disk that fails, may prevent it: another batch will try again.
        See https://sqlite.org/pragma.html#pragma_wal_checkpoint.
        """
        self._erase_at = time.monotonic() + ERASE_EVERY
        with contextlib.suppress(sqlite3.Error):
            row = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self._erasing = row["busy"] != 0

    def _attempt_alone(self, job: Job[Any]) -> None:
        if job.abandoned:
            job.error = StorageUnavailableError("nobody waits for it any more")
        else:
            job.perform(self._connection)
        self._connection.execute("COMMIT" if job.error is None else "ROLLBACK")

    def _attempt(self, job: Job[Any]) -> None:
        if job.abandoned:
            job.error = StorageUnavailableError("nobody waits for it any more")
            return
        self._connection.execute("SAVEPOINT job")
        job.perform(self._connection)
        if job.error is not None:
            self._connection.execute("ROLLBACK TO job")
        self._connection.execute("RELEASE job")


def _give_up(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(StorageUnavailableError("the database does not answer"))


def _roll_back(connection: sqlite3.Connection) -> None:
    with contextlib.suppress(sqlite3.Error):
        if connection.in_transaction:
            connection.execute("ROLLBACK")

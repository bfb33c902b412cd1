import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from storage.errors import StorageUnavailableError, UnstorableTextError
from storage.sqlite import threads
from storage.sqlite.database import connect, prepare
from storage.sqlite.threads import Job, Reader, Writer
from tests.storage.sqlite.waiting import until

INSERT = "INSERT INTO notes VALUES (?)"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "test.db"
    prepare(path)
    connection = connect(path)
    connection.execute("CREATE TABLE notes (text TEXT UNIQUE)")
    connection.close()
    return path


class Traced:
    """A writer whose statements are recorded, and which can be held up."""

    def __init__(self, path: Path, patience: float) -> None:
        connection = connect(path)
        self.statements: list[str] = []
        connection.set_trace_callback(self.statements.append)
        self.writer = Writer("test-write", connection, patience=patience)
        self.reached = threading.Event()
        self.released = threading.Event()

    async def hold(self) -> "asyncio.Task[None]":
        """Keep the thread busy until `release`."""

        def work(connection: sqlite3.Connection) -> None:
            self.reached.set()
            self.released.wait(10)

        held = asyncio.create_task(self.writer.call(work))
        await until(self.reached.is_set)
        return held

    def release(self) -> None:
        self.statements.clear()
        self.released.set()

    def starting(self, *words: str) -> list[str]:
        return [each for each in self.statements if each.startswith(words)]


@pytest.fixture
async def traced(path: Path) -> AsyncIterator[Traced]:
    traced = Traced(path, patience=2.0)
    yield traced
    traced.released.set()
    await traced.writer.aclose()


def insert(text: str):
    def work(connection: sqlite3.Connection) -> str:
        connection.execute(INSERT, (text,))
        return text

    return work


def notes(path: Path) -> set[str]:
    connection = connect(path)
    try:
        return {text for (text,) in connection.execute("SELECT text FROM notes")}
    finally:
        connection.close()


async def test_jobs_that_wait_share_one_commit(traced: Traced, path: Path) -> None:
    held = await traced.hold()
    calls = [asyncio.create_task(traced.writer.call(insert(f"note {n}"))) for n in range(50)]
    await asyncio.sleep(0)
    traced.release()

    assert await asyncio.gather(held, *calls) == [None, *(f"note {n}" for n in range(50))]
    assert len(traced.starting("BEGIN")) == 1
    assert len(notes(path)) == 50


async def test_a_failing_job_spoils_no_neighbour(traced: Traced, path: Path) -> None:
    def half(connection: sqlite3.Connection) -> None:
        connection.execute(INSERT, ("half",))
        connection.execute(INSERT, ("lone \ud83d",))

    def bug(connection: sqlite3.Connection) -> None:
        connection.execute(INSERT, ("bug",))
        raise ZeroDivisionError

    held = await traced.hold()
    works = [insert("first"), half, bug, insert("last")]
    calls = [asyncio.create_task(traced.writer.call(work)) for work in works]
    await asyncio.sleep(0)
    traced.release()
    outcomes = await asyncio.gather(held, *calls, return_exceptions=True)

    assert [type(each) for each in outcomes[1:]] == [
        str,
        UnstorableTextError,
        ZeroDivisionError,
        str,
    ]
    assert len(traced.starting("COMMIT")) == 2  # that of the holding job, and one for these
    assert notes(path) == {"first", "last"}


async def test_a_job_alone_that_fails_leaves_no_trace(traced: Traced, path: Path) -> None:
    def half(connection: sqlite3.Connection) -> None:
        insert("half")(connection)
        raise ZeroDivisionError

    await traced.writer.call(insert("before"))
    with pytest.raises(ZeroDivisionError):
        await traced.writer.call(half)
    await traced.writer.call(insert("behind"))
    assert notes(path) == {"before", "behind"}
    assert traced.starting("SAVEPOINT") == []


@pytest.mark.parametrize(
    ("durable", "level"), [([False, False], "NORMAL"), ([False, True], "FULL")], ids=str
)
async def test_a_batch_waits_for_the_disk_if_one_of_its_jobs_must(
    traced: Traced, durable: list[bool], level: str
) -> None:
    await traced.writer.call(insert("before"), durable=level == "NORMAL")
    held = await traced.hold()
    calls = [
        asyncio.create_task(traced.writer.call(insert(f"note {n}"), durable=each))
        for n, each in enumerate(durable)
    ]
    await asyncio.sleep(0)
    traced.statements.clear()
    traced.released.set()
    await asyncio.gather(held, *calls)

    await traced.writer.call(lambda connection: None)  # which must find it as it likes it
    pragmas = traced.starting("PRAGMA")
    both = ["PRAGMA synchronous=FULL", "PRAGMA synchronous=NORMAL"]
    assert pragmas == ([] if level == "NORMAL" else both)


async def test_a_full_database_fails_whole_jobs_and_works_again(traced: Traced, path: Path) -> None:
    await traced.writer.call(lambda connection: connection.execute("PRAGMA max_page_count=60"))
    held = await traced.hold()
    works = [insert("small"), insert("x" * 1_000_000)]
    calls = [asyncio.create_task(traced.writer.call(work)) for work in works]
    await asyncio.sleep(0)
    traced.release()
    outcomes = await asyncio.gather(held, *calls, return_exceptions=True)

    assert isinstance(outcomes[2], StorageUnavailableError)
    assert notes(path) == ({"small"} if outcomes[1] == "small" else set())
    assert await traced.writer.call(insert("after")) == "after"


def logged(path: Path) -> int:
    """How many bytes the write-ahead log holds."""
    return path.with_name(path.name + "-wal").stat().st_size


async def test_what_shall_be_in_no_file_is_soon_in_no_write_ahead_log(
    traced: Traced, path: Path
) -> None:
    for _ in range(3):
        await traced.writer.call(insert("text"))
        assert logged(path)
        await traced.writer.call(lambda c: c.execute("DELETE FROM notes"), erases=True)
    await traced.writer.call(lambda connection: None)

    assert len(traced.starting("PRAGMA wal_checkpoint")) == 1  # as each waits for the disk
    assert logged(path)
    traced.writer._erase_at = 0
    await traced.writer.call(lambda connection: None)
    await until(lambda: not logged(path))


async def test_a_write_ahead_log_that_is_read_is_emptied_later(traced: Traced, path: Path) -> None:
    await traced.writer.call(insert("text"))
    reading = connect(path)
    reading.execute("BEGIN")
    reading.execute("SELECT * FROM notes").fetchall()
    await traced.writer.call(lambda c: c.execute("DELETE FROM notes"), erases=True)
    await until(lambda: traced.starting("PRAGMA wal_checkpoint"))
    await traced.writer.call(lambda connection: None)
    assert logged(path)

    reading.close()
    traced.writer._erase_at = 0
    await traced.writer.call(lambda connection: None)
    await until(lambda: not logged(path))


async def test_more_jobs_than_may_wait_are_refused_at_once(
    traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "MAX_WAITING", 3)
    held = await traced.hold()
    waiting = [asyncio.create_task(traced.writer.call(insert(f"{n}"))) for n in range(2)]
    await asyncio.sleep(0)

    with pytest.raises(StorageUnavailableError):
        await traced.writer.call(insert("too many"))
    traced.release()
    await asyncio.gather(held, *waiting)
    assert await traced.writer.call(insert("again")) == "again"


async def test_a_job_that_is_cancelled_before_it_begins_is_skipped(
    traced: Traced, path: Path
) -> None:
    held = await traced.hold()
    failed: list[bool] = []
    call = asyncio.create_task(
        traced.writer.call(insert("never"), failed=lambda: failed.append(True))
    )
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    traced.release()
    await held
    await traced.writer.call(insert("later"))

    assert notes(path) == {"later"}
    assert failed == [True]


async def test_a_job_that_is_cancelled_while_it_runs_is_stored_whole(
    traced: Traced, path: Path
) -> None:
    stored: list[str] = []

    def work(connection: sqlite3.Connection) -> str:
        connection.execute(INSERT, ("one",))
        traced.reached.set()
        traced.released.wait(10)
        connection.execute(INSERT, ("two",))
        return "both"

    call = asyncio.create_task(traced.writer.call(work, done=stored.append))
    await until(traced.reached.is_set)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    traced.release()
    await until(lambda: stored)

    assert stored == ["both"]
    assert notes(path) == {"one", "two"}


async def test_a_caller_runs_out_of_patience(path: Path) -> None:
    traced = Traced(path, patience=0.05)
    held = await traced.hold()

    with pytest.raises(StorageUnavailableError):
        await traced.writer.call(insert("never"))
    with pytest.raises(StorageUnavailableError):
        await held
    traced.release()
    await traced.writer.aclose()
    assert notes(path) == set()


async def test_closing_finishes_what_waits_and_refuses_more(traced: Traced, path: Path) -> None:
    held = await traced.hold()
    calls = [asyncio.create_task(traced.writer.call(insert(f"{n}"))) for n in range(3)]
    await asyncio.sleep(0)
    closing = asyncio.create_task(traced.writer.aclose())
    await asyncio.sleep(0)
    traced.release()
    await asyncio.gather(held, *calls, closing)
    await traced.writer.aclose()

    assert len(notes(path)) == 3
    with pytest.raises(StorageUnavailableError):
        await traced.writer.call(insert("late"))


async def test_a_thread_that_does_not_end_is_logged_and_holds_up_nobody(
    traced: Traced, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(threads, "_CLOSE_WITHIN", 0.05)
    held = await traced.hold()
    await traced.writer.aclose()
    assert [record.message for record in caplog.records] == ["database thread does not end"]
    traced.release()
    await held
    await traced.writer.aclose()


async def test_a_setting_that_fails_between_two_batches_does_not_end_the_thread(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    connection = connect(path)
    writer = Writer("test-write", connection, patience=2.0)

    def work(connection: sqlite3.Connection) -> None:
        insert("durable")(connection)
        connection.set_authorizer(
            lambda action, *_: (
                sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_PRAGMA else sqlite3.SQLITE_OK
            )
        )

    await writer.call(work, durable=True)
    with pytest.raises(StorageUnavailableError):
        await writer.call(insert("refused"))
    connection.set_authorizer(None)

    assert await writer.call(insert("later")) == "later"
    assert notes(path) == {"durable", "later"}
    assert caplog.messages[:2] == ["database thread failed", "write transaction failed"]
    await writer.aclose()


class Breaking(Writer):
    """A writer that fails as no database does, in the middle of a transaction."""

    breaks = True

    def _attempt_alone(self, job: Job[Any]) -> None:
        super()._attempt_alone(job)
        if self.breaks:
            self._connection.execute("BEGIN IMMEDIATE")
            insert("half")(self._connection)
            raise MemoryError


async def test_a_fault_that_is_not_the_database_s_fails_its_batch_and_is_survived(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writer = Breaking("test-write", connect(path), patience=2.0)
    failed: list[bool] = []

    with pytest.raises(StorageUnavailableError):
        await writer.call(lambda connection: None, failed=lambda: failed.append(True))
    writer.breaks = False

    assert await writer.call(insert("later")) == "later"
    assert (failed, notes(path)) == ([True], {"later"})
    assert caplog.messages == ["database thread failed"]
    await writer.aclose()


async def test_more_jobs_than_one_batch_are_all_done(
    traced: Traced, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "MAX_BATCH", 4)
    held = await traced.hold()
    calls = [asyncio.create_task(traced.writer.call(insert(f"{n}"))) for n in range(10)]
    await asyncio.sleep(0)
    traced.release()
    await asyncio.gather(held, *calls)

    assert len(traced.starting("BEGIN")) == 3
    assert len(notes(path)) == 10


async def test_a_reader_sees_committed_data_only(traced: Traced, path: Path) -> None:
    reader = Reader("test-read", connect(path), patience=2.0)

    def count(connection: sqlite3.Connection) -> int:
        (number,) = connection.execute("SELECT COUNT(*) FROM notes").fetchone()
        return number

    def work(connection: sqlite3.Connection) -> None:
        connection.execute(INSERT, ("unseen",))
        traced.reached.set()
        traced.released.wait(10)

    call = asyncio.create_task(traced.writer.call(work))
    await until(traced.reached.is_set)
    assert await reader.call(count) == 0
    traced.release()
    await call
    assert await reader.call(count) == 1
    await reader.aclose()


class Faulty:
    """A connection that fails as no database does, once, at the third `BEGIN` it is given."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._begun = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        self._begun += sql == "BEGIN"
        if self._begun == 3:
            self._begun += 1
            raise MemoryError
        return self._connection.execute(sql, *values)


async def test_a_fault_that_is_not_the_database_s_fails_one_read_and_no_neighbour(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reader = Reader("test-read", Faulty(connect(path)), patience=2.0)  # type: ignore[arg-type]
    reached, released = threading.Event(), threading.Event()

    def hold(_: sqlite3.Connection) -> str:
        reached.set()
        released.wait(10)
        return "held"

    held = asyncio.create_task(reader.call(hold))
    await until(reached.is_set)
    reads = [asyncio.create_task(reader.call(lambda _, n=n: n)) for n in range(3)]
    await asyncio.sleep(0)
    released.set()
    outcomes = await asyncio.gather(*reads, return_exceptions=True)
    assert await held == "held"
    assert outcomes[0] == 0, "it was read before the fault"
    assert isinstance(outcomes[1], StorageUnavailableError)
    assert outcomes[2] == 2
    assert caplog.messages == ["database thread failed"]
    await reader.aclose()


async def test_a_failing_read_leaves_the_reader_usable(path: Path) -> None:
    reader = Reader("test-read", connect(path), patience=2.0)

    with pytest.raises(StorageUnavailableError):
        await reader.call(lambda connection: connection.execute("SELECT * FROM nothing"))
    with pytest.raises(ZeroDivisionError):
        await reader.call(lambda connection: 1 / 0)
    assert await reader.call(lambda connection: connection.in_transaction) is True
    await reader.aclose()

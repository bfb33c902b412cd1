import asyncio
import errno
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from storage.errors import NotRunOwnerError, StorageError, StorageUnavailableError
from storage.records import LogEntry, Run
from storage.sqlite import segments, threads
from storage.sqlite.segments import SYNC_EVERY, Segments
from storage.sqlite.store import SqliteStore, open_store
from tests.storage.samples import (
    ANNA,
    NOW,
    append,
    completion,
    entry,
    finished,
    running,
    send,
)
from tests.storage.sqlite.waiting import until

Write = Callable[[int, bytes], int]


class Disk:
    """Stands before `os.write`: counts what is written and fails when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.writes: list[bytes] = []
        self.fault: int | None = None
        self.takes: int | None = None
        self._write: Write = os.write
        monkeypatch.setattr(segments.os, "write", self.write)

    def write(self, descriptor: int, data: bytes) -> int:
        if self.takes is not None:
            return self._write(descriptor, data[: self.takes])
        if self.fault is not None:
            raise OSError(self.fault, os.strerror(self.fault))
        self.writes.append(data)
        return self._write(descriptor, data)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


async def runs(store: SqliteStore, count: int) -> list[Run]:
    return [await running(store, send(f"s{n}", session_id=f"{n}", new=True)) for n in range(count)]


def files(folder: Path) -> list[Path]:
    return sorted((folder / "journal").iterdir())


async def log_of(store: SqliteStore, run: Run) -> list[LogEntry]:
    return list(await store.of(ANNA).log.read(run.run_id, after=0))


async def test_one_turn_of_the_loop_is_one_write(store: SqliteStore, disk: Disk) -> None:
    several = await runs(store, 3)
    verdicts: list[StorageError | None] = []
    for number in (1, 2, 3):
        for run in several:
            store.of(ANNA).log.append(
                entry(run, number), claimed_by="claim", acknowledge=verdicts.append
            )

    assert disk.writes == []
    await asyncio.sleep(0)
    assert len(disk.writes) == 1
    assert verdicts == [None] * 9


async def test_nothing_is_acknowledged_before_it_is_written(store: SqliteStore, disk: Disk) -> None:
    (run,) = await runs(store, 1)
    written_then: list[int] = []
    store.of(ANNA).log.append(
        entry(run, 1),
        claimed_by="claim",
        acknowledge=lambda error: written_then.append(len(disk.writes)),
    )
    await asyncio.sleep(0)

    assert written_then == [1]


async def test_a_disk_that_fails_refuses_the_entries_and_is_asked_again(
    disk: Disk, folder: Path
) -> None:
    store = await open_store(folder)
    one, two = await runs(store, 2)
    await append(store.of(ANNA).log, entry(one, 1))
    size = files(folder)[0].stat().st_size
    disk.fault = errno.ENOSPC
    verdicts: list[StorageError | None] = []
    for slot in (entry(one, 2), entry(one, 3), entry(two, 1)):
        store.of(ANNA).log.append(slot, claimed_by="claim", acknowledge=verdicts.append)
    await asyncio.sleep(0)

    assert [type(verdict) for verdict in verdicts] == [StorageUnavailableError] * 3
    assert files(folder)[0].stat().st_size == size
    assert await log_of(store, one) == [entry(one, 1)]
    assert await log_of(store, two) == []

    disk.fault = None
    for slot in (entry(one, 2, 3), entry(two, 1)):
        await append(store.of(ANNA).log, slot)
    await store.aclose()
    store = await open_store(folder)
    assert await log_of(store, one) == [entry(one, 1), entry(one, 2, 3)]
    assert await log_of(store, two) == [entry(two, 1)]
    await store.aclose()


@pytest.mark.parametrize("repairs", [True, False], ids=["truncates", "cannot even truncate"])
async def test_half_a_write_leaves_no_trace(
    folder: Path, disk: Disk, repairs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await open_store(folder)
    one, two = await runs(store, 2)
    await append(store.of(ANNA).log, entry(one, 1))
    disk.takes = 17
    with monkeypatch.context() as patch:
        if not repairs:
            patch.setattr(segments.os, "ftruncate", failing_truncate)
        with pytest.raises(StorageUnavailableError):
            await append(store.of(ANNA).log, entry(one, 2))
    disk.takes = None
    await append(store.of(ANNA).log, entry(two, 1))
    await append(store.of(ANNA).log, entry(one, 2))
    expected = [await log_of(store, run) for run in (one, two)]
    assert len(files(folder)) == (1 if repairs else 2)
    await store.aclose()

    store = await open_store(folder)
    assert [await log_of(store, run) for run in (one, two)] == expected
    assert [len(log) for log in expected] == [2, 1]
    await store.aclose()


def failing_truncate(descriptor: int, length: int) -> None:
    raise OSError(errno.EIO, "input/output error")


async def test_an_entry_that_no_log_can_hold_is_refused_and_leaves_no_trace(folder: Path) -> None:
    store = await open_store(folder)
    (run,) = await runs(store, 1)

    for bad in (entry(run, 1, 2**32), replace(entry(run, 1), body=None)):
        with pytest.raises(StorageUnavailableError):
            await append(store.of(ANNA).log, bad)
    await append(store.of(ANNA).log, entry(run, 1))
    await store.aclose()
    store = await open_store(folder)
    assert await log_of(store, run) == [entry(run, 1)]
    await store.aclose()


async def test_a_full_disk_is_logged_once_until_it_is_well_again(
    store: SqliteStore, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    (run,) = await runs(store, 1)
    for number in (1, 2):
        disk.fault = errno.ENOSPC
        for _ in range(3):
            with pytest.raises(StorageUnavailableError):
                await append(store.of(ANNA).log, entry(run, number))
        disk.fault = None
        await append(store.of(ANNA).log, entry(run, number))

    assert caplog.messages == ["journal cannot be written"] * 2


async def test_a_journal_that_cannot_be_made_refuses_and_is_made_later(
    store: SqliteStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing_open(*args: object) -> int:
        raise OSError(errno.EMFILE, "too many open files")

    (run,) = await runs(store, 1)
    with monkeypatch.context() as patch:
        patch.setattr(segments.os, "open", failing_open)
        with pytest.raises(StorageUnavailableError):
            await append(store.of(ANNA).log, entry(run, 1))
    await append(store.of(ANNA).log, entry(run, 1))

    assert len(files(folder)) == 1


async def test_a_file_goes_when_all_its_runs_have_ended(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(Segments.__init__.__kwdefaults__, "segment_bytes", 200)
    store = await open_store(folder)
    one, two = await runs(store, 2)
    body = b"x" * 150
    for number in (1, 2, 3):
        await append(store.of(ANNA).log, entry(one, number, body=body))
    await append(store.of(ANNA).log, entry(two, 1, body=body))
    await append(store.of(ANNA).log, entry(two, 2, body=body))
    before = files(folder)
    assert len(before) > 2

    await store.of(ANNA).runs.finish(completion(one, first=4))
    await until(lambda: len(files(folder)) < len(before))
    assert len(await log_of(store, two)) == 2
    await store.of(ANNA).runs.finish(completion(two, first=3))
    await until(lambda: len(files(folder)) <= 1)
    await store.aclose()
    assert files(folder) == []


async def test_a_file_is_not_kept_for_long_when_its_runs_have_ended(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(Segments.__init__.__kwdefaults__, "segment_seconds", 0.05)
    store = await open_store(folder)
    for number in (1, 2):
        run = await running(store, send(f"s{number}", session_id=f"{number}", new=True))
        await append(store.of(ANNA).log, entry(run, 1))
        assert len(files(folder)) == 1
        await store.of(ANNA).runs.finish(completion(run, first=2))
        await until(lambda: not files(folder))
        assert len(await log_of(store, run)) == 2
    await store.aclose()


async def test_a_file_that_is_old_is_kept_while_a_run_needs_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(Segments.__init__.__kwdefaults__, "segment_seconds", 0.05)
    store = await open_store(folder)
    (run,) = await runs(store, 1)
    for number in (1, 2, 3):
        await append(store.of(ANNA).log, entry(run, number))
        await until(lambda: store._journal._segments._current is None)
        assert len(files(folder)) == number
    await store.aclose()

    store = await open_store(folder)
    assert await log_of(store, run) == [entry(run, number) for number in (1, 2, 3)]
    await store.of(ANNA).runs.take_over(run.run_id, claimed_by="sealer", now=NOW)
    await store.of(ANNA).runs.finish(completion(run, first=4, claimed_by="sealer"))
    await until(lambda: not files(folder))
    await store.aclose()


async def test_a_forgotten_text_is_in_no_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(Segments.__init__.__kwdefaults__, "segment_seconds", 0.05)
    monkeypatch.setattr(threads, "ERASE_EVERY", 0)
    store = await open_store(folder)
    secret = "what nobody shall know "
    run = await running(store, send(new=True, content=secret))
    await append(store.of(ANNA).log, entry(run, 1, body=secret.encode() * 1000))
    reply = completion(run, first=2, content=secret * 1000, memories=(secret,))
    await store.of(ANNA).runs.finish(reply)
    await store.of(ANNA).memories.forget(reply.memories[0].memory_id)

    def holding() -> list[Path]:
        paths = filter(Path.is_file, folder.rglob("*"))
        return [path for path in paths if secret.encode() in path.read_bytes()]

    assert holding()
    await store.of(ANNA).sessions.forget("session-1", now=NOW)
    await until(lambda: not holding())
    await store.aclose()
    assert not holding()


async def test_a_forgotten_session_frees_its_files(folder: Path) -> None:
    store = await open_store(folder)
    run = await running(store, send(new=True))
    await append(store.of(ANNA).log, entry(run, 1))
    await store.of(ANNA).sessions.forget("session-1", now=NOW)
    await store.aclose()

    assert files(folder) == []


async def test_a_live_run_keeps_its_file_over_a_restart(folder: Path) -> None:
    store = await open_store(folder)
    run = await running(store, send(new=True))
    await append(store.of(ANNA).log, entry(run, 1))
    await store.aclose()
    assert len(files(folder)) == 1

    store = await open_store(folder)
    await store.of(ANNA).runs.take_over(run.run_id, claimed_by="sealer", now=NOW)
    await append(store.of(ANNA).log, entry(run, 2), claimed_by="sealer")
    assert len(files(folder)) == 2
    await store.of(ANNA).runs.finish(completion(run, first=3, claimed_by="sealer"))
    await until(lambda: len(files(folder)) == 1)
    await store.aclose()
    assert files(folder) == []


async def test_what_was_written_is_synced_off_the_loop_and_then_there_is_peace(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(
        segments, "_sync_data", lambda descriptor: synced.append(threading.current_thread().name)
    )
    (run,) = await runs(store, 1)
    began = time.monotonic()
    for number in range(1, 20):
        await append(store.of(ANNA).log, entry(run, number))
    journal = store._journal._segments
    assert journal._sync_due is not None
    await until(lambda: journal._sync_due is None)

    assert 1 <= len(synced) <= (time.monotonic() - began) / SYNC_EVERY
    assert all(name.startswith("makoto-journal") for name in synced)


async def test_a_slow_sync_is_not_piled_upon(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, release = threading.Semaphore(0), threading.Event()
    under_way = 0
    most = 0

    def slow(descriptor: int) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        started.release()
        release.wait(10)
        under_way -= 1

    monkeypatch.setattr(segments, "_sync_data", slow)
    (run,) = await runs(store, 1)
    await append(store.of(ANNA).log, entry(run, 1))
    await until(lambda: started.acquire(blocking=False))
    for number in range(2, 30):
        await append(store.of(ANNA).log, entry(run, number))
        await asyncio.sleep(0.005)
    queued = store._journal._segments._background._work_queue.qsize()
    release.set()

    assert queued == 0
    await until(lambda: store._journal._segments._sync_due is None)
    assert most == 1


async def test_a_failing_sync_is_logged_and_the_log_goes_on(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(descriptor: int) -> None:
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(segments, "_sync_data", failing)
    (run,) = await runs(store, 1)
    await append(store.of(ANNA).log, entry(run, 1))
    await until(lambda: "journal cannot be synced" in caplog.messages)
    await append(store.of(ANNA).log, entry(run, 2))


async def test_appends_after_closing_are_refused(folder: Path) -> None:
    store = await open_store(folder)
    run = await running(store, send(new=True))
    verdicts: list[StorageError | None] = []
    store.of(ANNA).log.append(entry(run, 1), claimed_by="claim", acknowledge=verdicts.append)
    await store.aclose()
    assert verdicts == [None]
    await store.aclose()

    with pytest.raises(StorageError):
        await append(store.of(ANNA).log, entry(run, 2))
    with pytest.raises(StorageUnavailableError):
        await store.of(ANNA).log.read(run.run_id, after=0)


async def test_an_end_that_cannot_be_stored_leaves_the_run_open(
    store: SqliteStore, folder: Path
) -> None:
    run = await running(store, send(new=True))
    await append(store.of(ANNA).log, entry(run, 1))
    other = await finished(store, send("other", session_id="x", new=True))
    bad = completion(run, first=2)
    clash = completion(other).reply
    assert bad.reply is not None
    assert clash is not None

    with pytest.raises(StorageError):
        await store.of(ANNA).runs.finish(
            replace(bad, reply=replace(bad.reply, message_id=clash.message_id))
        )
    await append(store.of(ANNA).log, entry(run, 2))
    await store.of(ANNA).runs.finish(completion(run, first=3))
    assert [slot.first for slot in await log_of(store, run)] == [1, 2, 3]


async def test_an_end_that_is_refused_at_once_leaves_the_run_open(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await running(store, send(new=True))
    with monkeypatch.context() as patch:
        patch.setattr(threads, "MAX_WAITING", 0)
        with pytest.raises(StorageUnavailableError):
            await store.of(ANNA).runs.finish(completion(run))
    await append(store.of(ANNA).log, entry(run, 1))
    await store.of(ANNA).runs.finish(completion(run, first=2))


async def test_one_of_two_ends_that_fails_lets_nobody_append_before_the_other(
    store: SqliteStore,
) -> None:
    run = await running(store, send(new=True))
    await store._journal.begin_end(completion(run))
    await store._journal.begin_end(completion(run))
    store._journal.undo_end(run.run_id)

    with pytest.raises(StorageError):
        await append(store.of(ANNA).log, entry(run, 1))
    store._journal.undo_end(run.run_id)
    await append(store.of(ANNA).log, entry(run, 1))


async def test_an_end_of_somebody_else_does_not_keep_the_owner_from_appending(
    store: SqliteStore,
) -> None:
    run = await running(store, send(new=True))
    with pytest.raises(NotRunOwnerError):
        await store.of(ANNA).runs.finish(completion(run, claimed_by="another"))

    await append(store.of(ANNA).log, entry(run, 1))
    await store.of(ANNA).runs.finish(completion(run, first=2))


async def test_nobody_appends_while_the_end_is_stored(store: SqliteStore) -> None:
    run = await running(store, send(new=True))
    finish = asyncio.create_task(store.of(ANNA).runs.finish(completion(run)))
    await asyncio.sleep(0)

    with pytest.raises(StorageError):
        await append(store.of(ANNA).log, entry(run, 1))
    await finish
    assert [slot.body for slot in await log_of(store, run)] == [b'{"type":"done"}']


async def test_a_cancelled_finish_is_stored_and_forgotten_by_the_journal(
    store: SqliteStore,
) -> None:
    run = await running(store, send(new=True))
    await append(store.of(ANNA).log, entry(run, 1))
    finish = asyncio.create_task(store.of(ANNA).runs.finish(completion(run, first=2)))
    await asyncio.sleep(0)
    assert store._journal._logs[run.run_id].ends
    finish.cancel()
    with pytest.raises(asyncio.CancelledError):
        await finish

    # Whether the thread had begun is a race; both outcomes are whole.
    await until(lambda: store._writer._waiting == 0)
    stored = await store.of(ANNA).runs.get(run.run_id)
    assert stored is not None
    if stored.state == "running":
        await store.of(ANNA).runs.finish(completion(run, first=2))
    assert run.run_id not in store._journal._logs
    assert [slot.first for slot in await log_of(store, run)] == [1, 2]

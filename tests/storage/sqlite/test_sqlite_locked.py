"""Another program holds a lock on the database file: nobody hangs, nothing is half done."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from storage.errors import StorageUnavailableError, UnusableDataError
from storage.sqlite import database
from storage.sqlite.store import DATABASE, SqliteStore, open_store
from tests.storage.samples import ANNA, accept, append, entry, running, send

LOCKER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""


@asynccontextmanager
async def locked(path: Path) -> AsyncIterator[None]:
    """Another process holds the write lock of the database."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        LOCKER,
        str(path),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert await asyncio.wait_for(process.stdout.readline(), 10) == b"locked\n"
        yield
    finally:
        process.stdin.close()
        await asyncio.wait_for(process.wait(), 10)


class Pulse:
    """Beats on the loop every 2 ms and keeps the longest time between two beats."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def __aenter__(self) -> "Pulse":
        self._task = asyncio.create_task(self._beat())
        return self

    async def __aexit__(self, *args: object) -> None:
        self._task.cancel()

    async def _beat(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.002)
            self.longest = max(self.longest, time.monotonic() - before)


async def test_writes_fail_in_time_and_the_loop_goes_on(store: SqliteStore, folder: Path) -> None:
    acceptance = send(new=True)
    async with locked(folder / DATABASE), Pulse() as pulse:
        began = time.monotonic()
        with pytest.raises(StorageUnavailableError):
            await store.of(ANNA).runs.accept(acceptance)
        took = time.monotonic() - began

    assert 0.9 < took < 5  # the patience of this store is 1 s
    assert pulse.longest < 0.8  # a blocked loop would have missed all beats of that second
    assert await store.of(ANNA).runs.get(acceptance.run.run_id) is None
    await accept(store, acceptance)


async def test_reads_and_logs_go_on(store: SqliteStore, folder: Path) -> None:
    run = await running(store, send(new=True))
    async with locked(folder / DATABASE):
        await append(store.of(ANNA).log, entry(run, 1))
        assert await store.of(ANNA).runs.get(run.run_id) == run
        assert len(await store.of(ANNA).log.read(run.run_id, after=0)) == 1


async def test_a_write_waits_for_a_short_lock(store: SqliteStore, folder: Path) -> None:
    async with locked(folder / DATABASE):
        waiting = asyncio.create_task(accept(store, send(new=True)))
        await asyncio.sleep(0.02)
        assert not waiting.done()
    await waiting


async def test_closing_does_not_wait_for_the_lock_for_ever(folder: Path) -> None:
    store = await open_store(folder, patience=0.2)
    async with locked(folder / DATABASE):
        waiting = asyncio.create_task(accept(store, send(new=True)))
        await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await store.aclose()
        with pytest.raises(StorageUnavailableError):
            await waiting


async def test_a_start_beside_a_lock_ends_with_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_START_BUSY_MS", 50)
    await (await open_store(folder)).aclose()
    async with locked(folder / DATABASE):
        with pytest.raises(UnusableDataError, match="is locked by another program"):
            await open_store(folder)

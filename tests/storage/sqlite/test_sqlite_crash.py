"""What was acknowledged is there, once, after kill -9, whenever it comes."""

import asyncio
import os
import random
import resource
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

from storage.blobs.files import open_file_blobs
from storage.keys import blob_key, run_id
from storage.sqlite.store import DATABASE, SqliteStore, open_store
from tests.storage.samples import ANNA, NOW, Clock

KILLS = 40
CHECK_EVERY = 4
"""Kills; in between the next process alone has to make do with what it finds."""

WORKER = Path(__file__).with_name("busy_process.py")
ROOT = Path(__file__).parents[3]


class Workers:
    """Processes one after the other, each killed at some moment; see `busy_process`.

    Attributes:
        said: what all of them have said, in words.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.said: list[list[str]] = []
        self._say, self._hear = process.stdin, process.stdout

    async def work(self, prefix: str, *, lines: int, longer_s: float) -> None:
        """Have one work until it has said that many lines, and for that much longer; then kill it."""
        self._say.write(f"{prefix}\n".encode())
        async with asyncio.timeout(30):
            born, pid = await self._line()
            assert born == "born"
            for _ in range(lines):
                self.said.append(await self._line())
            await asyncio.sleep(longer_s)
            os.kill(int(pid), signal.SIGKILL)
            while (line := await self._line())[
                0
            ] != "ended":  # what it said before the signal arrived
                self.said.append(line)
        assert int(line[1]) == signal.SIGKILL, "it broke by itself"

    async def _line(self) -> list[str]:
        return (await self._hear.readline()).decode().split()


@asynccontextmanager
async def workers(folder: Path) -> AsyncIterator[Workers]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(WORKER),
        str(folder),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert process.stdin is not None
    try:
        yield Workers(process)
    finally:
        process.stdin.close()
        async with asyncio.timeout(30):
            await process.wait()


async def check(folder: Path, said: list[list[str]]) -> None:
    """Find all that was said in the folder, each thing once."""
    with closing(sqlite3.connect(folder / DATABASE)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    store = await open_store(folder, clock=Clock())
    try:
        told = [line for line in said if len(line) > 1]
        progress: Counter[str] = Counter()
        for what, name, *number in told:
            if what != "stored":
                progress[name] = max(progress[name], *map(int, number), 0)
        finished = {name for what, name, *_ in told if what == "finished"}
        for name, shown in progress.items():
            await check_run(store, name, shown=shown, finished=name in finished)
        for owner, run in await store.unfinished():
            assert owner == ANNA
            assert (run.state == "running") == (run.claimed_by == "claim")
        await check_blobs(store, folder, {name for what, name, *_ in told if what == "stored"})
    finally:
        await store.aclose()


async def check_run(store: SqliteStore, name: str, *, shown: int, finished: bool) -> None:
    run = await store.of(ANNA).runs.get(run_id(ANNA, name))
    assert run is not None, f"{name} was accepted and is lost"
    log = await store.of(ANNA).log.read(run.run_id, after=0)
    assert [slot.first for slot in log] == list(range(1, len(log) + 1))
    assert len(log) >= shown, f"{name} showed {shown} and kept {len(log)}"
    kept = (await store.of(ANNA).messages.page(name, before=None, limit=10)).items
    roles = [message.role for message in kept]
    assert roles == (["assistant", "user"] if run.state == "ended" else ["user"])
    if finished:
        assert (run.state, run.last_seq) == ("ended", len(log))


async def check_blobs(store: SqliteStore, folder: Path, stored: set[str]) -> None:
    blobs = await open_file_blobs(folder)
    try:
        for name in stored:
            assert await store.of(ANNA).payloads.get(name) is not None
            assert await blobs.get(blob_key(ANNA, name)) == b"body"
        while await store.purge(blobs, now=NOW + 1, limit=500) == 500:
            pass
    finally:
        await blobs.aclose()
    left = [path for path in (folder / "blobs").rglob("*") if path.is_file()]
    assert left == [], "no row knows of them, so no purge ever will"


async def test_what_was_acknowledged_survives_every_kill(folder: Path) -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    try:
        async with workers(folder) as those:
            checked = 0
            for kill in range(KILLS):
                lines = chance.choice([0, 1, 2, 3, chance.randint(4, 40), chance.randint(40, 250)])
                await those.work(f"{kill}", lines=lines, longer_s=chance.uniform(0, 0.01))
                if (kill + 1) % CHECK_EVERY == 0:
                    await check(folder, those.said[checked:])
                    checked = len(those.said)
        assert {what for what, *_ in those.said} == {
            *("open", "accepted", "appended", "finished"),
            *("stored", "purged"),
        }
    except BaseException as exc:
        exc.add_note(f"seed {seed}")
        raise


FULL_DISK = """
import asyncio, resource, sys
from pathlib import Path
from storage.errors import StorageUnavailableError
from storage.sqlite.store import open_store
from tests.storage.samples import ANNA, append, entry, running, send

async def main():
    store = await open_store(Path(sys.argv[1]))
    run = await running(store, send(new=True))
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, {hard}))
    number = 0
    try:
        while True:
            await append(store.of(ANNA).log, entry(run, number + 1, body=b"x" * 1000))
            number += 1
    except StorageUnavailableError:
        print(number, flush=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, ({hard}, {hard}))
    await append(store.of(ANNA).log, entry(run, number + 1))
    print("went on", flush=True)
    import os
    os._exit(0)

asyncio.run(main())
"""


async def test_a_full_disk_loses_nothing_that_was_acknowledged(folder: Path) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        FULL_DISK.format(hard=hard),
        str(folder),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
    )
    said, _ = await asyncio.wait_for(process.communicate(), 30)
    number, went_on = said.decode().splitlines()
    assert went_on == "went on"
    assert 80 < int(number) < 100

    store = await open_store(folder)
    try:
        log = await store.of(ANNA).log.read(run_id(ANNA, "send-1"), after=0)
        assert [slot.first for slot in log] == list(range(1, int(number) + 2))
    finally:
        await store.aclose()

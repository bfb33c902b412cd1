"""What was acknowledged is there after kill -9, whenever it comes."""

import asyncio
import random
import resource
import sys
from pathlib import Path

from storage.keys import run_id
from storage.sqlite.store import SqliteStore, open_store
from tests.storage.samples import ANNA

KILLS = 15
WORKER = Path(__file__).with_name("busy_process.py")
ROOT = Path(__file__).parents[3]


async def work_until_killed(folder: Path, prefix: str, lines: int) -> list[list[str]]:
    """Kill a working process once it has said that many lines; return all that it said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(WORKER),
        str(folder),
        prefix,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    async with asyncio.timeout(30):
        said = [await process.stdout.readline() for _ in range(lines)]
        process.kill()
        rest = await process.stdout.read()  # what it said before the signal arrived
        await process.wait()
    whole = (b"".join(said) + rest).decode()
    assert whole.startswith("open\n"), whole
    return [line.split() for line in whole.splitlines() if whole.endswith("\n")]


async def check(store: SqliteStore, said: list[list[str]]) -> None:
    for what, name, *number in said:
        run = await store.of(ANNA).runs.get(run_id(ANNA, name))
        assert run is not None, f"{name} was accepted and is lost"
        log = await store.of(ANNA).log.read(run.run_id, after=0)
        assert [slot.first for slot in log] == list(range(1, len(log) + 1))
        if what in ("appended", "finished"):
            assert len(log) >= int(number[0]), f"{name} showed {number[0]} and kept {len(log)}"
        if what == "finished":
            assert (run.state, run.last_seq) == ("ended", len(log))
            assert await store.of(ANNA).messages.get(run.reply_id) is not None


async def test_what_was_acknowledged_survives_every_kill(folder: Path) -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    said: list[list[str]] = []
    for kill in range(KILLS):
        lines = chance.choice([1, 2, 3, chance.randint(4, 60), chance.randint(60, 400)])
        said += (await work_until_killed(folder, f"{kill}", lines))[1:]
        store = await open_store(folder)
        try:
            await check(store, said[-600:])
            for owner, run in await store.unfinished():
                assert owner == ANNA
                assert (run.state == "running") == (run.claimed_by == "claim")
        finally:
            await store.aclose()

    assert {what for what, *_ in said} == {"accepted", "appended", "finished"}, f"seed {seed}"


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

import shutil
from pathlib import Path

import pytest

from storage.records import Run
from storage.sqlite import log_format
from storage.sqlite.log_format import FRAME
from storage.sqlite.store import DATABASE, SqliteStore, open_store
from tests.storage.samples import ANNA, NOW, accept, append, completion, entry, running, send


async def crashed(folder: Path, copy: Path) -> tuple[Run, Run]:
    """Leave in `copy` what a killed process leaves: two live runs with three entries each, one by one."""
    store = await open_store(folder)
    one = await running(store, send("a", session_id="one", new=True))
    two = await running(store, send("b", session_id="two", new=True, at=NOW + 1))
    for number in (1, 2, 3):
        await append(store.of(ANNA).log, entry(one, number))
        await append(store.of(ANNA).log, entry(two, number))
    shutil.copytree(folder, copy)
    await store.aclose()
    return one, two


def journal(folder: Path) -> Path:
    (path,) = (folder / "journal").iterdir()
    return path


def frames(path: Path) -> list[tuple[int, int]]:
    """Return where each frame begins and ends."""
    places, start = [], 0
    for body in log_format.scan(path.read_bytes()).frames:
        places.append((start, start + FRAME.size + len(body)))
        start = places[-1][1]
    return places


async def firsts(store: SqliteStore, run: Run) -> list[int]:
    return [slot.first for slot in await store.of(ANNA).log.read(run.run_id, after=0)]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return tmp_path / "copy"


async def test_live_runs_are_found_and_taken_over_at_once(folder: Path, copy: Path) -> None:
    one, two = await crashed(folder, copy)
    store = await open_store(copy)

    unfinished = await store.unfinished()
    assert [(owner, run.run_id, run.state) for owner, run in unfinished] == [
        (ANNA, one.run_id, "running"),
        (ANNA, two.run_id, "running"),
    ]
    assert await firsts(store, one) == [1, 2, 3]
    taken = await store.of(ANNA).runs.take_over(one.run_id, claimed_by="sealer", now=NOW)
    await store.of(ANNA).runs.finish(completion(taken, first=4, claimed_by="sealer"))
    assert [run.run_id for _, run in await store.unfinished()] == [two.run_id]
    await store.aclose()


@pytest.mark.parametrize("missing", [1, 5, 20])
async def test_a_torn_tail_is_cut_off(
    folder: Path, copy: Path, missing: int, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = await crashed(folder, copy)
    path = journal(copy)
    whole = path.read_bytes()
    path.write_bytes(whole[:-missing])
    good = frames(path)[-1][1]
    store = await open_store(copy)

    assert await firsts(store, one) == [1, 2, 3]
    assert await firsts(store, two) == [1, 2]
    assert path.stat().st_size == good
    assert caplog.messages == []
    await store.aclose()


async def test_damage_in_the_middle_takes_only_the_run_it_hit(
    folder: Path, copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = await crashed(folder, copy)
    path = journal(copy)
    data = bytearray(path.read_bytes())
    start, end = frames(path)[2]  # entry 2 of the first run
    data[(start + end) // 2] ^= 0xFF
    path.write_bytes(data)
    store = await open_store(copy)

    assert await firsts(store, one) == [1]
    assert await firsts(store, two) == [1, 2, 3]
    assert caplog.messages == ["journal is damaged", "journal has a gap"]
    taken = await store.of(ANNA).runs.take_over(one.run_id, claimed_by="sealer", now=NOW)
    await store.of(ANNA).runs.finish(completion(taken, first=2, claimed_by="sealer"))
    assert await firsts(store, one) == [1, 2]
    await store.aclose()


async def test_an_entry_of_a_claim_that_the_database_lost_makes_the_run_a_running_one(
    folder: Path, copy: Path
) -> None:
    store = await open_store(folder)
    run = await accept(store, send(new=True))
    shutil.copytree(folder, copy)  # a power cut may take the claim and leave the journal
    await store.of(ANNA).runs.claim(run.run_id, claimed_by="claim", lease_until=NOW + 10)
    await append(store.of(ANNA).log, entry(run, 1))
    shutil.copy(journal(folder), copy / "journal")
    await store.aclose()
    store = await open_store(copy)

    ((_, found),) = await store.unfinished()
    assert (found.state, found.claimed_by, found.lease_until) == ("running", "claim", 0)
    assert await firsts(store, run) == [1]
    await store.aclose()


async def test_entries_of_a_run_that_the_database_lost_are_dropped(
    folder: Path, copy: Path
) -> None:
    await crashed(folder, copy)
    for leftover in copy.glob(f"{DATABASE}*"):
        leftover.unlink()
    store = await open_store(copy)

    assert await store.unfinished() == []
    assert list((copy / "journal").iterdir()) == []
    await store.aclose()


async def test_what_is_no_journal_file_is_left_alone(folder: Path, copy: Path) -> None:
    await crashed(folder, copy)
    note = copy / "journal" / "note.txt"
    note.write_text("mine")
    await (await open_store(copy)).aclose()

    assert note.read_text() == "mine"


async def test_several_restarts_add_up(folder: Path) -> None:
    store = await open_store(folder)
    run = await running(store, send(new=True))
    for number in range(1, 6):
        await append(
            store.of(ANNA).log,
            entry(run, number),
            claimed_by=f"{number}" if number > 1 else "claim",
        )
        await store.aclose()
        store = await open_store(folder)
        claimed_by = f"{number + 1}"
        await store.of(ANNA).runs.take_over(run.run_id, claimed_by=claimed_by, now=NOW)

    assert await firsts(store, run) == [1, 2, 3, 4, 5]
    await store.aclose()

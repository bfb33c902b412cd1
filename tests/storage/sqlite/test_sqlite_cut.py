"""A power cut takes the end of the write-ahead log, or of the journal, at any byte: the rest is whole.

What the operating system had not yet written is missing, or is there as zeros.
"""

import shutil
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from storage.records import Run
from storage.sqlite.live_log import LiveLog
from storage.sqlite.recovery import recover
from storage.sqlite.store import DATABASE, JOURNAL, SqliteStore, open_store
from tests.storage.samples import ANNA, NOW, accept, append, completion, entry, finished, send

WAL = f"{DATABASE}-wal"
WAL_HEADER, FRAME = 32, 24 + 4096
"""See https://sqlite.org/fileformat.html#the_write_ahead_log."""

Look = Callable[[SqliteStore], Awaitable[bool]]
"""Says whether something is there; fails if only a part of it is."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Something that the store has acknowledged when its log was so long, in bytes."""

    what: str
    at: int
    is_there: Look


def accepted(run: Run) -> Look:
    async def look(store: SqliteStore) -> bool:
        its = store.of(ANNA)
        found = {
            "run": await its.runs.get(run.run_id) is not None,
            "session": await its.sessions.get(run.session_id) is not None,
            "message": await its.messages.get(run.message_id) is not None,
        }
        assert len(set(found.values())) == 1, found
        return found["run"]

    return look


def ended(run: Run) -> Look:
    async def look(store: SqliteStore) -> bool:
        its = store.of(ANNA)
        stored = await its.runs.get(run.run_id)
        memories = await its.memories.newest(max_bytes=999)
        found = {
            "end": stored is not None and stored.state == "ended",
            "reply": await its.messages.get(run.reply_id) is not None,
            "memory": run.session_id in [memory.session_id for memory in memories],
        }
        assert len(set(found.values())) == 1, found
        log = await its.log.read(run.run_id, after=0)
        assert len(log) == (2 if found["end"] else 1 if stored else 0), "the journal has the rest"
        return found["end"]

    return look


async def worked(folder: Path, copy: Path) -> list[Kept]:
    """Leave in `copy` what a process leaves cut off by a power cut: two turns that ended, one live."""
    kept: list[Kept] = []

    def note(what: str, is_there: Look) -> None:
        kept.append(Kept(what, (folder / WAL).stat().st_size, is_there))

    await (await open_store(folder)).aclose()
    store = await open_store(folder, durability="power")
    its = store.of(ANNA)
    for number in range(3):
        name = f"turn {number}"
        run = await accept(store, send(name, session_id=name, new=True, content="春" * 999))
        note(f"{name} is accepted", accepted(run))
        await its.runs.claim(run.run_id, claimed_by="claim", lease_until=NOW)
        await append(its.log, entry(run, 1))
        if number < 2:
            await its.runs.finish(completion(run, first=2, memories=(name,), content="夏" * 999))
            note(f"{name} has ended", ended(run))
    copy.mkdir(mode=0o700)
    for file in (DATABASE, WAL):
        shutil.copy(folder / file, copy / file)
    shutil.copytree(folder / JOURNAL, copy / JOURNAL)
    await store.aclose()
    return kept


def cuts(kept: Sequence[Kept], size: int) -> list[int]:
    """Return where a log of that size is cut: around every commit, and inside a third of the frames."""
    places = {0, WAL_HEADER - 1, size}
    for each in kept:
        places |= {each.at - 1, each.at}
    for number, start in enumerate(range(WAL_HEADER, size, 3 * FRAME)):
        places.add(start + (11 if number % 2 else 24 + start // 7 % 4096))
    return sorted(places)


async def test_what_is_whole_in_a_log_that_was_cut_is_there_and_nothing_else(
    folder: Path, tmp_path: Path
) -> None:
    copy, cut = tmp_path / "copy", tmp_path / "cut"
    kept = await worked(folder, copy)
    wal = (copy / WAL).read_bytes()
    for number, place in enumerate(cuts(kept, len(wal))):
        shutil.rmtree(cut, ignore_errors=True)
        shutil.copytree(copy, cut)
        zeros = bytes(len(wal) - place) if number % 2 else b""
        (cut / WAL).write_bytes(wal[:place] + zeros)
        whole = place + len(wal[place:]) - len(wal[place:].lstrip(b"\0")) if zeros else place
        store = await open_store(cut)
        try:
            for each in kept:
                there = await each.is_there(store)
                assert there == (each.at <= whole), f"{each.what}, cut at {place} of {len(wal)}"
            await goes_on(store)
        finally:
            await store.aclose()


async def goes_on(store: SqliteStore) -> None:
    """End what was not ended, as a start does, and accept something new."""
    for owner, run in await store.unfinished():
        its = store.of(owner)
        first = len(await its.log.read(run.run_id, after=0)) + 1
        if run.state == "queued":
            await its.runs.claim(run.run_id, claimed_by="seal", lease_until=NOW)
        else:
            await its.runs.take_over(run.run_id, claimed_by="seal", now=NOW)
        await its.runs.finish(completion(run, first=first, claimed_by="seal"))
    assert await store.unfinished() == []
    await finished(store, send("new", session_id="new", new=True))


@pytest.mark.parametrize("lost", ["missing", "zeros"])
async def test_a_journal_may_end_at_any_byte(folder: Path, tmp_path: Path, lost: str) -> None:
    store = await open_store(folder)
    its = store.of(ANNA)
    runs = [await accept(store, send(name, session_id=name, new=True)) for name in "abc"]
    ends: list[int] = []
    for run in runs:
        await its.runs.claim(run.run_id, claimed_by="claim", lease_until=NOW)
    for number in range(1, 5):
        for run in runs:  # one write for all
            its.log.append(entry(run, number), claimed_by="claim", acknowledge=lambda _: None)
        await append(its.log, entry(runs[0], number), claimed_by="claim")
        (path,) = (folder / JOURNAL).iterdir()
        ends.append(path.stat().st_size)
    whole = path.read_bytes()
    await store.aclose()

    torn = tmp_path / "torn"
    torn.mkdir()
    for place in range(len(whole)):
        zeros = bytes(len(whole) - place) if lost == "zeros" else b""
        (torn / path.name).write_bytes(whole[:place] + zeros)
        logs = [LiveLog(ANNA, run.run_id, "claim") for run in runs]
        needed = recover(torn, logs)
        good = sum(end <= place for end in ends)
        for log in logs:
            assert [slot.first for slot in log.entries(after=0)] == list(range(1, good + 1)), place
        sizes = [segment.path.stat().st_size for segment in needed]
        assert sizes == ([ends[good - 1]] if good else []), place
        assert len(list(torn.iterdir())) == len(sizes)

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.errors import UnusableDataError
from storage.sqlite import database
from storage.sqlite.database import APPLICATION_ID, migrations
from storage.sqlite.folder import LOCK
from storage.sqlite.store import DATABASE, open_store
from tests.storage.samples import ANNA, accept, send

NOBODY = 65534


def foreign(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (a)")
    connection.commit()
    connection.close()


def foreign_with_id(path: Path) -> None:
    foreign(path)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA application_id=42")
    connection.commit()
    connection.close()


def newer(path: Path) -> None:
    database.prepare(path)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=9999")
    connection.commit()
    connection.close()


def damaged(path: Path) -> None:
    database.prepare(path)
    good = path.read_bytes()
    path.write_bytes(good[:100] + b"\xde\xad\xbe\xef" * 2000)


UNUSABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "text": (lambda path: path.write_text("Dear diary"), "not a database of this program"),
    "one byte": (lambda path: path.write_bytes(b"S"), "not a database of this program"),
    "another program's": (foreign, "not a database of this program"),
    "another program's with an id": (foreign_with_id, "not a database of this program"),
    "newer": (newer, "newer version of this program"),
    "damaged": (damaged, "cannot be used"),
    "a folder": (lambda path: path.mkdir(), "cannot be used"),
}


@pytest.mark.parametrize("case", UNUSABLE)
async def test_an_unusable_file_ends_the_start_with_one_line(folder: Path, case: str) -> None:
    make, line = UNUSABLE[case]
    folder.mkdir()
    path = folder / DATABASE
    make(path)
    before = path.read_bytes() if path.is_file() else None

    with pytest.raises(UnusableDataError, match=line) as raised:
        await open_store(folder)
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)
    assert (path.read_bytes() if path.is_file() else None) == before


async def test_a_failed_start_leaves_the_folder_to_the_next(folder: Path) -> None:
    folder.mkdir()
    (folder / DATABASE).write_text("Dear diary")
    for _ in range(2):
        with pytest.raises(UnusableDataError, match="not a database"):
            await open_store(folder)


@pytest.mark.parametrize("below", [False, True])
async def test_a_file_where_the_folder_should_be(tmp_path: Path, below: bool) -> None:
    (tmp_path / "file").write_text("x")
    folder = tmp_path / "file" / "data" if below else tmp_path / "file"

    with pytest.raises(UnusableDataError, match="cannot create the data folder"):
        await open_store(folder)


OPEN_AS_NOBODY = """
import asyncio, concurrent.futures.thread, os, sys
from pathlib import Path
from storage.errors import UnusableDataError
from storage.sqlite import database
from storage.sqlite.store import open_store

known = database.migrations()
database.migrations = lambda: known  # the source may lie where only this user can read

async def main():
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid({nobody})
        os.setuid({nobody})
    try:
        store = await open_store(Path(sys.argv[1]))
    except UnusableDataError as exc:
        print(exc)
    else:
        await store.aclose()
        print("opened")

asyncio.run(main())
"""


def open_without_rights(folder: Path) -> str:
    """Open the store as an unprivileged user and return the one line it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", OPEN_AS_NOBODY.format(nobody=NOBODY), str(folder)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stdout.count("\n") == 1, done.stderr
    return done.stdout


@pytest.fixture
async def reachable(folder: Path) -> Path:
    """A data folder that belongs to the unprivileged user and can be reached by them."""
    await (await open_store(folder)).aclose()
    for above in folder.parents:
        if above.stat().st_uid == os.geteuid() and above != Path("/"):
            above.chmod(above.stat().st_mode | 0o011)
    if os.geteuid() == 0:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
    return folder


async def test_the_unprivileged_user_can_open_their_own_folder(reachable: Path) -> None:
    assert await asyncio.to_thread(open_without_rights, reachable) == "opened\n"


@pytest.mark.parametrize(
    ("name", "mode", "line"),
    [
        (DATABASE, 0o400, "cannot be used"),
        (DATABASE, 0o000, "cannot be used"),
        (LOCK, 0o400, "cannot write in"),
        (".", 0o500, ""),
        (".", 0o000, "cannot"),
        ("journal", 0o000, "cannot be used"),
    ],
)
async def test_what_cannot_be_written_ends_the_start_with_one_line(
    reachable: Path, name: str, mode: int, line: str
) -> None:
    before = (reachable / DATABASE).read_bytes()
    for leftover in reachable.glob("*-*"):
        leftover.unlink()
    (reachable / name).chmod(mode)
    try:
        said = await asyncio.to_thread(open_without_rights, reachable)
    finally:
        (reachable / name).chmod(0o700)

    assert said != "opened\n"
    assert line in said
    assert (reachable / DATABASE).read_bytes() == before


async def test_all_files_are_private_whatever_the_umask(folder: Path) -> None:
    umask = os.umask(0)
    try:
        store = await open_store(folder)
        await accept(store, send(new=True))
        modes = {
            path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.rglob("*"))
        }
        await store.aclose()
    finally:
        os.umask(umask)

    assert modes == {
        "data": 0o700,
        "journal": 0o700,
        LOCK: 0o600,
        DATABASE: 0o600,
        f"{DATABASE}-wal": 0o600,
        f"{DATABASE}-shm": 0o600,
    }


async def test_a_file_that_was_left_half_made_is_made_again(folder: Path) -> None:
    folder.mkdir()
    (folder / f"{DATABASE}.new").write_bytes(b"half")
    (folder / f"{DATABASE}.new-journal").write_bytes(b"half")

    await (await open_store(folder)).aclose()
    assert [path.name for path in folder.glob("*.new*")] == []


def test_migrations_are_numbered_without_a_gap() -> None:
    assert [number for number, _ in migrations()] == list(range(1, len(migrations()) + 1))


async def test_a_newer_program_migrates_what_an_older_one_wrote(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await open_store(folder)
    run = await accept(store, send(new=True))
    await store.aclose()
    newer = [*migrations(), (len(migrations()) + 1, "ALTER TABLE runs ADD COLUMN more TEXT")]
    monkeypatch.setattr(database, "migrations", lambda: newer)

    store = await open_store(folder)
    assert await store.of(ANNA).runs.get(run.run_id) == run
    await store.aclose()
    assert pragma(folder, "user_version") == len(newer)
    assert pragma(folder, "application_id") == APPLICATION_ID


async def test_a_migration_that_fails_changes_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await (await open_store(folder)).aclose()
    good = migrations()
    script = "ALTER TABLE runs ADD COLUMN more TEXT; INSERT INTO nowhere VALUES (1)"
    with monkeypatch.context() as patch:
        patch.setattr(database, "migrations", lambda: [*good, (len(good) + 1, script)])
        with pytest.raises(UnusableDataError, match="cannot be used"):
            await open_store(folder)

    assert pragma(folder, "user_version") == len(good)
    good_again = [(len(good) + 1, "ALTER TABLE runs ADD COLUMN more TEXT")]  # is not there yet
    monkeypatch.setattr(database, "migrations", lambda: good + good_again)
    await (await open_store(folder)).aclose()


def pragma(folder: Path, name: str) -> int:
    connection = sqlite3.connect(folder / DATABASE)
    try:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]
    finally:
        connection.close()


async def test_a_second_owner_of_the_folder_is_told_who_has_it(folder: Path) -> None:
    store = await open_store(folder)
    with pytest.raises(UnusableDataError, match=f"in use by process {os.getpid()}$"):
        await open_store(folder)
    await store.aclose()
    await (await open_store(folder)).aclose()


async def test_a_cancelled_start_lets_go_of_the_folder(folder: Path) -> None:
    opening = asyncio.create_task(open_store(folder))
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    async with asyncio.timeout(5):
        while True:
            try:
                store = await open_store(folder)
                break
            except UnusableDataError:
                await asyncio.sleep(0.01)
    await store.aclose()

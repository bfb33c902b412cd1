"""The database file: made whole or not at all, brought up to date, and never written when in doubt."""

import contextlib
import os
import re
import sqlite3
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Final

from storage.disk import PRIVATE_FILE, sync_folder
from storage.errors import UnusableDataError
from storage.sqlite.faults import is_busy

APPLICATION_ID: Final = 0x4D414B4F
"""`MAKO` in the file's header tells our files from those of other programs."""

_HEADER: Final = 100
_MAGIC: Final = b"SQLite format 3\0"
_APPLICATION_ID_AT: Final = slice(68, 72)
"""See https://sqlite.org/fileformat.html#the_database_header."""

_BUSY_MS: Final = 100
"""How long SQLite itself waits for a lock; the threads ask again while somebody waits for them."""

_START_BUSY_MS: Final = 4500

_WAL_BYTES: Final = 16 * 1024 * 1024
"""To what size the write-ahead log shrinks again after a burst."""

_MIGRATION: Final = re.compile(r"(\d{4})_\w+\.sql")


def migrations() -> list[tuple[int, str]]:
    """Return number and SQL of every migration, in order; they are numbered from 1 without a gap."""
    files = resources.files("storage.sqlite") / "migrations"
    return sorted(
        (int(match[1]), file.read_text("utf-8"))
        for file in files.iterdir()
        if (match := _MIGRATION.fullmatch(file.name))
    )


@contextlib.contextmanager
def usable(path: Path) -> Iterator[None]:
    """Turn what goes wrong with a file or folder at the start into one line for the operator.

    Raises:
        UnusableDataError: for every error of SQLite or the system inside.
    """
    try:
        yield
    except sqlite3.Error as exc:
        why = "is locked by another program" if is_busy(exc) else f"cannot be used: {exc}"
        raise UnusableDataError(f"{path} {why}") from exc
    except OSError as exc:
        raise UnusableDataError(f"{path} cannot be used: {exc.strerror}") from exc


def prepare(path: Path) -> None:
    """Create the database, or check it and apply the migrations it lacks.

    Raises:
        UnusableDataError: it is no database of this program, or was written by a newer version of it.
        sqlite3.Error, OSError: it cannot be read or written.
    """
    if not path.exists() or path.stat().st_size == 0:
        _create(path)
    _check_header(path)
    with contextlib.closing(connect(path)) as connection:
        connection.execute(f"PRAGMA busy_timeout={_START_BUSY_MS}")
        _migrate(connection, path)
        connection.execute("BEGIN IMMEDIATE")  # finds out whether it can be written
        connection.execute("ROLLBACK")


def connect(path: Path) -> sqlite3.Connection:
    """Open one connection to an existing database, for one thread at a time."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=_BUSY_MS / 1000,
        isolation_level=None,  # transactions begin and end where the code says so
        check_same_thread=False,
        cached_statements=256,
    )
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA temp_store=MEMORY")
    connection.execute("PRAGMA secure_delete=ON")  # what is forgotten is overwritten
    connection.execute(f"PRAGMA journal_size_limit={_WAL_BYTES}")
    if os.uname().sysname == "Darwin":
        connection.execute("PRAGMA fullfsync=ON")  # macOS: fsync alone does not reach the disk
    return connection


def _create(path: Path) -> None:
    """Make the file under another name and rename it: what bears the name is always complete."""
    draft = path.with_name(path.name + ".new")
    for leftover in (
        draft,
        *(draft.with_name(draft.name + end) for end in ("-journal", "-wal", "-shm")),
    ):
        leftover.unlink(missing_ok=True)
    os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, PRIVATE_FILE))
    with contextlib.closing(connect(draft)) as connection:
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        _migrate(connection, draft)
        connection.execute("PRAGMA journal_mode=WAL")
    draft.rename(path)
    sync_folder(path.parent)


def _check_header(path: Path) -> None:
    """Look at the bytes before SQLite does: it might write to another program's file."""
    with path.open("rb") as file:
        header = file.read(_HEADER)
    ours = APPLICATION_ID.to_bytes(4, "big")
    if not header.startswith(_MAGIC) or header[_APPLICATION_ID_AT] != ours:
        raise UnusableDataError(f"{path} is not a database of this program; it was left as it is")


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    known = migrations()
    newest = known[-1][0]
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > newest:
        raise UnusableDataError(
            f"{path} was written by a newer version of this program (schema {version}, this one"
            f" knows {newest}); it was left as it is"
        )
    for number, script in known:
        if number > version:
            connection.executescript(
                f"BEGIN IMMEDIATE; {script}; PRAGMA user_version={number}; COMMIT;"
            )

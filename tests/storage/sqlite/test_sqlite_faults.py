"""What the errors of SQLite say when they are storage's: the code, and nothing that was stored."""

import sqlite3
from contextlib import closing

from storage.errors import StorageUnavailableError
from storage.sqlite.faults import as_storage_error


def test_a_refusal_names_its_code_and_no_table() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("PRAGMA query_only = 1")
        try:
            connection.execute("CREATE TABLE secret (key TEXT)")
        except sqlite3.Error as fault:
            error = as_storage_error(fault)
    assert isinstance(error, StorageUnavailableError)
    assert str(error) == "the database refuses: SQLITE_READONLY"

"""SQLite's errors, and those of its Python binding, as errors of storage."""

import errno
import sqlite3

from storage.errors import StorageError, StorageUnavailableError, UnstorableTextError

_PRIMARY = 0xFF
"""The low byte of an extended result code; see https://sqlite.org/rescode.html."""


def is_busy(fault: sqlite3.Error) -> bool:
    """Whether another program holds the lock that this statement needs."""
    code = getattr(fault, "sqlite_errorcode", sqlite3.SQLITE_OK)
    return code & _PRIMARY in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def name_of(fault: BaseException) -> str:
    """Return what a log line may say about the fault: its symbol, never its text."""
    if isinstance(fault, OSError) and fault.errno is not None:
        return errno.errorcode.get(fault.errno, "OSError")
    return str(getattr(fault, "sqlite_errorname", type(fault).__name__))


def as_storage_error(fault: Exception) -> Exception:
    """Return the storage error for a fault; a fault that is a bug of ours comes back as it is."""
    error: Exception
    match fault:
        case StorageError():
            return fault
        case UnicodeEncodeError() | OverflowError():
            error = UnstorableTextError("a value cannot be stored")
        case sqlite3.IntegrityError():
            error = StorageError("a row with that id exists already, or a value is out of range")
        case sqlite3.Error():
            error = StorageUnavailableError(f"the database refuses: {name_of(fault)}")
        case _:
            return fault
    error.__cause__ = fault
    return error

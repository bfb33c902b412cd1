"""The data folder: private to its user, and to one process at a time."""

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Final

from storage.disk import PRIVATE_FILE, PRIVATE_FOLDER, sync_folder
from storage.errors import UnusableDataError

LOCK: Final = "makoto.lock"


def make_private(folder: Path) -> None:
    """Create the folder, and those above it, unless it exists.

    Raises:
        UnusableDataError: it cannot be made, or is no folder (the operator's fault).
    """
    try:
        if not folder.is_dir():
            folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
            sync_folder(folder.parent)
    except OSError as exc:
        raise UnusableDataError(f"cannot create the data folder {folder}: {exc.strerror}") from exc


class FolderLock:
    """Makes this process the only owner of a data folder until `release` or the end of the process.

    The lock is the kernel's (`flock`), so a killed process leaves none behind; the file only says who.

    Raises:
        UnusableDataError: another process owns it, or nothing can be written there.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / LOCK
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
        except OSError as exc:
            raise UnusableDataError(f"cannot write in {folder}: {exc.strerror}") from exc
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, b"%d\n" % os.getpid())
        except BlockingIOError as exc:
            other = self._other()
            os.close(self._descriptor)
            raise UnusableDataError(f"{folder} is in use by {other}") from exc
        except OSError as exc:
            os.close(self._descriptor)
            raise UnusableDataError(f"cannot lock {folder}: {exc.strerror}") from exc

    def release(self) -> None:
        """Let others have the folder; harmless when repeated."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _other(self) -> str:
        with contextlib.suppress(OSError, ValueError):
            return f"process {int(os.pread(self._descriptor, 20, 0))}"
        return "another process"

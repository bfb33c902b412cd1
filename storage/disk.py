"""What it takes to keep a file private, and to have the disk know its name."""

import os
from pathlib import Path
from typing import Final

PRIVATE_FILE: Final = 0o600
PRIVATE_FOLDER: Final = 0o700


def sync_folder(folder: Path) -> None:
    """Wait until the disk holds the folder's names: a file that was synced may still lose its own.

    See fsync(2), "Calling fsync() does not necessarily ensure that the entry in the directory containing
    the file has also reached disk".

    Raises:
        OSError: the folder cannot be read, or the disk fails.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

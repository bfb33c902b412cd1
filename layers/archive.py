"""A folder as a zip that is the same each time, and the hash of what is in it.

Entries are sorted and have neither the time nor the rights of their files. What packs them may still differ
from one zlib to the next; so versions are told apart by the hash of the content, not of the zip.
"""

import hashlib
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from layers.errors import LayerError

MB: Final = 1 << 20
UNZIPPED_MAX: Final = 250 * MB
"""Of all layers of a function: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"""

ZIPPED_MAX: Final = 50 * MB
"""Of a zip that is sent with the request. Larger ones have to come from a bucket."""

_TIME: Final = (1980, 1, 1, 0, 0, 0)  # the first that a zip can have
_UNIX: Final = 3
_RIGHTS: Final = 0o100644 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """A zip on disk.

    Attributes:
        sha256: of the names and contents of its files, in hexadecimal digits.
        zipped, unzipped: bytes.
    """

    path: Path
    sha256: str
    zipped: int
    unzipped: int


def pack(folder: Path, path: Path) -> Archive:
    """Write the files of a folder into a zip, which appears whole or not at all.

    Raises:
        LayerError: it is larger than Lambda takes.
    """
    files = {
        file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _TIME)
            entry.create_system, entry.external_attr = _UNIX, _RIGHTS
            packed.writestr(entry, files[name].read_bytes(), zipfile.ZIP_DEFLATED)
    archive = measure(unfinished)
    for size, most, kind in (
        (archive.unzipped, UNZIPPED_MAX, "unzipped"),
        (archive.zipped, ZIPPED_MAX, "zipped"),
    ):
        if size > most:
            unfinished.unlink()
            raise LayerError(
                f"the layer has {megabytes(size)} {kind}; Lambda takes {megabytes(most)}"
            )
    unfinished.replace(path)
    return replace(archive, path=path)


def measure(path: Path) -> Archive:
    """Return what is known of a zip."""
    digest, unzipped = hashlib.sha256(), 0
    with zipfile.ZipFile(path) as packed:
        for entry in sorted(packed.infolist(), key=lambda entry: entry.filename):
            digest.update(f"{entry.filename}\0{entry.file_size}\0".encode())
            digest.update(packed.read(entry))
            unzipped += entry.file_size
    return Archive(
        path=path, sha256=digest.hexdigest(), zipped=path.stat().st_size, unzipped=unzipped
    )


def megabytes(size: int) -> str:
    """Return a size as Lambda counts it: 1 MB is 1,048,576 bytes."""
    return f"{size / MB:.1f} MB"

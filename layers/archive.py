"""A folder as a zip that is the same each time, and the hash of what is in it.

Entries are sorted and have neither the time nor the rights of their files. What packs them may still differ
from one zlib to the next; so versions are told apart by the hash of the content, not of the zip.
"""

import hashlib
import io
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Final

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

    Others may do so for the same path meanwhile: the last one stays.

    Raises:
        LayerError: it is larger than Lambda takes.
    """
    files = {
        file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".", dir=path.parent) as place:
        unfinished = Path(place, path.name)
        with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as packed:
            for name in sorted(files):
                entry = zipfile.ZipInfo(name, _TIME)
                entry.create_system, entry.external_attr = _UNIX, _RIGHTS
                packed.writestr(entry, files[name].read_bytes(), zipfile.ZIP_DEFLATED)
        archive = measure(unfinished)
        _refuse_too_large(archive)
        unfinished.replace(path)
    return replace(archive, path=path)


def _refuse_too_large(archive: Archive) -> None:
    for size, most, kind in (
        (archive.unzipped, UNZIPPED_MAX, "unzipped"),
        (archive.zipped, ZIPPED_MAX, "zipped"),
    ):
        if size > most:
            raise LayerError(
                f"the layer has {megabytes(size)} {kind}; Lambda takes {megabytes(most)}"
            )


def measure(path: Path) -> Archive:
    """Return what is known of a zip."""
    with path.open("rb") as file:
        sha256, unzipped = _read_content(file)
    return Archive(path=path, sha256=sha256, zipped=path.stat().st_size, unzipped=unzipped)


def read(archive: Archive) -> bytes:
    """Return a zip, if it has the content that it was made with.

    Raises:
        LayerError: it has not: another build put its own in the place.
    """
    try:
        zipped = archive.path.read_bytes()
        same = _read_content(io.BytesIO(zipped))[0] == archive.sha256
    except (OSError, zipfile.BadZipFile):
        same = False
    if not same:
        raise LayerError(f"{archive.path.name} was changed by another build: try again")
    return zipped


def _read_content(zipped: IO[bytes]) -> tuple[str, int]:
    """Return the hash of what is in a zip, and its size."""
    digest, unzipped = hashlib.sha256(), 0
    with zipfile.ZipFile(zipped) as packed:
        for entry in sorted(packed.infolist(), key=lambda entry: entry.filename):
            digest.update(f"{entry.filename}\0{entry.file_size}\0".encode())
            digest.update(packed.read(entry))
            unzipped += entry.file_size
    return digest.hexdigest(), unzipped


def megabytes(size: int) -> str:
    """Return a size as Lambda counts it: 1 MB is 1,048,576 bytes."""
    return f"{size / MB:.1f} MB"

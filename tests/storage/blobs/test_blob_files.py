import asyncio
import errno
import os
import stat
import threading
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import pytest

from storage.blobs import files
from storage.blobs.files import FileBlobs, open_file_blobs
from storage.blobs.signing import UrlSigner
from storage.errors import (
    BlobMissingError,
    StorageUnavailableError,
    UnusableDataError,
    UploadRejectedError,
)
from storage.keys import blob_key
from storage.records import BlobRef
from tests.storage.samples import ANNA, NOW

KEY = blob_key(ANNA, "payload")


@pytest.fixture
async def blobs(tmp_path: Path) -> AsyncIterator[FileBlobs]:
    blobs = await open_file_blobs(tmp_path)
    yield blobs
    await blobs.aclose()


def left(folder: Path) -> list[str]:
    """Return the files below the folder, without the secret."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path.name for path in paths if path.name != "blob-urls.key")


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_bodies_and_secret_are_private_whatever_the_umask(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        blobs = await open_file_blobs(tmp_path)
        await blobs.put(KEY, b"body")
        await blobs.aclose()
    finally:
        os.umask(umask)

    for path in tmp_path.rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


async def test_urls_stay_good_over_a_restart(tmp_path: Path) -> None:
    blobs = await open_file_blobs(tmp_path)
    ref = await blobs.put(KEY, b"body")
    before = blobs.sign_download(ANNA, ref, now=NOW)
    await blobs.aclose()
    blobs = await open_file_blobs(tmp_path)

    assert blobs.sign_download(ANNA, ref, now=NOW) == before
    assert await blobs.get(KEY) == b"body"
    await blobs.aclose()


async def test_each_data_folder_has_a_secret_of_its_own(tmp_path: Path) -> None:
    secrets = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        await (await open_file_blobs(tmp_path / name)).aclose()
        secrets.add((tmp_path / name / "blob-urls.key").read_bytes())

    assert len(secrets) == 2
    assert {len(secret) for secret in secrets} == {32}


async def test_a_damaged_secret_ends_the_start_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "blob-urls.key").write_bytes(b"short")

    with pytest.raises(UnusableDataError, match="is damaged") as raised:
        await open_file_blobs(tmp_path)
    assert "\n" not in str(raised.value)
    assert (tmp_path / "blob-urls.key").read_bytes() == b"short"


async def test_a_folder_that_cannot_be_used_ends_the_start_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "blobs").write_text("a file")

    with pytest.raises(UnusableDataError, match="cannot be used"):
        await open_file_blobs(tmp_path)


async def test_what_a_killed_process_left_unfinished_is_deleted(tmp_path: Path) -> None:
    await (await open_file_blobs(tmp_path)).aclose()
    (tmp_path / "blobs-incoming" / "half").write_bytes(b"ha")
    await (await open_file_blobs(tmp_path)).aclose()

    assert left(tmp_path) == []


@pytest.mark.parametrize(
    "key",
    ["", "..", "../x", "a/b", "a/b/c/d", "/etc/passwd", "a/../../x", "a/b/.", "a/b/C", "a/b/c\0"],
    ids=repr,
)
async def test_what_is_no_key_touches_no_file(
    blobs: FileBlobs, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_read", None)
    with pytest.raises(BlobMissingError):
        await blobs.get(key)
    with pytest.raises(BlobMissingError):
        await blobs.put(key, b"x")
    with pytest.raises(BlobMissingError):
        await blobs.delete(key)


async def test_a_link_is_not_followed(blobs: FileBlobs, tmp_path: Path) -> None:
    await blobs.put(KEY, b"body")
    path = tmp_path / "blobs" / KEY
    path.unlink()
    path.symlink_to(tmp_path / "blob-urls.key")

    with pytest.raises(StorageUnavailableError):
        await blobs.get(KEY)


async def test_empty_folders_go_with_the_last_body(blobs: FileBlobs, tmp_path: Path) -> None:
    other = blob_key(ANNA, "other")
    await blobs.put(KEY, b"one")
    await blobs.put(other, b"two")
    await blobs.delete(KEY)
    assert (tmp_path / "blobs" / other).exists()
    await blobs.delete(other)

    assert list((tmp_path / "blobs").iterdir()) == []


async def test_a_full_disk_leaves_the_old_body_and_nothing_half(
    blobs: FileBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await blobs.put(KEY, b"old")
    write = os.write

    def full(descriptor: int, data: bytes) -> int:
        if len(data) > 3:
            return write(descriptor, bytes(data[:3]))
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "write", full)
        with pytest.raises(StorageUnavailableError):
            await blobs.put(KEY, b"new and longer")

    assert await blobs.get(KEY) == b"old"
    assert left(tmp_path) == ["payload"]


async def test_short_writes_are_continued(
    blobs: FileBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "write", lambda fd, data: write(fd, bytes(data[:2])))
        await blobs.put(KEY, b"a body in pieces")

    assert await blobs.get(KEY) == b"a body in pieces"


async def test_a_disk_that_hangs_does_not_hang_the_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await (await open_file_blobs(tmp_path)).aclose()
    blobs = FileBlobs(tmp_path, UrlSigner(b"s" * 32), patience=0.05)
    release = threading.Event()
    monkeypatch.setattr(files, "_read", lambda path: release.wait(10))

    with pytest.raises(StorageUnavailableError):
        await blobs.get(KEY)
    release.set()
    await blobs.aclose()
    with pytest.raises(StorageUnavailableError):
        await blobs.get(KEY)


def ref_of(body: bytes) -> BlobRef:
    return BlobRef(key=KEY, bytes=len(body), sha256=sha256(body).hexdigest())


async def test_a_streamed_body_is_whole_or_not_there(blobs: FileBlobs, tmp_path: Path) -> None:
    body = b"x" * 100_000
    got_on = asyncio.Event()

    async def stalls() -> AsyncIterator[bytes]:
        yield body[:50_000]
        got_on.set()
        await asyncio.Event().wait()

    upload = asyncio.create_task(blobs.receive(ref_of(body), stalls()))
    async with asyncio.timeout(5):
        await got_on.wait()
    with pytest.raises(BlobMissingError):
        await blobs.get(KEY)
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    with pytest.raises(BlobMissingError):  # also waits until the thread has cleaned up
        await blobs.get(KEY)

    assert left(tmp_path) == []
    await blobs.receive(ref_of(body), pieces(body[:1], b"", body[1:]))
    assert await blobs.get(KEY) == body
    assert left(tmp_path) == ["payload"]


async def test_a_client_that_breaks_off_leaves_nothing(blobs: FileBlobs, tmp_path: Path) -> None:
    async def breaks() -> AsyncIterator[bytes]:
        yield b"half"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await blobs.receive(ref_of(b"half of it"), breaks())
    with pytest.raises(BlobMissingError):
        await blobs.get(KEY)
    assert left(tmp_path) == []


async def test_closing_during_an_upload_ends_it_and_the_next_start_clears_up(
    tmp_path: Path,
) -> None:
    blobs = await open_file_blobs(tmp_path)

    async def outlives() -> AsyncIterator[bytes]:
        yield b"half"
        await blobs.aclose()
        yield b" of it"

    with pytest.raises(StorageUnavailableError):
        await blobs.receive(ref_of(b"half of it"), outlives())
    await (await open_file_blobs(tmp_path)).aclose()
    assert left(tmp_path) == []


async def test_reading_stops_where_a_body_gets_too_large(blobs: FileBlobs) -> None:
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 1
            yield b"x" * 10

    with pytest.raises(UploadRejectedError):
        await blobs.receive(ref_of(b"y" * 35), endless())
    assert read == 4

"""Blobs as files below the data folder, for the gateway that runs on one machine."""

import asyncio
import contextlib
import hashlib
import os
import secrets
from collections.abc import AsyncIterable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from storage.blobs.blob_store import SignedDownload, SignedUpload
from storage.blobs.signing import SECRET_BYTES, UrlSigner
from storage.disk import PRIVATE_FILE, PRIVATE_FOLDER, sync_folder
from storage.errors import (
    BlobMissingError,
    StorageUnavailableError,
    UnusableDataError,
    UploadRejectedError,
)
from storage.keys import is_blob_key
from storage.records import BlobRef, Owner

T = TypeVar("T")

PATIENCE: Final = 4.5
"""Seconds until a caller hears that the disk does not answer; the contract says within 5."""

_SIGNING_KEY: Final = "blob-urls.key"
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


async def open_file_blobs(folder: Path) -> "FileBlobs":
    """Open the blobs of a data folder, which this process must own (`open_store` sees to that).

    Args:
        folder: of the data; exists.

    Raises:
        UnusableDataError: it cannot be used; one line for the operator.
    """
    try:
        secret = await asyncio.to_thread(_prepare, folder)
    except OSError as exc:
        raise UnusableDataError(f"{folder} cannot be used: {exc.strerror}") from exc
    if len(secret) != SECRET_BYTES:
        raise UnusableDataError(
            f"{folder / _SIGNING_KEY} is damaged: delete it to have a new one made"
        )
    return FileBlobs(folder, UrlSigner(secret))


class FileBlobs:
    """`BlobStore` on files; made by `open_file_blobs`, ended by `aclose`.

    One thread does all its work in order, so a body that is thrown away is gone before the next step.

    Args:
        folder: of the data; bodies lie below its `blobs`, unfinished ones in its `blobs-incoming`.
        signer: makes and checks the URLs.
        patience: seconds until a call that the disk does not answer fails.
    """

    def __init__(self, folder: Path, signer: UrlSigner, *, patience: float = PATIENCE) -> None:
        self._folder = folder / "blobs"
        self._incoming = folder / "blobs-incoming"
        self._signer = signer
        self._patience = patience
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="makoto-blobs")
        self._closed = False

    async def put(self, key: str, body: bytes, *, passing: bool = False) -> BlobRef:
        """Store the body; see `BlobStore.put`. What passes is deleted by whoever purges its row."""
        path = self._path(key)
        draft = self._draft()
        await self._run(partial(_store, draft, path, body))
        return BlobRef(key=key, bytes=len(body), sha256=hashlib.sha256(body).hexdigest())

    async def get(self, key: str) -> bytes:
        """Return the body; see `BlobStore.get`."""
        path = self._path(key)
        body = await self._run(partial(_read, path))
        if body is None:
            raise BlobMissingError("no such blob")
        return body

    async def delete(self, key: str) -> None:
        """Delete the body; harmless when there is none."""
        path = self._path(key)
        await self._run(partial(_delete, path))

    async def receive(self, ref: BlobRef, body: AsyncIterable[bytes]) -> None:
        """Store an uploaded body as it arrives, or nothing of it.

        Args:
            ref: what `verify_upload` gave back.
            body: the pieces in order; how long they may take is for the caller to bound.

        Raises:
            UploadRejectedError: it has another size or hash; reading stops where it gets too large.
        """
        path = self._path(ref.key)
        upload = _Upload(self._draft(), ref)
        try:
            async for piece in body:
                upload.count(piece)
                await self._run(partial(upload.write, piece))
            await self._run(partial(upload.keep, path))
        finally:
            # When the store was closed meanwhile, the next start deletes what is left.
            with contextlib.suppress(RuntimeError):
                self._thread.submit(upload.discard)

    def sign_download(self, owner: Owner, ref: BlobRef, *, now: float) -> SignedDownload:
        """Return a URL for a plain `GET`; see `BlobStore.sign_download`."""
        return self._signer.sign_download(owner, ref, now=now)

    def sign_upload(self, owner: Owner, ref: BlobRef, *, now: float) -> SignedUpload:
        """Return a URL for one `PUT`; see `BlobStore.sign_upload`."""
        return self._signer.sign_upload(owner, ref, now=now)

    def verify_download(self, key: str, query: Mapping[str, str], *, now: float) -> bool:
        """Whether a download URL is good; see `UrlSigner.verify_download`."""
        return self._signer.verify_download(key, query, now=now)

    def verify_upload(self, key: str, query: Mapping[str, str], *, now: float) -> BlobRef | None:
        """Return what an upload URL allows; see `UrlSigner.verify_upload`."""
        return self._signer.verify_upload(key, query, now=now)

    async def aclose(self) -> None:
        """Finish what is under way; harmless when repeated."""
        self._closed = True
        await asyncio.to_thread(self._thread.shutdown)

    def _path(self, key: str) -> Path:
        """Return where a key lies. Its form leaves no way out of the folder."""
        if not is_blob_key(key):
            raise BlobMissingError("no such blob")
        return self._folder / key

    def _draft(self) -> Path:
        return self._incoming / secrets.token_hex(16)

    async def _run(self, work: Callable[[], T]) -> T:
        """Do the work on the thread. Cancelling leaves what has begun to finish there."""
        if self._closed:
            raise StorageUnavailableError("the blob store is closed")
        try:
            async with asyncio.timeout(self._patience):
                return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except OSError as exc:  # a TimeoutError too
            raise StorageUnavailableError("the blob store refuses or does not answer") from exc


class _Upload:
    """A body that arrives: counted on the loop, written and hashed on the thread."""

    def __init__(self, draft: Path, ref: BlobRef) -> None:
        self._draft = draft
        self._ref = ref
        self._received = 0
        self._hash = hashlib.sha256()
        self._descriptor = -1

    def count(self, piece: bytes) -> None:
        self._received += len(piece)
        if self._received > self._ref.bytes:
            raise UploadRejectedError("larger than its URL was signed for")

    def write(self, piece: bytes) -> None:
        if self._descriptor < 0:
            self._descriptor = os.open(self._draft, _CREATE, PRIVATE_FILE)
        self._hash.update(piece)
        _write_all(self._descriptor, piece)

    def keep(self, path: Path) -> None:
        self.write(b"")  # an empty body has no pieces
        if self._received != self._ref.bytes or self._hash.hexdigest() != self._ref.sha256:
            raise UploadRejectedError("not what its URL was signed for")
        os.fsync(self._descriptor)
        _move(self._draft, path)

    def discard(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._draft.unlink(missing_ok=True)


def _prepare(folder: Path) -> bytes:
    """Make the folders, delete what a killed process left unfinished, and return the secret."""
    for name in ("blobs", "blobs-incoming"):
        (folder / name).mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
    for leftover in (folder / "blobs-incoming").iterdir():
        leftover.unlink()
    if not (folder / _SIGNING_KEY).exists():
        draft = folder / "blobs-incoming" / _SIGNING_KEY
        _write_new(draft, secrets.token_bytes(SECRET_BYTES))
        draft.rename(folder / _SIGNING_KEY)
    return (folder / _SIGNING_KEY).read_bytes()


def _store(draft: Path, path: Path, body: bytes) -> None:
    try:
        _write_new(draft, body)
        _move(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _write_new(path: Path, body: bytes) -> None:
    descriptor = os.open(path, _CREATE, PRIVATE_FILE)
    try:
        _write_all(descriptor, body)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, body: bytes) -> None:
    rest = memoryview(body)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _move(draft: Path, path: Path) -> None:
    """Give a complete file its name, on the disk too: a log that names it may be there at once."""
    folders = (path.parent.parent.parent, path.parent.parent, path.parent)
    for folder in folders[1:]:
        folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
    draft.rename(path)
    for folder in reversed(folders):
        sync_folder(folder)


def _read(path: Path) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError):
        return None
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a Path cannot be opened without following links
        return file.read()


def _delete(path: Path) -> None:
    path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not empty, or not there
        path.parent.rmdir()
        path.parent.parent.rmdir()

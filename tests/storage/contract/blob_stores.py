"""The blob stores that the contract suite runs on. A new one is one more line in `BLOB_STORES`."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from storage.blobs.blob_store import BlobStore, SignedDownload, SignedUpload
from storage.blobs.files import FileBlobs, open_file_blobs
from storage.blobs.signing import PATH
from storage.errors import UploadRejectedError

PIECE = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobHost:
    """A store and what stands before it: clients that use its URLs at the time they are told.

    Attributes:
        download: returns the body, or `None` if the URL is refused.
        upload: returns whether the body was taken.
    """

    blobs: BlobStore
    download: Callable[[SignedDownload, float], Awaitable[bytes | None]]
    upload: Callable[[SignedUpload, bytes, float], Awaitable[bool]]


@asynccontextmanager
async def files(folder: Path) -> AsyncIterator[BlobHost]:
    blobs = await open_file_blobs(folder)

    async def download(signed: SignedDownload, now: float) -> bytes | None:
        key, query = parts_of(signed.url)
        return await blobs.get(key) if blobs.verify_download(key, query, now=now) else None

    async def upload(signed: SignedUpload, body: bytes, now: float) -> bool:
        return await put_file(blobs, signed.url, body, now)

    try:
        yield BlobHost(blobs=blobs, download=download, upload=upload)
    finally:
        await blobs.aclose()


async def put_file(blobs: FileBlobs, url: str, body: bytes, now: float) -> bool:
    """Do what the gateway's route does with a `PUT`."""

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), PIECE):
            yield body[start : start + PIECE]

    key, query = parts_of(url)
    ref = blobs.verify_upload(key, query, now=now)
    if ref is None:
        return False
    try:
        await blobs.receive(ref, pieces())
    except UploadRejectedError:
        return False
    return True


def parts_of(url: str) -> tuple[str, dict[str, str]]:
    split = urlsplit(url)
    assert split.path.startswith(PATH)
    return unquote(split.path)[len(PATH) :], dict(parse_qsl(split.query))


BLOB_STORES = {
    "files": files,
}

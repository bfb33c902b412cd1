"""The blob stores that the contract suite runs on. A new one is one more line in `BLOB_STORES`."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest

from storage.blobs.blob_store import BlobStore, SignedDownload, SignedUpload
from storage.blobs.files import FileBlobs, open_file_blobs
from storage.blobs.signing import PATH
from storage.errors import BlobMissingError, UploadRejectedError
from tests.storage.blobs import s3_hosts
from tests.storage.samples import NOW

PIECE = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobHost:
    """A store and what stands before it: clients that use its URLs.

    Attributes:
        now: the time by which the URLs are judged.
        download: returns the body, or `None` if the URL is refused.
        upload: returns whether the body was taken.
    """

    blobs: BlobStore
    now: Callable[[], float]
    download: Callable[[SignedDownload], Awaitable[bytes | None]]
    upload: Callable[[SignedUpload, bytes], Awaitable[bool]]


@asynccontextmanager
async def files(request: pytest.FixtureRequest) -> AsyncIterator[BlobHost]:
    folder: Path = request.getfixturevalue("tmp_path")
    blobs = await open_file_blobs(folder)

    async def download(signed: SignedDownload) -> bytes | None:
        key, query = parts_of(signed.url)
        try:
            return await blobs.get(key) if blobs.verify_download(key, query, now=NOW) else None
        except BlobMissingError:
            return None

    async def upload(signed: SignedUpload, body: bytes) -> bool:
        return await put_file(blobs, signed.url, body, NOW)

    try:
        yield BlobHost(blobs=blobs, now=lambda: NOW, download=download, upload=upload)
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


OpenHost = Callable[[pytest.FixtureRequest], AbstractAsyncContextManager[BlobHost]]


def s3(engine: str, fixture: str) -> OpenHost:
    """S3 by an engine, with a bucket of its own."""

    @asynccontextmanager
    async def host(request: pytest.FixtureRequest) -> AsyncIterator[BlobHost]:
        url, keys = request.getfixturevalue(fixture).url, s3_hosts.KEYS[engine]
        async with s3_hosts.opened(url, keys, await s3_hosts.make_bucket(url, keys)) as blobs:
            yield BlobHost(blobs=blobs, now=time.time, download=download, upload=upload)

    async def download(signed: SignedDownload) -> bytes | None:
        answer = await s3_hosts.fetch(signed)
        return answer.body if answer.status == 200 else None

    async def upload(signed: SignedUpload, body: bytes) -> bool:
        return await s3_hosts.post(signed, body) < 300

    return host


BLOB_STORES: dict[str, OpenHost] = {
    "files": files,
    "moto": s3("moto", "moto_server"),
    "s3rver": s3("s3rver", "s3rver"),
    "ministack": s3("ministack", "strict_ministack"),
}

_UNCHECKED_FORM = "asks nothing of a form but its key"
_UNCHECKED_SIGNATURE = "does not look at signatures of version 4"
_UNCHECKED_DIGEST = "does not compare a form's x-amz-checksum-sha256 with the body"

DEVIATIONS: dict[str, dict[str, str]] = {
    "moto": {
        "test_a_download_url_is_refused_when_its_time_is_over": "does not look at a URL's time",
        "test_a_download_url_is_good_for_nothing_else": _UNCHECKED_SIGNATURE,
        "test_an_upload_url_is_refused_when_its_time_is_over": _UNCHECKED_FORM,
        "test_an_upload_url_is_good_for_nothing_else": _UNCHECKED_FORM,
        "test_another_body_is_refused_and_not_kept": _UNCHECKED_FORM,
    },
    "s3rver": {
        "test_a_download_url_is_good_for_nothing_else": _UNCHECKED_SIGNATURE,
        "test_an_upload_url_is_refused_when_its_time_is_over": _UNCHECKED_FORM,
        "test_an_upload_url_is_good_for_nothing_else": _UNCHECKED_FORM,
        "test_another_body_is_refused_and_not_kept": _UNCHECKED_FORM,
    },
    "ministack": {
        "test_another_body_is_refused_and_not_kept[other]": _UNCHECKED_DIGEST,
    },
}
"""Where an engine is known to do other than S3, by the test that shows it, with or without its case."""

RACES = {
    "s3rver": {
        "test_readers_during_a_put_see_the_old_or_the_new_body": "writes over what is being read"
    }
}
"""Where it sometimes does; such a test is not run."""


def deviation(store: str, test: str, case: str) -> pytest.MarkDecorator | None:
    """Return the mark of a test that a store is known to fail."""
    known = DEVIATIONS.get(store, {})
    always = known.get(test) or known.get(f"{test}[{case}]")
    reason = always or RACES.get(store, {}).get(test)
    if reason is None:
        return None
    return pytest.mark.xfail(reason=f"{store} {reason}", strict=True, run=always is not None)

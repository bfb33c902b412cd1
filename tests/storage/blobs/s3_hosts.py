"""Buckets in engines that stand in for S3, and what a client without credentials may do there."""

import hashlib
import re
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from storage.blobs.blob_store import SignedDownload, SignedUpload
from storage.blobs.s3 import S3Blobs
from storage.sigv4 import Credentials, Scope, signed

REGION = "us-east-1"
KEYS = {
    "moto": Credentials(access_key_id="any", secret_access_key="any"),
    "s3rver": Credentials(access_key_id="S3RVER", secret_access_key="S3RVER"),
    "ministack": Credentials(access_key_id="test", secret_access_key="test"),
}
"""What each engine takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """An HTTP answer, its headers by lower-case name."""

    status: int
    headers: dict[str, str]
    body: bytes


async def make_bucket(url: str, keys: Credentials, *, origin: str | None = None) -> str:
    """Make a bucket with a name of its own; return the name. Without the SDK, which takes its time.

    Args:
        url: of the engine.
        keys: that it takes.
        origin: of the pages that may use the bucket.
    """
    name = f"bucket-{uuid.uuid4().hex}"
    await _ask("PUT", url, keys, f"/{name}")
    if origin is not None:
        await _ask("PUT", url, keys, f"/{name}", query="cors=", body=CORS.format(origin).encode())
    return name


CORS = """<CORSConfiguration><CORSRule><AllowedOrigin>{}</AllowedOrigin>\
<AllowedMethod>GET</AllowedMethod><AllowedMethod>POST</AllowedMethod></CORSRule></CORSConfiguration>"""
"""What a bucket needs for a browser: no header beyond those that any request may have."""


async def tags_of(url: str, keys: Credentials, bucket: str, key: str) -> dict[str, str]:
    """Return the tags of an object."""
    answer = await _ask("GET", url, keys, f"/{bucket}/{key}", query="tagging=")
    return dict(re.findall(r"<Key>(.*?)</Key>\s*<Value>(.*?)</Value>", answer))


async def _ask(
    method: str, url: str, keys: Credentials, path: str, *, query: str = "", body: bytes = b""
) -> str:
    headers = signed(
        {"Host": urlsplit(url).netloc, "X-Amz-Content-Sha256": hashlib.sha256(body).hexdigest()},
        method=method,
        path=path,
        query=query,
        body=body,
        scope=Scope(region=REGION, service="s3"),
        credentials=keys,
        now=time.time(),
    )
    where = _exactly(f"{url}{path}?{query}" if query else f"{url}{path}")
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, where, data=body, headers=headers) as response,
    ):
        answer = await response.text()
        assert response.status == 200, answer
        return answer


@asynccontextmanager
async def opened(url: str, keys: Credentials, bucket: str) -> AsyncIterator[S3Blobs]:
    blobs = S3Blobs(bucket=bucket, region=REGION, credentials=keys, endpoint_url=url)
    try:
        yield blobs
    finally:
        await blobs.aclose()


async def fetch(by: SignedDownload) -> Fetched:
    async with aiohttp.ClientSession() as session, session.get(_exactly(by.url)) as response:
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Fetched(status=response.status, headers=headers, body=await response.read())


async def post(by: SignedUpload, body: bytes) -> int:
    """Send the form as a browser does; return the status."""
    form = aiohttp.FormData(by.fields)
    form.add_field("file", body, filename="blob", content_type="text/plain")
    async with (
        aiohttp.ClientSession() as session,
        session.post(_exactly(by.url), data=form) as response,
    ):
        await response.read()
        return response.status


def _exactly(url: str) -> URL:
    return URL(url, encoded=True)

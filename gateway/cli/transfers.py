"""What passes beside the socket: bodies too large for a frame, fetched and stored over HTTP.

Their URLs are signed and good for minutes; they need no credential, and get none.
"""

import hashlib
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp
import orjson
from yarl import URL

from gateway.cli.failure import CommandFailedError

Fields = dict[str, Any]

TRANSFER_S = 30.0
"""How long one body may take, in seconds."""


async def fetch(socket_url: str, payload: Fields) -> Fields:
    """Return the frame that a `payload` stands for.

    Args:
        socket_url: where the socket is; relative URLs are on its host.
        payload: as it came.

    Raises:
        CommandFailedError: it is not to be had, or is not what was announced.
    """
    try:
        async with _session() as session, session.get(_url(socket_url, payload)) as response:
            body = await response.read()
    except (aiohttp.ClientError, TimeoutError):
        body = b""
    if hashlib.sha256(body).hexdigest() != payload["sha256"]:
        raise CommandFailedError("a part of the answer could not be fetched")
    whole: Fields = orjson.loads(body)
    return whole


async def store(socket_url: str, ready: Fields, body: bytes) -> None:
    """Put a body where an `upload_ready` says: by `PUT`, or by `POST` as a form with its fields.

    Args:
        socket_url: as for `fetch`.
        ready: as it came.
        body: what was announced by the `upload`.

    Raises:
        CommandFailedError: it is refused, or nobody answers.
    """
    data: bytes | aiohttp.FormData = body
    if ready["method"] == "POST":
        data = aiohttp.FormData(ready["fields"])
        data.add_field("file", body, filename="message.txt", content_type="text/plain")
    try:
        async with (
            _session() as session,
            session.request(ready["method"], _url(socket_url, ready), data=data) as response,
        ):
            stored = response.ok
    except (aiohttp.ClientError, TimeoutError):
        stored = False
    if not stored:
        raise CommandFailedError("the message could not be uploaded")


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TRANSFER_S))


def _url(socket_url: str, frame: Fields) -> URL:
    """Return the absolute URL exactly as it was signed: writing it in another way would break that."""
    parts = urlsplit(socket_url)
    origin = f"{'https' if parts.scheme == 'wss' else 'http'}://{parts.netloc}"
    return URL(urljoin(origin, frame["url"]), encoded=True)

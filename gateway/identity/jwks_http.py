"""Fetching a key document over HTTP, on the standard library alone: a Lambda starts without a client.

The answer is read whole before it is looked at: the connection is closed after one document, and a
document is small.
"""

import asyncio
import ssl
from http import HTTPStatus
from io import BytesIO
from typing import TYPE_CHECKING, BinaryIO, Final, cast
from urllib.parse import SplitResult, urlsplit

from gateway.identity.errors import JwksFetchError
from gateway.identity.issuers import require_safe_url
from gateway.identity.keys import MAX_DOCUMENT_BYTES

if TYPE_CHECKING:
    from socket import socket

MAX_ANSWER_BYTES: Final = MAX_DOCUMENT_BYTES + 32 * 1024
"""Of the whole answer: the document, its head, and what marks its chunks."""

SECOND_ADDRESS_S: Final = 0.25  # RFC 8305 section 5


async def fetch_jwks(url: str) -> bytes:
    """Fetch a key document: one GET, no redirects, no cookies, no proxy, at most 64 KiB.

    Cancelling it closes the connection. It has no deadline: `JwksCache` sets one.

    Raises:
        JwksFetchError: not reachable, any status but 200, cut off, or too large.
    """
    try:
        require_safe_url(url)
        parts = urlsplit(url)
        answer = await _exchange(parts, _request(parts))
    except (OSError, ValueError) as exc:
        raise JwksFetchError(f"no answer: {type(exc).__name__}") from exc
    return _document(answer)


async def _exchange(parts: SplitResult, request: bytes) -> bytes:
    # Reading the certificates of all authorities blocks for some 20 ms.
    tls = await asyncio.to_thread(ssl.create_default_context) if parts.scheme == "https" else None
    port = parts.port or (80 if tls is None else 443)
    reader, writer = await asyncio.open_connection(
        parts.hostname, port, ssl=tls, happy_eyeballs_delay=SECOND_ADDRESS_S
    )
    try:
        writer.write(request)
        answer = bytearray()
        while piece := await reader.read(MAX_ANSWER_BYTES):
            answer += piece
            if len(answer) > MAX_ANSWER_BYTES:
                raise JwksFetchError("too large")
        return bytes(answer)
    finally:
        writer.transport.abort()  # nothing is left to say, and nobody waits for a polite end


def _request(parts: SplitResult) -> bytes:
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = (
        f"GET {target} HTTP/1.1",
        f"Host: {parts.netloc}",
        "Accept: application/json",
        # The size limit counts what is stored, and a small body must not unpack to a large one.
        "Accept-Encoding: identity",
        "Connection: close",
    )
    return "\r\n".join((*lines, "", "")).encode("ascii")


def _document(answer: bytes) -> bytes:
    """Return the body of a whole answer; `http.client` knows how bodies are framed and when cut."""
    from http.client import HTTPException, HTTPResponse  # 40 ms, and needed about once a day

    response = HTTPResponse(cast("socket", _Received(answer)), method="GET")
    try:
        response.begin()
        if response.status != HTTPStatus.OK:
            raise JwksFetchError(f"status {response.status}")
        body = response.read()
    except (HTTPException, ValueError) as exc:
        raise JwksFetchError(f"no answer: {type(exc).__name__}") from exc
    finally:
        response.close()
    if len(body) > MAX_DOCUMENT_BYTES:
        raise JwksFetchError("too large")
    return body


class _Received:
    """Bytes that have arrived, as the socket that `http.client` wants to read."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def makefile(self, _mode: str) -> BinaryIO:
        return BytesIO(self._content)

"""A request to a provider, and what may come instead of the event stream that it asks for.

The client is kept plain on purpose: no redirects (a credential must not travel), no cookies, no
proxy from the environment (what reaches a provider is what the settings say), no time limits of its
own (`streaming.models.deadline` owns the clock), and no compression, because a compressor holds back
text that a person is waiting for.
"""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from streaming.models.byte_source import ByteSource
from streaming.models.errors import ModelError, ModelProtocolError
from streaming.models.http_exchange import Exchange
from streaming.models.http_head import RequestHead
from streaming.models.http_pool import ConnectionPool
from streaming.models.upstream_errors import error_of_body, error_of_response

__all__ = ["post"]

ERROR_BODY_LIMIT: Final = 65_536
"""Bytes of an error's body that are looked at; the rest is not waited for."""

ERROR_BODY_SECONDS: Final = 1.0
"""How long the body of an error is waited for once its head has come, which says the most."""


async def post(pool: ConnectionPool, head: RequestHead, body: bytes) -> ByteSource:
    """Send a request and return the event stream that answers it.

    Cancelling closes the connection.

    Raises:
        ModelError: There is no event stream: the connection failed, the status is not 200, or the
            content is something else. What the provider wrote chooses the class and is dropped.
    """
    response = await pool.exchange(head.with_body(body))
    if response.status == 200 and _is_event_stream(response.headers):
        return response
    try:
        failure = await _error_of(response)
    finally:
        await response.aclose()
    raise failure


def _is_event_stream(headers: Mapping[str, str]) -> bool:
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    return media_type == "text/event-stream" and _is_plain(headers)


def _is_plain(headers: Mapping[str, str]) -> bool:
    """Whether the body came as it is: nothing was asked for that would pack it."""
    content = headers.get("content-encoding", "identity").lower()
    transfer = headers.get("transfer-encoding", "chunked").lower()
    return content == "identity" and transfer == "chunked"


async def _error_of(response: Exchange) -> ModelError:
    body = await _read_start(response)
    if response.status != 200:
        return error_of_response(response.status, response.headers, body, now=time.time())
    if not _is_plain(response.headers):
        return ModelProtocolError("compressed", status=200)
    return error_of_body(body) or ModelProtocolError("not an event stream", status=200)


async def _read_start(response: Exchange) -> bytes:
    body = bytearray()
    with suppress(TimeoutError, ModelError):
        async with asyncio.timeout(ERROR_BODY_SECONDS):
            while len(body) < ERROR_BODY_LIMIT and (data := await response.read()):
                body += data
    return bytes(body)

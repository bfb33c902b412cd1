"""One upstream response over aiohttp, and the client that opens it.

The client is kept plain on purpose: no redirects (a credential must not travel), no cookies, no
proxy from the environment (`trust_env` stays off: what reaches a provider is what the settings say),
no time limits of its own (`streaming.models.deadline` owns the clock), and no compression asked
for, because a compressor holds back text that a person is waiting for.
"""

import time
from dataclasses import dataclass, field

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from streaming.models.errors import ModelError, ModelProtocolError, ModelUnavailableError
from streaming.models.upstream_errors import error_of_body, error_of_response

__all__ = ["HttpByteSource", "RequestHead", "open_session", "post"]

ERROR_BODY_LIMIT = 65_536
"""Bytes of an error's body that are looked at; the rest is not waited for."""

IDLE_CONNECTION_SECONDS = 55.0
"""How long an unused connection is kept: below the 60 s after which common load balancers drop one,
so that a request seldom meets a connection that is just being closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestHead:
    """All of a request but its body; the same for every turn until the credential changes."""

    url: URL = field(repr=False)
    headers: CIMultiDict[str] = field(repr=False)
    """Carries the credential. Without the fields a client adds: Host, Content-Length."""


class HttpByteSource:
    """The body of one response. Implements `ByteSource`; made by `post`."""

    __slots__ = ("_content", "_response")

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self._content = response.content

    async def read(self) -> bytes:
        """See `ByteSource.read`."""
        try:
            return await self._content.readany()
        except (aiohttp.ClientError, OSError) as error:
            broken = _connection_error(error)
        raise broken

    async def aclose(self) -> None:
        """See `ByteSource.aclose`."""
        connection = self._response.connection
        # None once the body was read to its end: then it is in the pool again.
        if connection is not None and connection.transport is not None:
            # A mere close would wait, under TLS, until the provider says goodbye too.
            connection.transport.abort()
        self._response.close()


def open_session() -> aiohttp.ClientSession:
    """Return a client for `post`; it connects when first used.

    Must be called on the event loop that will use it, and closed there.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_CONNECTION_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(),
        trust_env=False,
    )


async def post(session: aiohttp.ClientSession, head: RequestHead, body: bytes) -> HttpByteSource:
    """Send a request and return the event stream that answers it.

    Cancelling closes the connection.

    Raises:
        ModelError: There is no event stream: the connection failed, the status is not 200, or the
            content is something else. What the provider wrote chooses the class and is dropped.
    """
    try:
        response = await session.post(
            head.url, headers=head.headers, data=body, allow_redirects=False
        )
    except (aiohttp.ClientError, OSError) as error:
        failure: ModelError = _connection_error(error)
    else:
        if response.status == 200 and response.content_type == "text/event-stream":
            return HttpByteSource(response)
        failure = await _error_of(response)
    raise failure


async def _error_of(response: aiohttp.ClientResponse) -> ModelError:
    try:
        body = await _read_start(response)
    except (aiohttp.ClientError, OSError):
        body = b""
    finally:
        response.close()
    if response.status != 200:
        return error_of_response(response.status, response.headers, body, now=time.time())
    return error_of_body(body) or ModelProtocolError("not an event stream", status=200)


async def _read_start(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    while len(body) < ERROR_BODY_LIMIT and (data := await response.content.readany()):
        body += data
    return bytes(body)


def _connection_error(error: Exception) -> ModelUnavailableError:
    # The name of a client's exception class is ours to log; its text may quote what was sent.
    return ModelUnavailableError(type(error).__name__)

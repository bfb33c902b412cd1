"""One request and its response on an HTTP/1.1 connection."""

import asyncio
from collections.abc import Callable
from typing import Final

import httptools

from streaming.models.errors import ModelError, ModelProtocolError, ModelUnavailableError

__all__ = ["Exchange"]

FRAMING_LIMIT: Final = 65_536
"""Bytes accepted without one of the body among them: a head, chunk extensions, trailers."""

UNREAD_LIMIT: Final = 262_144
"""Bytes kept for a reader that is busy elsewhere; from then on TCP makes the provider wait."""


class Exchange(asyncio.Protocol):
    """Sends one request and is the body of its response. Implements `ByteSource`.

    Has the connection to itself from `send` to `aclose`, which must follow whatever happened. The
    response is framed as RFC 9112 section 6 says: by chunks, by length or by the end of the
    connection. Informational responses and trailers are passed over.

    A piece of the body costs no task and no timer, and a future only when it is waited for.

    Args:
        transport: An idle connection.
        on_end: Called when the exchange is through with the connection; True says that another may
            follow on it, False that it is lost.

    Attributes:
        status: The status of the response; 0 until its head has come.
        headers: Its header fields, names in lower case, repeated ones joined by a comma.
        unanswered: Whether the connection ended before the first byte of a response.
    """

    __slots__ = (
        "_closed",
        "_complete",
        "_failure",
        "_loop",
        "_on_end",
        "_over",
        "_parser",
        "_paused",
        "_pieces",
        "_reusable",
        "_transport",
        "_unread",
        "_waiter",
        "headers",
        "on_body",
        "status",
        "unanswered",
    )

    def __init__(self, transport: asyncio.Transport, *, on_end: Callable[[bool], None]) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.unanswered = False
        self._transport = transport
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._pieces: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None
        self._unread = 0  # bytes since the last read
        self._paused = False
        self._complete = False
        self._closed = False
        self._over = False  # complete, failed or closed
        self._reusable = False
        self._failure: ModelError | None = None
        self.on_body = self._pieces.append  # the parser calls it: a piece costs no Python frame
        self._parser = httptools.HttpResponseParser(self)

    async def send(self, request: bytes) -> None:
        """Send the request and wait for the head of the response.

        Cancelling closes the connection.

        Raises:
            ModelUnavailableError: The connection broke.
            ModelProtocolError: What came is not HTTP.
        """
        if self._transport.is_closing():
            # Its end may have been told already, under TLS, to the protocol before this one.
            self.unanswered = self._over = True
            raise ModelUnavailableError("connection closed")
        self._transport.set_protocol(self)
        self._transport.write(request)
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        except asyncio.CancelledError:
            self._transport.abort()
            raise
        if not self.status and self._failure is not None:
            raise self._failure

    async def read(self) -> bytes:
        """See `ByteSource.read`."""
        pieces = self._pieces
        if not pieces and not self._over:
            if self._paused:
                self._resume()
            self._waiter = self._loop.create_future()
            await self._waiter
        if len(pieces) == 1:
            data = pieces.pop()
        else:
            data = b"".join(pieces)
            pieces.clear()
        self._unread = 0
        if self._paused:
            self._resume()
        if not data and self._failure is not None:
            raise self._failure
        return data

    async def aclose(self) -> None:
        """See `ByteSource.aclose`."""
        if self._closed:
            return
        self._closed = self._over = True
        self._pieces.clear()
        if self._leaves_the_connection_usable():
            self._on_end(True)
        else:
            # A mere close would wait, under TLS, until the provider says goodbye too.
            self._transport.abort()

    # Called by the transport

    def data_received(self, data: bytes) -> None:
        """Parse what came, and wake the reader if it has something to read."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._reusable = False
            self._fail(ModelProtocolError("malformed HTTP"))
            return
        waiter = self._waiter
        if waiter is not None and self._pieces:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)
        else:
            self._hold(len(data))

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the end of the connection, which may be that of the body."""
        self._reusable = False
        if exc is None and self.status and self._ends_with_the_connection():
            self._complete = self._over = True
        self.unanswered = not (self.status or self._unread or self._over)
        # The name of an exception class is ours to log; its text may quote what was sent.
        self._fail(ModelUnavailableError(type(exc).__name__ if exc else "connection closed"))
        self._wake()
        self._on_end(False)

    # Called by the parser

    def on_message_begin(self) -> None:
        """Stop the parser at a second response: it would be read as a part of the first."""
        if self._complete:
            raise _SecondResponseError

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header field; one that follows the body is a trailer."""
        if not self.status:
            key = name.decode("latin-1").lower()
            text = value.decode("latin-1")
            self.headers[key] = f"{self.headers[key]}, {text}" if key in self.headers else text

    def on_headers_complete(self) -> None:
        """Take the status, unless another response follows (RFC 9110 section 15.2)."""
        status = self._parser.get_status_code()
        if status >= 200:
            self.status = status
            self._wake()

    def on_message_complete(self) -> None:
        """Take the end of the response, or of an informational one."""
        if not self.status:
            self.headers.clear()
            return
        self._complete = self._over = True
        self._reusable = self._parser.should_keep_alive()
        self._wake()

    def _leaves_the_connection_usable(self) -> bool:
        return self._reusable and not (self._paused or self._transport.is_closing())

    def _ends_with_the_connection(self) -> bool:
        return self.headers.keys().isdisjoint({"content-length", "transfer-encoding"})

    def _hold(self, count: int) -> None:
        """Bound what comes while nobody reads, and what brings nothing to read."""
        self._unread += count
        if self._waiter is not None:
            if self._unread > FRAMING_LIMIT:
                self._fail(ModelProtocolError("too much HTTP around too little"))
        elif self._unread > UNREAD_LIMIT and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        self._paused = False
        self._transport.resume_reading()

    def _fail(self, failure: ModelError) -> None:
        if self._over:
            return
        self._over = True
        self._failure = failure
        self._transport.abort()
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class _SecondResponseError(Exception):
    """Ends what the parser does, as an error of its own would."""

"""Connections to one origin, kept open between requests."""

import asyncio
import socket
import ssl
from typing import Final, cast

import aiohappyeyeballs

from streaming.models.errors import ModelUnavailableError
from streaming.models.http_exchange import Exchange
from streaming.models.http_head import Origin

__all__ = ["ConnectionPool", "tls_context"]

IDLE_SECONDS: Final = 55.0
"""How long an unused connection is kept: below the 60 s after which common load balancers drop one,
so that a request seldom meets a connection that is just being closed."""

NEXT_ADDRESS_SECONDS: Final = 0.25
"""How long one address may take before the next is tried beside it (RFC 8305 section 8)."""


class ConnectionPool:
    """The connections to one origin. Lives on one event loop; `aclose` must be called.

    Connects when a request finds no idle connection. The one used last is used first, so that those
    a burst has left behind grow old. Their number is that of the requests at a time: no bound here.

    Args:
        origin: Whom to connect to.
        tls: How to tell that it is the right one; by default, `tls_context`.
    """

    def __init__(self, origin: Origin, *, tls: ssl.SSLContext | None = None) -> None:
        self._origin = origin
        self._tls = (tls or tls_context()) if origin.tls else None
        self._open: set[_Connection] = set()
        self._idle: dict[_Connection, asyncio.TimerHandle] = {}
        self._closed = False
        self._none_open = asyncio.Event()

    async def exchange(self, request: bytes) -> Exchange:
        """Send a request and return its response once the head has come; `aclose` must be called on it.

        A provider may close an idle connection while a request is on its way there. If a reused
        connection ends before the first byte of a response, the request is sent once more, on a new
        one. RFC 9110 section 9.2.2 leaves that to clients who know that repeating does no harm: a
        completion changes nothing at the provider, and `RetryPolicy` repeats one that brought no
        part yet just so. Here it costs no wait.

        Cancelling closes the connection.

        Raises:
            ModelUnavailableError: There is no connection, or it broke.
            ModelProtocolError: What came is not HTTP.
        """
        reused = self._take_idle()
        if reused is not None:
            exchange = reused.begin()
            try:
                await exchange.send(request)
            except ModelUnavailableError:
                if not exchange.unanswered:
                    raise
            else:
                return exchange
        exchange = (await self._connect()).begin()
        await exchange.send(request)
        return exchange

    async def aclose(self) -> None:
        """Close all connections at once; responses under way break. Safe to call twice."""
        self._closed = True
        for connection in list(self._open):
            connection.transport.abort()
        if self._open:
            self._none_open.clear()  # it was set whenever the last connection had ended
            await self._none_open.wait()

    # Called by the connections

    def opened(self, connection: "_Connection") -> None:
        """Take in a new connection."""
        self._open.add(connection)
        if self._closed:
            connection.transport.abort()

    def rest(self, connection: "_Connection") -> None:
        """Keep an idle connection for a while."""
        loop = asyncio.get_running_loop()
        self._idle[connection] = loop.call_later(IDLE_SECONDS, connection.transport.abort)

    def forget(self, connection: "_Connection") -> None:
        """Drop a connection that has ended."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.pop(connection).cancel()
        if not self._open:
            self._none_open.set()

    def _take_idle(self) -> "_Connection | None":
        if not self._idle:
            return None
        connection, timer = self._idle.popitem()
        timer.cancel()
        return connection

    async def _connect(self) -> "_Connection":
        if self._closed:
            raise ModelUnavailableError("closed", retryable=False)
        try:
            return await self._connected()
        except OSError as error:
            # The name of an exception class is ours to log; its text may quote addresses.
            failure = ModelUnavailableError(type(error).__name__)
        raise failure

    async def _connected(self) -> "_Connection":
        loop = asyncio.get_running_loop()
        host, port = self._origin.host, self._origin.port
        # Not kept: resolvers have caches, and a provider that moves is followed.
        addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        sock = await aiohappyeyeballs.start_connection(
            addresses, happy_eyeballs_delay=NEXT_ADDRESS_SECONDS, interleave=1, loop=loop
        )
        connection = _Connection(self)
        try:
            await loop.create_connection(
                lambda: connection,
                sock=sock,
                ssl=self._tls,
                server_hostname=host if self._tls else None,
            )
        except BaseException:
            # It is closed; but one that had just opened is not told of its end by uvloop.
            self.forget(connection)
            raise
        return connection


class _Connection(asyncio.Protocol):
    """One connection, and its protocol while no exchange has it."""

    __slots__ = ("_pool", "transport")

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self.transport: asyncio.Transport

    def begin(self) -> Exchange:
        return Exchange(self.transport, on_end=self._exchange_ended)

    def _exchange_ended(self, reusable: bool) -> None:
        if reusable:
            self.transport.set_protocol(self)
            self._pool.rest(self)
        else:
            self._pool.forget(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._pool.opened(self)

    def data_received(self, data: bytes) -> None:
        # Nobody asked: whatever it is, it must not be taken for the answer to the next request.
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.forget(self)


def tls_context() -> ssl.SSLContext:
    """Return the system's rules for whom to trust. Takes tens of milliseconds: call it in a thread."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context

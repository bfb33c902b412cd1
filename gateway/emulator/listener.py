"""One loopback port for HTTP and HTTPS: the first byte of a connection says which.

Handlers make the URL of the @connections API from their event as `https://{domainName}/{stage}`; with TLS on
the same port that is right here too.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

HOST: Final = "127.0.0.1"

FIRST_BYTE_S: Final = 10.0

_TLS_HANDSHAKE: Final = b"\x16"


class Listener:
    """Accepts connections from `start` to `aclose`.

    Args:
        protocol: makes the protocol of a connection.
        tls: for connections that begin with a TLS handshake.
        port: to listen on; 0 for a free one.

    Raises:
        OSError: the port cannot be had.
    """

    def __init__(
        self, protocol: Callable[[], asyncio.Protocol], *, tls: ssl.SSLContext, port: int
    ) -> None:
        self._protocol = protocol
        self._tls = tls
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.setblocking(False)
        try:
            self._socket.bind((HOST, port))
            self._socket.listen(256)
        except OSError:
            self._socket.close()
            raise
        self._tasks: set[asyncio.Task[None]] = set()
        self._transports: set[asyncio.Transport] = set()

    @property
    def port(self) -> int:
        """Return the port."""
        port: int = self._socket.getsockname()[1]
        return port

    def start(self) -> None:
        """Begin to accept."""
        self._run(self._accept())

    async def aclose(self) -> None:
        """Accept no more, and cut what is open."""
        for task in self._tasks:
            task.cancel()
        while self._tasks:
            await asyncio.wait(self._tasks)
        self._socket.close()
        for transport in self._transports:
            transport.abort()
        await asyncio.sleep(0)  # what was aborted hears of it in the next turn of the loop

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            accepted, _ = await loop.sock_accept(self._socket)
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._run(self._open(accepted))

    async def _open(self, accepted: socket.socket) -> None:
        try:
            async with asyncio.timeout(FIRST_BYTE_S):
                first = await _first_byte(accepted)
            if not first:
                accepted.close()
                return
            transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
                self._protocol, accepted, ssl=self._tls if first == _TLS_HANDSHAKE else None
            )
        except OSError:  # TimeoutError and SSLError are such
            accepted.close()
            return
        except BaseException:
            accepted.close()
            raise
        self._transports = {each for each in self._transports if not each.is_closing()}
        self._transports.add(transport)


async def _first_byte(connected: socket.socket) -> bytes:
    """Wait for the first byte of a connection, and leave it there; empty at its end."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(connected, readable.set)
    try:
        while True:
            await readable.wait()
            readable.clear()
            with suppress(BlockingIOError):
                return connected.recv(1, socket.MSG_PEEK)
    finally:
        loop.remove_reader(connected)

"""A loopback server that sends exactly the bytes it is told, over TCP or TLS.

    async def script(peer):
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n", b"Content-Length: 0\r\n\r\n")
        await peer.left()

    async with byte_server(script) as server:
        ...  # a client of server.origin

Each connection runs the script once; it is closed when that returns.
"""

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from streaming.models.http_head import Origin

_LENGTH = re.compile(rb"\r\nContent-Length: (\d+)\r\n")


@dataclass(eq=False)
class Peer:
    """The server's side of one connection."""

    number: int
    """Counted from 0 in the order of connecting."""
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    server: "ByteServer"

    async def request(self) -> bytes:
        """Wait for a whole request."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        request = head + await self.reader.readexactly(int(length[1]) if length else 0)
        self.server.requests.append((self.number, request))
        return request

    async def send(self, *pieces: bytes) -> None:
        """Send each piece in a write of its own."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    async def left(self) -> None:
        """Wait until the client has closed the connection, and read what comes before."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65_536):
                pass

    def reset(self) -> None:
        """Abort the connection."""
        self.writer.transport.abort()


Script = Callable[[Peer], Awaitable[None]]


class ByteServer:
    def __init__(self, script: Script, *, tls: bool) -> None:
        self.peers: list[Peer] = []
        self.requests: list[tuple[int, bytes]] = []
        """What was asked, each with the number of its connection."""
        self.origin = Origin(host="127.0.0.1", port=0, tls=tls)
        self._script = script
        self._running: set[asyncio.Task[None]] = set()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(len(self.peers), reader, writer, self)
        self.peers.append(peer)
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._script(peer)
        except asyncio.CancelledError:
            # Python 3.11 reports a cancelled handler as an error of the loop.
            peer.reset()
        finally:
            writer.close()

    async def stop(self) -> None:
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running, timeout=5)


@contextlib.asynccontextmanager
async def byte_server(
    script: Script, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[ByteServer]:
    running = ByteServer(script, tls=tls is not None)
    server = await asyncio.start_server(running.handle, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    running.origin = Origin(host="127.0.0.1", port=port, tls=tls is not None)
    try:
        yield running
    finally:
        server.close()
        await running.stop()
        await server.wait_closed()

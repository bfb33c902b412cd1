"""A small RFC 6455 client: enough for the load, cheap enough to drive thousands of frames a second.

It offers what a browser offers, permessage-deflate (RFC 7692) included, so a server that accepts
compression by default compresses, as it would for a page.
"""

import asyncio
import zlib
from collections.abc import Callable, Sequence
from typing import cast

CONNECT_SECONDS = 10.0

_TEXT, _CLOSE, _PING = 0x1, 0x8, 0x9
_SYNC_FLUSH = b"\x00\x00\xff\xff"  # RFC 7692, 7.2.2: cut by the sender, given back before inflating


class HandshakeRefusedError(ConnectionError):
    """The server answered the upgrade with something else than 101."""


class Socket(asyncio.Protocol):
    """One client connection; `received` is called with every whole text message.

    Attributes:
        messages: text messages so far.
        compressed: whether the server took up permessage-deflate.
        closed: resolved once the connection is gone.
    """

    def __init__(self, received: Callable[[bytes], None]) -> None:
        loop = asyncio.get_running_loop()
        self._received = received
        self._buffer = b""
        self._message: list[bytes] = []
        self._message_compressed = False
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        self._opened: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self.messages = 0
        self.compressed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._opened.done():
            self._opened.set_exception(HandshakeRefusedError("closed during the handshake"))
        self.closed.set_result(None)

    async def open(self, path: str, port: int, headers: Sequence[str], *, deflate: bool) -> None:
        """Send the upgrade request and wait for the answer."""
        lines = [
            f"GET {path} HTTP/1.1",
            f"Host: 127.0.0.1:{port}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: AAECAwQFBgcICQoLDA0ODw==",
            *headers,
        ]
        if deflate:
            lines.append("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits")
        self._transport.write("\r\n".join([*lines, "", ""]).encode())
        async with asyncio.timeout(CONNECT_SECONDS):
            await self._opened

    def send(self, text: bytes) -> None:
        """Send one text message."""
        self._send(_TEXT, text)

    def stall(self) -> None:
        """Read nothing any more."""
        self._transport.pause_reading()

    @property
    def port(self) -> int:
        """The port of this end."""
        port: int = self._transport.get_extra_info("sockname")[1]
        return port

    def close(self) -> None:
        """Send a close frame and hang up without waiting for the answer."""
        if not self._transport.is_closing():
            self._send(_CLOSE, b"\x03\xe8")
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._buffer = data = self._buffer + data if self._buffer else data
        if not self._opened.done():
            head, found, data = data.partition(b"\r\n\r\n")
            if not found:
                return
            self._take_answer(head)
        self._buffer = data[self._take_frames(data) :]

    def _take_answer(self, head: bytes) -> None:
        status, _, rest = head.partition(b"\r\n")
        if b" 101 " not in status + b" ":
            self._opened.set_exception(HandshakeRefusedError(status.decode(errors="replace")))
            self._transport.close()
            return
        self.compressed = b"permessage-deflate" in rest.lower()
        self._opened.set_result(None)

    def _take_frames(self, data: bytes) -> int:
        at, end = 0, len(data)
        while end - at >= 2:
            length, start = data[at + 1] & 0x7F, at + 2
            if length >= 126:
                start += 2 if length == 126 else 8
                if start > end:
                    break
                length = int.from_bytes(data[at + 2 : start], "big")
            if start + length > end:
                break
            self._take_frame(data[at], data[start : start + length])
            at = start + length
        return at

    def _take_frame(self, first: int, payload: bytes) -> None:
        opcode = first & 0x0F
        if opcode >= _CLOSE:
            self._take_control(opcode, payload)
            return
        if opcode == _TEXT:
            self._message_compressed = bool(first & 0x40)
        self._message.append(payload)
        if first & 0x80:
            whole = b"".join(self._message)
            self._message.clear()
            if self._message_compressed:
                whole = self._inflate.decompress(whole + _SYNC_FLUSH)
            self.messages += 1
            self._received(whole)

    def _take_control(self, opcode: int, payload: bytes) -> None:
        if opcode == _PING:
            self._send(0xA, payload)
        elif opcode == _CLOSE:
            self._transport.close()

    def _send(self, opcode: int, payload: bytes) -> None:
        # A masking key of zero leaves the payload as it is; proxies it could mislead there are none.
        size = len(payload)
        head = bytes((0x80 | opcode, 0x80 | size)) if size < 126 else (
            bytes((0x80 | opcode, 0x80 | 126)) + size.to_bytes(2, "big")
        )  # fmt: skip
        self._transport.write(head + b"\0\0\0\0" + payload)


async def connect(
    port: int,
    path: str,
    received: Callable[[bytes], None],
    *,
    headers: Sequence[str] = (),
    deflate: bool = True,
) -> Socket:
    """Open a connection to a loopback server.

    Args:
        headers: further lines of the upgrade request.
        deflate: offer permessage-deflate, as browsers do.

    Raises:
        HandshakeRefusedError: the server said no.
        TimeoutError: it said nothing for ten seconds.
    """
    loop = asyncio.get_running_loop()
    _, socket = await loop.create_connection(lambda: Socket(received), "127.0.0.1", port)
    await socket.open(path, port, headers, deflate=deflate)
    return socket

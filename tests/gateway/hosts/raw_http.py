"""Requests spelt out byte by byte, for what no well-behaved client would send."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import orjson

BOUND_S = 5.0

UPGRADE = {
    "Host": "127.0.0.1",
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The head of an answer; names in lower case."""

    status: int
    headers: Mapping[str, str]


class Line:
    """A TCP connection to the host."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> Head:
        """Return the head of the next answer."""
        async with asyncio.timeout(BOUND_S):
            lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines[1:] if line)
        return Head(
            status=int(lines[0].split()[1]),
            headers={name.lower(): value.strip() for name, _, value in pairs},
        )

    async def body(self, head: Head) -> bytes:
        async with asyncio.timeout(BOUND_S):
            return await self._reader.readexactly(int(head.headers["content-length"]))

    async def error_code(self, head: Head) -> str:
        """Return the code of the one body that errors have."""
        error = orjson.loads(await self.body(head))["error"]
        assert error.keys() >= {"code", "message", "retryable", "request_id"}
        code: str = error["code"]
        return code

    async def read(self, size: int) -> bytes:
        """Return that many bytes, fewer if the connection ends."""
        async with asyncio.timeout(BOUND_S):
            try:
                return await self._reader.readexactly(size)
            except asyncio.IncompleteReadError as exc:
                return exc.partial
            except ConnectionResetError:
                return b""

    async def is_cut_off(self, piece: bytes, *, times: int, pause_s: float = 0.0) -> bool:
        """Say the same again and again; tell whether the host ends the connection meanwhile."""
        for _ in range(times):
            try:
                await self.say(piece)
            except ConnectionError:
                return True
            if self._reader.at_eof():
                return True
            await asyncio.sleep(pause_s)
        return False

    async def ended(self) -> None:
        """Wait until the host has closed the connection."""
        async with asyncio.timeout(BOUND_S):
            try:
                while await self._reader.read(65_536):
                    pass
            except ConnectionResetError:
                pass


@asynccontextmanager
async def line_to(port: int) -> AsyncIterator[Line]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Line(reader, writer)
    finally:
        writer.transport.abort()


def request(
    target: str = "/v1/ws",
    *,
    method: str = "GET",
    headers: Mapping[str, str | None] = {},
) -> bytes:
    """Return a handshake, or whatever the changed headers make of it; `None` leaves one out."""
    lines = [f"{method} {target} HTTP/1.1"]
    named = {**UPGRADE, **headers}
    lines += [f"{name}: {value}" for name, value in named.items() if value is not None]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

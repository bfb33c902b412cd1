"""A fast fake provider: `POST /v1/chat/completions`, streamed, in function-call mode.

Every stream sends the same prebuilt bytes. One timer paces all of them: a wheel of one-millisecond
ticks, each holding the streams that are due. The request's last user message steers a stream by
`chunks=<n> every=<ms>`: n fragments of 16 characters of text, one every so many milliseconds. The
first fragment leaves with the response head, so whatever a server adds to it is the server's own.
"""

import asyncio
import re
import sys
from typing import cast

import uvloop

from bench import openai_wire
from bench.texts import ENGLISH, HEAD, TAIL

CHARACTERS = 16
LONGEST = 4096  # fragments; a request for more gets these
SPREAD = 7  # milliseconds between the phases of two streams begun at once; coprime to 20

_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n"
)
_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_ORDER = re.compile(rb"chunks=(\d+) every=(\d+)")


def _event(data: str) -> bytes:
    body = f"data: {data}\n\n".encode()
    return b"%x\r\n%s\r\n" % (len(body), body)


def _texts() -> list[str]:
    prose = ENGLISH.replace("\n", " ").replace('"', "'")
    prose *= LONGEST * CHARACTERS // len(prose) + 1
    return [prose[at : at + CHARACTERS] for at in range(0, LONGEST * CHARACTERS, CHARACTERS)]


TEXTS = _texts()
FIRST = _event(openai_wire.call_started()) + _event(openai_wire.arguments_fragment(HEAD + TEXTS[0]))
PIECES = [_event(openai_wire.arguments_fragment(text)) for text in TEXTS]
LAST = b"".join(
    [
        *(
            _event(openai_wire.arguments_fragment(TAIL[at : at + 16]))
            for at in range(0, len(TAIL), 16)
        ),
        _event(openai_wire.finished()),
        _event(openai_wire.usage(120, 800)),
        _event("[DONE]"),
        b"0\r\n\r\n",
    ]
)


class Wheel:
    """One timer for all streams; it runs while there are any."""

    TICK = 0.001
    SLOTS = 4096

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._slots: list[list[Stream]] = [[] for _ in range(self.SLOTS)]
        self._now = 0
        self._origin = 0.0
        self._waiting = 0

    def add(self, stream: "Stream", ticks: int) -> None:
        """Let a stream send its next fragment after that many ticks."""
        if not self._waiting:
            self._origin = self._loop.time() - self._now * self.TICK
            self._loop.call_later(self.TICK, self._turn)
        self._waiting += 1
        self._slots[(self._now + ticks) % self.SLOTS].append(stream)

    def _turn(self) -> None:
        until = int((self._loop.time() - self._origin) / self.TICK)
        while self._now < until:
            self._now += 1
            slot = self._now % self.SLOTS
            due, self._slots[slot] = self._slots[slot], []
            self._waiting -= len(due)
            for stream in due:
                if stream.advance():
                    self._waiting += 1
                    self._slots[(self._now + stream.every) % self.SLOTS].append(stream)
        if self._waiting:
            # Not call_at the next tick: below half a millisecond uvloop would spin.
            self._loop.call_later(self.TICK, self._turn)


class Stream:
    """One answer on one connection; fragment `sent` is the next."""

    __slots__ = ("_transport", "chunks", "every", "sent")

    def __init__(self, transport: asyncio.Transport, chunks: int, every: int) -> None:
        self._transport = transport
        self.chunks = min(max(chunks, 1), LONGEST)
        self.every = min(max(every, 1), Wheel.SLOTS - 1)
        self.sent = 1

    def begin(self) -> bool:
        """Send the head and the first fragment; False when that was all."""
        self._transport.write(_HEAD + FIRST)
        return self._unless_done()

    def advance(self) -> bool:
        """Send the next fragment; False when the stream has ended."""
        if self._transport.is_closing():
            return False
        self._transport.write(PIECES[self.sent])
        self.sent += 1
        return self._unless_done()

    def _unless_done(self) -> bool:
        if self.sent < self.chunks:
            return True
        self._transport.write(LAST)
        return False


class Connection(asyncio.Protocol):
    """One kept-alive HTTP/1.1 connection, one request at a time."""

    begun = 0

    def __init__(self, wheel: Wheel) -> None:
        self._wheel = wheel
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, rest = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        length = _LENGTH.search(head)
        if len(rest) < (int(length[1]) if length else 0):
            return
        self._received = b""
        self._answer(head, rest)

    def _answer(self, head: bytes, body: bytes) -> None:
        if not head.startswith(b"POST /v1/chat/completions "):
            self._transport.write(_NOT_FOUND)
            return
        orders = _ORDER.findall(body) or [(b"20", b"20")]
        chunks, every = map(int, orders[-1])
        stream = Stream(self._transport, chunks, every)
        if stream.begin():
            Connection.begun += 1
            self._wheel.add(stream, 1 + Connection.begun * SPREAD % stream.every)


async def serve() -> None:
    """Listen on a free loopback port, print it, and answer until ended by a signal."""
    loop = asyncio.get_running_loop()
    wheel = Wheel(loop)
    server = await loop.create_server(lambda: Connection(wheel), "127.0.0.1", 0, backlog=1024)
    port = server.sockets[0].getsockname()[1]
    print(f"listening on 127.0.0.1:{port}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    sys.exit(uvloop.run(serve()))

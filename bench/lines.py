"""One client's line to a system: it asks for a reply and counts the text that comes back.

All speak the small protocol of their system and count alike: a chunk is delivered when all its
characters have come, however the system cut or merged them on the way.
"""

import asyncio
import itertools
import time
from abc import ABC, abstractmethod
from typing import cast

import orjson

from bench import openai_wire, websocket
from bench.provider import CHARACTERS
from bench.texts import HEAD

_serial = itertools.count()


class Line(ABC):
    """One open connection; `ask` again only when `ended` of the last turn is done.

    Attributes:
        ended: resolved when the reply is complete, fails when the system says so or hangs up.
        asked_at: clock of the last question, in seconds.
        first_at: clock of its reply's first text, 0 before.
        messages: what has come so far, in pieces as the system cut them.
    """

    preamble = 0  # counted characters before the text itself begins

    def __init__(self) -> None:
        self._characters = 0
        self._chunks = 0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.asked_at = 0.0
        self.first_at = 0.0
        self.messages = 0

    def ask(self, chunks: int, every: int) -> None:
        """Ask for a reply of so many chunks, one every so many milliseconds."""
        self._characters = -self.preamble
        self._chunks = chunks
        self.ended = asyncio.get_running_loop().create_future()
        self.first_at = 0.0
        self.asked_at = time.perf_counter()
        self._send(f"Please write: chunks={chunks} every={every}")

    @property
    def delivered(self) -> int:
        """Chunks of the current reply whose text has come completely."""
        return max(0, min(self._characters // CHARACTERS, self._chunks))

    @property
    def waited(self) -> float:
        """Seconds from the question to its first text."""
        return self.first_at - self.asked_at

    @abstractmethod
    def _send(self, content: str) -> None:
        """Send the question."""

    @abstractmethod
    def close(self) -> None:
        """Hang up."""

    def _came(self, characters: int) -> None:
        self.messages += 1
        if not self.first_at:
            self.first_at = time.perf_counter()
        self._characters += characters

    def _end(self, failure: str = "") -> None:
        if self.ended.done():
            return
        if failure:
            self.ended.set_exception(ConnectionError(failure))
            self.ended.exception()  # a load that looks only at the counts need not fetch it
        else:
            self.ended.set_result(None)


class DirectLine(Line, asyncio.Protocol):
    """Straight to the provider, without anything between: what the others are compared with."""

    _FRAGMENT = b'"arguments":"'

    def __init__(self, port: int) -> None:
        super().__init__()
        self._host = f"127.0.0.1:{port}"
        self._rest = b""

    @classmethod
    async def open(cls, port: int) -> "DirectLine":
        """Connect to a provider."""
        loop = asyncio.get_running_loop()
        _, line = await loop.create_connection(lambda: cls(port), "127.0.0.1", port)
        return line

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end("the provider hung up")

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        found = data.count(self._FRAGMENT) - data.count(b'"arguments":""')
        if found:
            self._came(found * CHARACTERS)
        if b"data: [DONE]" in data:
            self._end()
        self._rest = data[1 - len(self._FRAGMENT) :]

    def close(self) -> None:
        self._transport.close()

    def _send(self, content: str) -> None:
        self._rest = b""
        body = orjson.dumps(
            {
                "model": openai_wire.MODEL,
                "messages": [{"role": "user", "content": content}],
                "tools": [openai_wire.TOOL],
                "stream": True,
            }
        )
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: {self._host}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._transport.write(head.encode() + body)


class SocketLine(Line):
    """A WebSocket to a system."""

    socket: websocket.Socket

    def close(self) -> None:
        self.socket.close()

    async def _open(
        self, port: int, path: str, *, deflate: bool, headers: tuple[str, ...] = ()
    ) -> None:
        self.socket = await websocket.connect(
            port, path, self._received, headers=headers, deflate=deflate
        )
        self.socket.closed.add_done_callback(lambda _: self._end("the server hung up"))

    @abstractmethod
    def _received(self, message: bytes) -> None:
        """Take one text message."""


class RelayLine(SocketLine):
    """To a relay: `{"content"}` goes, `{"type": "delta", "text"}` and `{"type": "done"}` come.

    The text is the arguments as the provider cut them, so the JSON before `content` is counted out.
    """

    preamble = len(HEAD)

    @classmethod
    async def open(cls, port: int, *, deflate: bool) -> "RelayLine":
        """Connect to a relay."""
        line = cls()
        await line._open(port, "/ws", deflate=deflate)
        return line

    def _send(self, content: str) -> None:
        self.socket.send(orjson.dumps({"content": content}))

    def _received(self, message: bytes) -> None:
        event = orjson.loads(message)
        if event["type"] == "delta":
            self._came(len(event["text"]))
        else:
            self._end("" if event["type"] == "done" else message.decode())


class GatewayLine(SocketLine):
    """To the gateway: `makoto.v1`, with a token offered as a browser offers it.

    Attributes:
        run_id: of the last reply; "" before there is one.
        ready: resolved once the server has answered `hello`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.run_id = ""
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @classmethod
    async def open(cls, port: int, path: str, token: str, *, deflate: bool) -> "GatewayLine":
        """Connect, say hello and wait for `ready`."""
        line = cls()
        offered = f"Sec-WebSocket-Protocol: makoto.v1, bearer.{token}"
        origin = f"Origin: http://127.0.0.1:{port}"
        await line._open(port, path, deflate=deflate, headers=(offered, origin))
        line.socket.send(b'{"type":"hello"}')
        async with asyncio.timeout(websocket.CONNECT_SECONDS):
            await line.ready
        return line

    def _send(self, content: str) -> None:
        command = {"type": "send", "id": f"bench-{next(_serial)}-{time.time_ns()}"}
        self.socket.send(orjson.dumps({**command, "content": content}))

    def _received(self, message: bytes) -> None:
        frame = orjson.loads(message)
        if frame["type"] == "events":
            self.run_id = frame["run_id"]
            self._take_events(frame["events"])
        elif frame["type"] == "ready":
            self.ready.set_result(None)
        elif frame["type"] == "error":
            self._end(message.decode())
            if not self.ready.done():
                self.ready.set_exception(ConnectionError(message.decode()))

    def _take_events(self, events: list[dict[str, str]]) -> None:
        new = sum(len(event["text"]) for event in events if event["type"] == "content.delta")
        if new:
            self._came(new)
        if events[-1]["type"] == "done":
            whole = events[-1]["reason"] == "stop"
            self._end("" if whole else orjson.dumps(events[-1]).decode())

"""HTTP/1.1 on one connection: requests are answered in order, an upgrade is handed on.

Small on purpose, and ours, because an answer may have to be lost: the connection is cut instead.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, cast
from urllib.parse import unquote

import httptools
import orjson

BODY_BYTES: Final = 8_388_608
"""More than any request that is not refused for its size."""

log = logging.getLogger(__name__)

Headers = list[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request whose body has come.

    Attributes:
        method: in capitals.
        path: decoded.
        headers: by name in lower case; the last of several.
        body: empty for none.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """An answer.

    Attributes:
        status: of HTTP; 0 for none: the connection is cut.
        body: empty for none.
        headers: more than the length and the type.
    """

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    def encoded(self) -> bytes:
        """Return it as it goes over the wire."""
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if self.status != HTTPStatus.NO_CONTENT:
            lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.body


LOST: Final = Response(status=0)


def refusal(status: int, error_type: str, **members: str | None) -> Response:
    """Return an error in the form of AWS's REST-JSON protocol."""
    return Response(
        status=status,
        body=orjson.dumps(members),
        headers={"Content-Type": "application/json", "x-amzn-ErrorType": error_type},
    )


class HttpConnection(asyncio.Protocol):
    """One connection, until it is closed or becomes a WebSocket.

    Args:
        answer: to each request; a second one waits for it.
        upgraded: makes the protocol that an upgrade goes on with.
        tasks: holds what answers, for whoever ends it.
    """

    def __init__(
        self,
        answer: Callable[[Request], Awaitable[Response]],
        upgraded: Callable[[], asyncio.Protocol],
        tasks: set[asyncio.Task[None]],
    ) -> None:
        self._answer = answer
        self._upgraded = upgraded
        self._tasks = tasks
        self._parser: Any = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiting: list[tuple[Request, bool]] = []
        self._is_answering = False
        self._begin()

    def _begin(self) -> None:
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._body = bytearray()

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is of no class of asyncio

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        assert self._transport is not None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._hand_on(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._transport.write(Response(status=400).encoded())
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let an answer that is under way end by itself: a function runs on without its caller."""
        self._waiting.clear()

    # What the parser calls

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._begin()

    def on_url(self, url: bytes) -> None:
        """Keep a piece of the target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Say that the body may come, if that is asked."""
        assert self._transport is not None
        if dict(self._lower()).get("expect", "").lower() == "100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, piece: bytes) -> None:
        """Keep a piece of the body."""
        assert self._transport is not None
        self._body += piece
        if len(self._body) > BODY_BYTES:
            self._transport.write(Response(status=413).encoded())
            self._transport.close()

    def on_message_complete(self) -> None:
        """Have the request answered, unless it is an upgrade."""
        if self._parser.should_upgrade():
            return
        path = httptools.parse_url(self._url).path or b""
        request = Request(
            method=self._parser.get_method().decode(),
            path=unquote(path.decode("latin-1")),
            headers=dict(self._lower()),
            body=bytes(self._body),
        )
        self._waiting.append((request, self._parser.should_keep_alive()))
        if not self._is_answering:
            self._is_answering = True
            task = asyncio.create_task(self._answer_all())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    # Ours

    def _lower(self) -> Headers:
        return [(n.decode("latin-1").lower(), v.decode("latin-1")) for n, v in self._headers]

    async def _answer_all(self) -> None:
        transport = self._transport
        assert transport is not None
        try:
            while self._waiting:
                request, keep_alive = self._waiting.pop(0)
                response = await self._answered(request)
                if response is LOST:
                    transport.abort()
                    return
                transport.write(response.encoded())
                if not keep_alive:
                    transport.close()
        finally:
            self._is_answering = False

    async def _answered(self, request: Request) -> Response:
        try:
            return await self._answer(request)
        except Exception:
            log.exception("a request broke")
            return Response(status=500)

    def _hand_on(self, rest: bytes) -> None:
        assert self._transport is not None
        head = [b"GET " + self._url + b" HTTP/1.1"]
        head += [name + b": " + value for name, value in self._headers]
        protocol = self._upgraded()
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        protocol.data_received(b"\r\n".join([*head, b"", b""]) + rest)

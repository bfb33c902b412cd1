"""API Gateway's @connections API: PostToConnection and DeleteConnection, one signed request each.

See https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-how-to-call-websocket-api-connections.html.

The SDK's client takes 0.4 s to load and 0.7 to 1 ms of CPU per post, aiohttp 0.15 s and 0.2 to 0.3 ms, a
thread per post 0.02 s and 0.27 ms. A connection of asyncio and our own signature take 0.01 s and 0.1 ms;
of an answer nothing but the status and the name of the error is needed.
"""

import asyncio
import ssl
import time
from asyncio import (
    IncompleteReadError,
    LimitOverrunError,
    StreamReader,
    StreamReaderProtocol,
    StreamWriter,
)
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlsplit

from storage.signed_http import shared_tls
from storage.sigv4 import Credentials, Scope, signed

ATTEMPT_S: Final = 3.0
"""For one request: a healthy API answers in some 10 ms, so silence is a fault."""

CONNECT_S: Final = 1.0

IDLE_S: Final = 15.0
"""A connection that was idle for longer is not used again: something between may have forgotten it."""

_HEAD_BYTES: Final = 16_384
_BODY_BYTES: Final = 16_384
_BROKEN: Final = (OSError, EOFError, LimitOverrunError, ValueError)
"""What comes of a connection that breaks, is silent (TimeoutError is an OSError) or speaks no HTTP."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the API said.

    Attributes:
        status: of HTTP; 0 if nothing came in time. Then the request may have been carried out.
        code: the name of the error, such as `GoneException`; empty for none.
    """

    status: int
    code: str = ""


class ConnectionsApi:
    """The API of one stage, for one event loop until `aclose`. Connects when it is asked.

    Args:
        url: `https://{api}.execute-api.{region}.amazonaws.com/{stage}`, or a custom domain's or an
            emulator's; percent-encoded.
        region: as `eu-central-1`; the signature names it, whatever the domain.
        credentials: of whoever posts, allowed `execute-api:ManageConnections`; they must outlive this.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        *,
        url: str,
        region: str,
        credentials: Credentials,
        clock: Callable[[], float] = time.time,
    ) -> None:
        parts = urlsplit(url)
        self._secure = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._secure else 80)
        self._host_header = parts.netloc
        self._path = parts.path.rstrip("/")
        self._scope = Scope(region=region, service="execute-api")
        self._credentials = credentials
        self._clock = clock
        self._tls: ssl.SSLContext | None = None
        self._idle: list[_Connection] = []

    async def post(self, connection_id: str, frame: bytes, *, fresh: bool = False) -> Answer:
        """Ask once to send a text frame. Cancelling may come too late.

        Args:
            connection_id: as API Gateway made it.
            frame: at most 131,072 bytes of UTF-8.
            fresh: use a new connection. After a freeze all that were kept may be broken.
        """
        return await self._ask("POST", connection_id, frame, fresh=fresh)

    async def delete(self, connection_id: str, *, fresh: bool = False) -> Answer:
        """Ask once to close a connection; see `post`."""
        return await self._ask("DELETE", connection_id, b"", fresh=fresh)

    async def aclose(self) -> None:
        """Close the connections. Nothing is asked after that."""
        while self._idle:
            self._idle.pop().abort()
        await asyncio.sleep(0)  # the loop closes them in its next turn

    async def _ask(self, method: str, connection_id: str, body: bytes, *, fresh: bool) -> Answer:
        request = self._request(method, connection_id, body)
        connection = None if fresh else self._take_idle()
        try:
            async with asyncio.timeout(ATTEMPT_S):
                connection = connection or await self._connect()
                answer = await connection.exchange(request)
        except _BROKEN as error:
            answer = Answer(status=0, code=type(error).__name__)
        finally:
            if connection is not None and connection.is_whole:
                self._idle.append(connection)
            elif connection is not None:
                connection.abort()
        return answer

    def _request(self, method: str, connection_id: str, body: bytes) -> bytes:
        path = f"{self._path}/@connections/{quote(connection_id, safe='')}"
        headers = signed(
            {"Host": self._host_header},
            method=method,
            path=path,
            body=body,
            scope=self._scope,
            credentials=self._credentials,
            now=self._clock(),
        )
        lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
        head = f"{method} {path} HTTP/1.1\r\n{''.join(lines)}Content-Length: {len(body)}\r\n\r\n"
        return head.encode("ascii") + body

    def _take_idle(self) -> "_Connection | None":
        while self._idle:
            connection = self._idle.pop()  # the one used last: the others grow old
            if connection.is_fit():
                return connection
            connection.abort()
        return None

    async def _connect(self) -> "_Connection":
        if self._secure and self._tls is None:
            self._tls = await asyncio.to_thread(shared_tls)
        loop = asyncio.get_running_loop()
        reader = StreamReader(limit=_HEAD_BYTES, loop=loop)
        protocol = _Counting(reader, loop=loop)
        async with asyncio.timeout(CONNECT_S):
            transport, _ = await loop.create_connection(
                lambda: protocol, self._host, self._port, ssl=self._tls
            )
        return _Connection(reader, StreamWriter(transport, protocol, reader, loop), protocol)


class _Counting(StreamReaderProtocol):
    """What feeds a connection's reader.

    Attributes:
        received: how many bytes have come so far, whether they were read or not.
    """

    received = 0

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol.data_received`."""
        self.received += len(data)
        super().data_received(data)


class _Connection:
    """An HTTP/1.1 connection for one request at a time.

    Attributes:
        is_whole: whether the last answer was read to its end, so that another request may follow.
    """

    __slots__ = ("_counting", "_last_used", "_read", "_reader", "_writer", "is_whole")

    def __init__(self, reader: StreamReader, writer: StreamWriter, counting: _Counting) -> None:
        self._reader = reader
        self._writer = writer
        self._counting = counting
        self._read = 0
        self._last_used = 0.0
        self.is_whole = False

    def is_fit(self) -> bool:
        """Whether nothing is known against using it again.

        What came unasked, such as a 408 before a goodbye, would be taken for the answer to the next request.
        """
        idle_s = time.monotonic() - self._last_used
        is_open = not (self._reader.at_eof() or self._writer.is_closing())
        return idle_s < IDLE_S and is_open and self._counting.received == self._read

    async def exchange(self, request: bytes) -> Answer:
        """Send a request and return what its answer says.

        Raises:
            OSError, EOFError, LimitOverrunError, ValueError: no answer came that can be understood.
        """
        self.is_whole = False
        self._writer.write(request)
        status, headers = await self._head()
        while status < 200:  # informational, RFC 9110 section 15.2
            status, headers = await self._head()
        self.is_whole = await self._pass_over_body(status, headers)
        self._last_used = time.monotonic()
        return Answer(
            status=status, code=headers.get("x-amzn-errortype", "").partition(":")[0].strip()
        )

    def abort(self) -> None:
        """Close it at once, whatever is under way."""
        self._writer.transport.abort()

    async def _head(self) -> tuple[int, dict[str, str]]:
        head = await self._reader.readuntil(b"\r\n\r\n")
        self._read += len(head)
        first, *lines = head.decode("latin-1").rstrip().split("\r\n")
        version, status, *_ = first.split(" ", 2)
        if version != "HTTP/1.1":
            raise ValueError("not HTTP/1.1")
        pairs = (line.partition(":") for line in lines)
        return int(status), {name.lower(): value.strip() for name, _, value in pairs}

    async def _pass_over_body(self, status: int, headers: dict[str, str]) -> bool:
        """Read a body of known length. One of another kind stays unread, at the price of the connection."""
        length = "0" if status == 204 else headers.get("content-length", "")
        if not length.isdecimal() or int(length) > _BODY_BYTES:
            return False
        try:
            self._read += len(await self._reader.readexactly(int(length)))
        except (IncompleteReadError, OSError):
            return False  # the status is known, and that is what matters
        return "close" not in headers.get("connection", "").lower()

"""The open WebSockets of this process: the local `Transport`."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from gateway.runs.transport import GoneError
from gateway.wire.errors import RateLimitedError
from gateway.wire.limits import MESSAGE_BYTES
from storage.records import Connection

CLOSE_REASON_BYTES = 123
"""What a close frame has room for (RFC 6455 section 5.5)."""

_FINAL_TEXT = 0x81
_SHORT, _MEDIUM, _LONG = Struct("!BB"), Struct("!BBH"), Struct("!BBQ")


@dataclass(slots=True, eq=False)
class OpenSocket:
    """One open WebSocket.

    Attributes:
        ws: the connection on the wire.
        connection: its record, as the last handler left it.
        address: where it comes from.
        opened_at: when it was let in, in seconds of the loop's clock.
        heard_at: when its last frame came, in the same.
        bad_frames: how many bad frames came in a row.
        refusals: how many more commands were refused for the rate of its user than carried out.
        told_to_go: whether it was sent `goaway`.
        refusal: why it is not served: its user, who is known, has or asks too much. It is open so that a
            browser can read that, to which a refused handshake says nothing, and then closed. It counts as
            one without identity.
    """

    ws: ServerConnection
    connection: Connection
    address: str
    opened_at: float
    heard_at: float
    bad_frames: int = 0
    refusals: int = 0
    told_to_go: bool = False
    refusal: RateLimitedError | None = None

    @property
    def identified(self) -> bool:
        """Whether it is known who is speaking."""
        return self.connection.owner is not None


class Sockets:
    """Finds open sockets by connection id and posts frames to them."""

    def __init__(self) -> None:
        self._open: dict[str, OpenSocket] = {}

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[OpenSocket]:
        return iter(tuple(self._open.values()))

    def add(self, socket: OpenSocket) -> None:
        """Take in a socket whose handshake is done."""
        self._open[socket.connection.connection_id] = socket

    def remove(self, connection_id: str) -> None:
        """Forget a closed socket."""
        self._open.pop(connection_id, None)

    def post(self, connection_id: str, frame: bytes) -> "asyncio.Task[None] | None":
        """See `Transport.post`. Asks to wait while the socket's unsent bytes are above its limit."""
        socket = self._open.get(connection_id)
        if socket is None or socket.ws.protocol.state is not State.OPEN:
            raise GoneError
        ws = socket.ws
        ws.transport.write(text_message(frame))
        if not ws.paused:
            return None
        waiting = asyncio.create_task(_drain(ws))
        waiting.add_done_callback(_take_note)
        return waiting

    async def close(self, connection_id: str, code: int, reason: str) -> None:
        """See `Transport.close`. Waits for the closing handshake, at most the socket's close timeout."""
        socket = self._open.get(connection_id)
        if socket is not None:
            await close(socket.ws, code, reason)


async def close(ws: ServerConnection, code: int, reason: str) -> None:
    """Close a connection within its close timeout, by force if need be.

    `ws.close` alone has that bound only after what is unsent has left; to a client that reads nothing
    it never leaves.
    """
    try:
        async with asyncio.timeout(ws.close_timeout):
            await ws.close(code, reason.encode()[:CLOSE_REASON_BYTES].decode(errors="ignore"))
    except TimeoutError:
        ws.transport.abort()


def text_message(payload: bytes) -> bytes:
    """Return an unfragmented, unmasked text message (RFC 6455 section 5.2).

    The general serializer of `websockets` costs three times as much, for masks, fragments and
    extensions that a server's text frame does not have.
    """
    size = len(payload)
    assert size <= MESSAGE_BYTES
    if size < 126:
        return _SHORT.pack(_FINAL_TEXT, size) + payload
    if size < 65_536:
        return _MEDIUM.pack(_FINAL_TEXT, 126, size) + payload
    return _LONG.pack(_FINAL_TEXT, 127, size) + payload


async def _drain(ws: ServerConnection) -> None:
    try:
        await ws.drain()
    except (ConnectionClosed, OSError):
        raise GoneError from None


def _take_note(waited: "asyncio.Task[None]") -> None:
    """Keep asyncio from logging a gone connection as an error that nobody asked for."""
    if not waited.cancelled():
        waited.exception()

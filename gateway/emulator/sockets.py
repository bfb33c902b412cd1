"""The open WebSockets, and when their time is over."""

import asyncio
import time
from collections.abc import Iterator

from websockets.asyncio.server import ServerConnection
from websockets.protocol import State

from gateway.emulator.events import Peer
from gateway.emulator.limits import Limits

GOING_AWAY = 1001
ABNORMAL = 1006


class GoneError(Exception):
    """The connection is closed, or not open yet."""


class ClientBehindError(Exception):
    """The client has not read what it was sent."""


class Socket:
    """One open WebSocket. `clock` runs beside it; `ended` says how it ended.

    Args:
        ws: the connection on the wire.
        peer: what events say of it.
        limits: its clocks.
    """

    def __init__(self, ws: ServerConnection, *, peer: Peer, limits: Limits) -> None:
        self.peer = peer
        self.active_at = time.time()
        self._ws = ws
        self._limits = limits
        self._told: tuple[int, str] | None = None
        self._closing: asyncio.Task[None] | None = None
        loop = asyncio.get_running_loop()
        self._opened = self._active = loop.time()

    @property
    def is_open(self) -> bool:
        """Whether posts get through."""
        return self._ws.protocol.state is State.OPEN and self._told is None

    def heard(self) -> None:
        """Note that a message went through, in either direction."""
        self.active_at = time.time()
        self._active = asyncio.get_running_loop().time()

    def post(self, data: bytes) -> None:
        """Send a message: text, if it is UTF-8.

        Raises:
            GoneError: the connection is closed.
            ClientBehindError: too much is unsent.
        """
        ws = self._ws
        if not self.is_open:
            raise GoneError
        if ws.transport.get_write_buffer_size() > self._limits.unsent_bytes:
            raise ClientBehindError
        self.heard()
        try:
            data.decode()
        except UnicodeDecodeError:
            ws.protocol.send_binary(data)
        else:
            ws.protocol.send_text(data)
        ws.send_data()

    def end(self, code: int, reason: str, *, told: str) -> None:
        """Close the connection; no post gets through any more.

        Args:
            code: of the close frame.
            reason: of the close frame.
            told: the reason that `$disconnect` is told.
        """
        if self._told is None:
            self._told = (code, told)
            self._closing = asyncio.create_task(self._close(code, reason))

    async def clock(self) -> None:
        """Close the connection when it was idle for too long, or is too old. Cancel it at the end."""
        loop = asyncio.get_running_loop()
        while True:
            over = min(self._opened + self._limits.lifetime_s, self._active + self._limits.idle_s)
            if (left := over - loop.time()) <= 0:
                break
            await asyncio.sleep(left)
        self.end(GOING_AWAY, "Going away", told="Going away")

    def ended(self) -> tuple[int, str]:
        """Return the code and the reason that `$disconnect` is told, after the end."""
        protocol = self._ws.protocol
        if self._told is not None:
            return self._told
        first = protocol.close_rcvd if protocol.close_rcvd_then_sent else protocol.close_sent
        if first is None:
            first = protocol.close_rcvd
        if first is None:
            return ABNORMAL, "Connection closed abnormally"
        if first.code == 1005:
            return first.code, "Client-side close frame status not set"
        return first.code, first.reason

    async def _close(self, code: int, reason: str) -> None:
        try:
            async with asyncio.timeout(self._limits.close_s):
                await self._ws.close(code, reason)
        except TimeoutError:
            self._ws.transport.abort()


class Sockets:
    """The open WebSockets by connection id."""

    def __init__(self) -> None:
        self._open: dict[str, Socket] = {}

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Socket]:
        return iter(tuple(self._open.values()))

    def add(self, socket: Socket) -> None:
        """Take in one whose handshake is done: from now on it can be posted to."""
        self._open[socket.peer.connection_id] = socket

    def remove(self, socket: Socket) -> None:
        """Forget a closed one."""
        self._open.pop(socket.peer.connection_id, None)

    def get(self, connection_id: str) -> Socket | None:
        """Return an open one; `None` if there is none of that id."""
        socket = self._open.get(connection_id)
        return socket if socket is not None and socket.is_open else None

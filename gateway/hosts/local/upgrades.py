"""From an HTTP upgrade to handled frames: the WebSocket side of the one port.

uvicorn hands every upgrade to `Upgrades.protocol`, which continues it as a `websockets` server connection
on the same transport: no ASGI on the socket's path.
"""

import asyncio
import http
import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from urllib.parse import parse_qsl

import orjson
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from gateway.app import Gateway
from gateway.faults import cause_of, http_status, wire_error
from gateway.hosts.local.addresses import client_address
from gateway.hosts.local.inbox import Inbox
from gateway.hosts.local.limits import HostLimits
from gateway.hosts.local.sockets import OpenSocket, Sockets, close
from gateway.identity.admission import Handshake
from gateway.runs.transport import GoneError
from gateway.tenants.allowance import Allowance
from gateway.wire.answers import error_answer, http_error
from gateway.wire.commands import Cancel, Regenerate, Send, decode
from gateway.wire.errors import (
    BadRequestError,
    CloseCode,
    MaintenanceError,
    NotFoundError,
    RateLimitedError,
    WireError,
)
from gateway.wire.limits import BAD_FRAMES_IN_A_ROW, COMMAND_BYTES, MESSAGE_BYTES, SUBPROTOCOL
from storage.errors import StorageError
from storage.keys import IdSource
from storage.records import Connection, Owner

SOCKET_PATH = "/v1/ws"

UNSENT_BYTES = 1_048_576
"""Far more than what a reader's backlog and a frame for each of its runs may come to."""

REPORT_AFTER_S = 0.02
"""How long the log line of a `send` waits, for what that has started: a request to the model."""

_JSON = "application/json"

log = logging.getLogger(__name__)

_wire_log = logging.getLogger("websockets.server")
_wire_log.setLevel(logging.CRITICAL)  # a gone connection is control flow, not a trace per client


class Upgrades:
    """Carries every WebSocket of this process from its upgrade to its end.

    Args:
        gateway: the handlers.
        sockets: where open ones are registered.
        limits: of the host.
        commands: how many each user may give.
        ids: makes connection ids.
        proxies: addresses whose `X-Forwarded-For` counts.
    """

    def __init__(
        self,
        *,
        gateway: Gateway,
        sockets: Sockets,
        limits: HostLimits,
        commands: Allowance,
        ids: IdSource,
        proxies: frozenset[str],
    ) -> None:
        self._gateway = gateway
        self._sockets = sockets
        self._limits = limits
        self._commands = commands
        self._ids = ids
        self._proxies = proxies
        self._draining = False
        self._places: set[str] = set()
        self._connections_of: Counter[Owner] = Counter()
        self.handler_tasks: set[asyncio.Task[None]] = set()

    # What uvicorn and websockets call

    def protocol(self, **_: object) -> ServerConnection:
        """Return the asyncio protocol that goes on with an upgrade. uvicorn's `ws` class."""
        return _Connection(
            ServerProtocol(
                extensions=None,  # deflate would cost 32 KB and 200 us per connection
                select_subprotocol=_select_subprotocol,
                max_size=(MESSAGE_BYTES, COMMAND_BYTES),
                logger=_wire_log,
            ),
            self,  # type: ignore[arg-type] # a connection uses of its server what this group offers
            ping_interval=None,  # the heartbeat is a command of the client's
            close_timeout=self._limits.close_s,
            max_queue=4,
            write_limit=self._limits.backlog_bytes,
        )

    def is_serving(self) -> bool:
        """Whether upgrades are still accepted."""
        return not self._draining

    async def handler(self, ws: ServerConnection) -> None:
        """Live through one connection; its transport is closed when this returns."""
        connection_id = self._ids.new()
        try:
            await self._open(ws, connection_id)
        except ConnectionClosed:
            pass
        except Exception:
            log.exception("socket broke", extra={"connection_id": connection_id})
        finally:
            ws.transport.close()
            task = asyncio.current_task()
            assert task is not None
            self.handler_tasks.discard(task)

    # Ending

    def refuse_new(self) -> None:
        """Answer upgrades with 503 from now on."""
        self._draining = True

    async def wait_closed(self, timeout: float) -> None:
        """Wait until every connection has ended, at most `timeout` seconds."""
        if self.handler_tasks:
            await asyncio.wait(self.handler_tasks, timeout=timeout)
        await asyncio.sleep(REPORT_AFTER_S)  # the last lines

    # One connection

    async def _open(self, ws: ServerConnection, connection_id: str) -> None:
        socket: OpenSocket | None = None

        async def judge(_: ServerConnection, request: Request) -> Response | None:
            nonlocal socket
            try:
                socket = await self._admit(ws, connection_id, request)
            except Exception as exc:  # noqa: BLE001 - the host's last line of defence; logs the trace
                told = wire_error(exc)
                why = {"code": told.code, "cause": cause_of(exc)}
                log.info("refused", extra={"connection_id": connection_id, **why})
                return _refusal(told, request_id=connection_id)
            return None

        def refuse_as_elsewhere(
            _: ServerConnection, __: Request, response: Response
        ) -> Response | None:
            """Give the one error body to a malformed upgrade, too, which `websockets` finds."""
            if response.status_code == 101 or response.headers["Content-Type"] == _JSON:
                return None
            refusal = _refusal(BadRequestError(), request_id=connection_id)
            for name in ("Upgrade", "Sec-WebSocket-Version"):  # RFC 6455, section 4.4
                if name in response.headers:
                    refusal.headers[name] = response.headers[name]
            return replace(
                refusal, status_code=response.status_code, reason_phrase=response.reason_phrase
            )

        try:
            async with asyncio.timeout(self._limits.handshake_s):
                await ws.handshake(judge, refuse_as_elsewhere, server_header=None)
            if socket is not None and ws.protocol.state is State.OPEN:
                await self._serve(socket)
        except TimeoutError:
            ws.transport.abort()
        finally:
            self._places.discard(connection_id)
            if socket is not None:
                await self._close(socket)

    async def _admit(
        self, ws: ServerConnection, connection_id: str, request: Request
    ) -> OpenSocket:
        path, _, query = request.path.partition("?")
        if path != SOCKET_PATH:
            raise NotFoundError
        if self._draining:
            raise MaintenanceError
        if len(self._places) >= self._limits.sockets:
            raise RateLimitedError
        self._places.add(connection_id)  # before anything is waited for
        headers = list(request.headers.raw_items())
        address = client_address(ws.remote_address[0], headers, self._proxies)
        handshake = Handshake(
            connection_id=connection_id,
            headers=headers,
            query=parse_qsl(query, keep_blank_values=True),
            lifetime_s=self._limits.lifetime_s,
        )
        refusal: RateLimitedError | None = None
        try:
            connection = (await self._gateway.connect(handshake)).connection
            if connection.owner is not None:
                self._count(connection.owner)
        except RateLimitedError as error:  # a user's own limit: it is known who comes
            connection, refusal = _of_nobody(connection_id), error
        now = asyncio.get_running_loop().time()
        socket = OpenSocket(
            ws=ws,
            connection=connection,
            address=address,
            opened_at=now,
            heard_at=now,
            refusal=refusal,
        )
        if not socket.identified and self._too_many_unidentified(socket.address):
            await self._close(socket)
            raise refusal or RateLimitedError("Too many connections.")
        return socket

    def _count(self, owner: Owner) -> None:
        """Count a connection of that user; `_close` undoes it.

        Raises:
            RateLimitedError: it would be one too many.
        """
        if self._connections_of[owner] >= self._limits.sockets_per_user:
            raise RateLimitedError("Too many connections.")
        self._connections_of[owner] += 1

    def _too_many_unidentified(self, address: str) -> bool:
        unidentified = [socket for socket in self._sockets if not socket.identified]
        here = sum(socket.address == address for socket in unidentified)
        return (
            len(unidentified) >= self._limits.unidentified
            or here >= self._limits.unidentified_per_address
        )

    async def _serve(self, socket: OpenSocket) -> None:
        """Carry out commands, one after the other, but a `cancel` at once; unless it is refused.

        A `cancel` has no answer that could come too early, and must not wait for those before it: their
        answers may wait for a slow client, or for a disk.
        """
        self._sockets.add(socket)
        if socket.refusal is not None:
            await self._give_up(socket, socket.refusal, CloseCode.RATE, "too much of one user")
            return
        inbox = Inbox(
            socket.ws,
            overtakes=lambda frame: socket.identified and _is_cancel(frame),
            carry_out=partial(self._carry_out, socket),
        )
        log.info("connected", extra={"connection_id": socket.connection.connection_id})
        try:
            with suppress(ConnectionClosed):
                while True:
                    await self._carry_out(socket, await inbox.next())
        finally:
            await inbox.aclose()

    async def _carry_out(self, socket: OpenSocket, frame: str | bytes) -> None:
        if socket.refusal is not None:  # it was read ahead
            return
        loop = asyncio.get_running_loop()
        before, refusal = socket.connection, self._over_rate(socket)
        socket.heard_at = loop.time()
        if refusal is not None and not socket.identified:  # it waits for nothing else
            await self._give_up(socket, refusal, CloseCode.RATE, "too many messages")
            return
        handled = await self._gateway.message(before, frame, refusal=refusal)
        if isinstance(handled.command, Send | Regenerate):
            loop.call_later(REPORT_AFTER_S, handled.report)
        else:
            handled.report()
        socket.bad_frames = socket.bad_frames + 1 if handled.bad_frame else 0
        if handled.connection is not before:
            await self._renew(socket, handled.connection)
        if socket.bad_frames >= BAD_FRAMES_IN_A_ROW:
            error = BadRequestError("Too many bad messages in a row.")
            await self._give_up(socket, error, CloseCode.BAD_FRAMES, "too many bad messages")
        if refusal is not None and socket.refusals >= self._limits.refusals:
            await self._give_up(socket, refusal, CloseCode.RATE, "too many messages")

    def _over_rate(self, socket: OpenSocket) -> RateLimitedError | None:
        """Return why the next command is not carried out, if its user gives too many.

        The first one of a socket, its `hello`, was counted with the handshake.
        """
        if socket.identified and socket.heard_at == socket.opened_at:
            return None
        try:
            self._commands.take(socket.connection.owner or socket.address)
        except RateLimitedError as error:
            socket.refusals += 1
            return error
        socket.refusals = max(0, socket.refusals - 1)
        return None

    async def _renew(self, socket: OpenSocket, connection: Connection) -> None:
        """Go on with a connection whose token was just proved.

        One that is too many for its user stays nobody's: what else its client has sent is not carried out.
        """
        assert connection.owner is not None
        if not socket.identified:
            try:
                self._count(connection.owner)
            except RateLimitedError as error:
                socket.refusal = error
                await self._give_up(socket, error, CloseCode.RATE, "too much of one user")
                return
        socket.connection = connection

    async def _give_up(
        self, socket: OpenSocket, error: WireError, code: CloseCode, reason: str
    ) -> None:
        told = error_answer(error, fatal=True)
        connection_id = socket.connection.connection_id
        try:
            self._sockets.post(connection_id, told.encode())
        except GoneError:  # it is closing already
            return
        log.info("socket ended", extra={"connection_id": connection_id, "why": reason})
        await close(socket.ws, code, reason)

    async def _close(self, socket: OpenSocket) -> None:
        connection_id, owner = socket.connection.connection_id, socket.connection.owner
        self._sockets.remove(connection_id)
        if owner is not None:
            self._connections_of[owner] -= 1
            if not self._connections_of[owner]:
                del self._connections_of[owner]
        with suppress(StorageError):  # then the record expires by itself
            await self._gateway.disconnect(connection_id)
        log.info("disconnected", extra={"connection_id": connection_id})


class _Connection(ServerConnection):
    """A connection that is cut off when its client lets too much pile up.

    Whoever posts waits for a client that does not read; the answers to pings, which are written as
    these are read, do not.
    """

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.get_write_buffer_size() > UNSENT_BYTES:
            self.transport.abort()


def _of_nobody(connection_id: str) -> Connection:
    """Return the record of a connection that is not served; it is stored nowhere."""
    return Connection(
        connection_id=connection_id,
        owner=None,
        issuer="",
        auth_expires_at=0.0,
        opened_at=0.0,
        expires_at=0.0,
    )


def _select_subprotocol(_: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """Echo the protocol's name alone: a token may be among what was offered."""
    return Subprotocol(SUBPROTOCOL) if SUBPROTOCOL in offered else None


def _is_cancel(frame: str | bytes) -> bool:
    if not isinstance(frame, str) or '"cancel"' not in frame:
        return False
    try:
        return isinstance(decode(frame), Cancel)
    except WireError:
        return False


def _refusal(error: WireError, *, request_id: str) -> Response:
    status = http.HTTPStatus(http_status(error))
    body = orjson.dumps(http_error(error, request_id=request_id))
    headers = Headers(
        {
            "Content-Type": _JSON,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "Connection": "close",
        }
    )
    return Response(status.value, status.phrase, headers, body)

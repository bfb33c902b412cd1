"""The WebSocket side of the API: from an upgrade to the functions of its routes.

See https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-websocket-api-overview.html.
"""

import asyncio
import logging
import time
from contextlib import suppress
from http import HTTPStatus
from typing import Final

from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol

from gateway.emulator.answers import (
    FORBIDDEN,
    INTERNAL,
    SUBPROTOCOL_HEADER,
    TIMED_OUT,
    notice,
    refusal_text,
)
from gateway.emulator.chaos import Chaos, Fault
from gateway.emulator.deployment import CONNECT, DISCONNECT, Deployment
from gateway.emulator.events import Peer, connect_event, disconnect_event, message_event, new_id
from gateway.emulator.integrations import (
    IntegrationFailedError,
    Integrations,
    IntegrationTimeoutError,
)
from gateway.emulator.invocations import Invocations
from gateway.emulator.limits import Limits
from gateway.emulator.output import Output
from gateway.emulator.routing import route_key, route_selector
from gateway.emulator.sockets import (
    GOING_AWAY,
    ClientBehindError,
    GoneError,
    Socket,
    Sockets,
)

UNSUPPORTED_DATA: Final = 1003

HANDSHAKE_S: Final = 10.0
"""How long an upgrade may take beside the function of `$connect`."""

_wire_log = logging.getLogger("gateway.emulator.wire")
_wire_log.setLevel(logging.CRITICAL)  # a gone connection is control flow, not a trace per client


class WebSocketApi:
    """Carries every WebSocket from its upgrade to its end, and calls the functions of its routes.

    Args:
        deployment: the routes.
        invocations: of the functions.
        sockets: where open ones are registered.
        limits: sizes and clocks.
        chaos: loses `$disconnect`, doubles messages.
        api_id: in events.
        output: is told what API Gateway would log.
    """

    def __init__(
        self,
        deployment: Deployment,
        *,
        invocations: Invocations,
        sockets: Sockets,
        limits: Limits,
        chaos: Chaos,
        api_id: str,
        output: Output,
    ) -> None:
        self._deployment = deployment
        self._invocations = invocations
        self._integrations = Integrations(
            deployment, invocations=invocations, limits=limits, output=output
        )
        self._sockets = sockets
        self._limits = limits
        self._chaos = chaos
        self._api_id = api_id
        self._select = route_selector(deployment.route_selection)
        self._draining = False
        self._farewells: set[asyncio.Task[None]] = set()
        self.handler_tasks: set[asyncio.Task[None]] = set()

    # What the listener and websockets call

    def protocol(self) -> ServerConnection:
        """Return the asyncio protocol that goes on with an upgrade."""
        return ServerConnection(
            ServerProtocol(
                extensions=None,  # API Gateway has no permessage-deflate
                max_size=(self._limits.message_bytes, self._limits.frame_bytes),
                logger=_wire_log,
            ),
            self,  # type: ignore[arg-type] # a connection uses of its server what this group offers
            ping_interval=None,
            close_timeout=self._limits.close_s,
            max_queue=None,
            write_limit=self._limits.unsent_bytes,
        )

    def is_serving(self) -> bool:
        """Whether upgrades are still accepted."""
        return not self._draining

    async def handler(self, ws: ServerConnection) -> None:
        """Live through one connection; its transport is closed when this returns."""
        try:
            await self._live(ws)
        except ConnectionClosed:
            pass
        except TimeoutError:
            ws.transport.abort()
        finally:
            ws.transport.close()
            task = asyncio.current_task()
            assert task is not None
            self.handler_tasks.discard(task)

    async def aclose(self) -> None:
        """Close every connection with 1001, and wait for their `$disconnect` as long as for their ends."""
        self._draining = True
        for socket in self._sockets:
            socket.end(GOING_AWAY, "Going away", told="Going away")
        if self.handler_tasks:
            await asyncio.wait(self.handler_tasks, timeout=self._limits.close_s)
        for task in tuple(self.handler_tasks):
            task.cancel()
        while self.handler_tasks:
            await asyncio.wait(self.handler_tasks)
        if self._farewells:
            await asyncio.wait(self._farewells, timeout=self._limits.close_s)

    # One connection

    async def _live(self, ws: ServerConnection) -> None:
        peer: Peer | None = None
        subprotocol = ""

        async def judge(_: ServerConnection, request: Request) -> Response | None:
            nonlocal peer, subprotocol
            path, query = _split(request.path)
            if path.strip("/") != self._deployment.stage:
                return _refused(HTTPStatus.FORBIDDEN, FORBIDDEN)
            candidate = self._peer(ws, request)
            refused, subprotocol = await self._connect(candidate, request, query)
            if refused is None:
                peer = candidate
            return refused

        def choose(_: ServerConnection, request: Request, response: Response) -> None:
            if subprotocol and response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
                response.headers[SUBPROTOCOL_HEADER] = subprotocol

        async with asyncio.timeout(self._limits.integration_s + HANDSHAKE_S):
            await ws.handshake(judge, choose, server_header=None)
        if peer is None:
            return
        socket = Socket(ws, peer=peer, limits=self._limits)
        try:
            if ws.protocol.state is State.OPEN:
                await self._serve(ws, socket)
        finally:
            self._disconnected(socket)

    def _peer(self, ws: ServerConnection, request: Request) -> Peer:
        return Peer(
            connection_id=new_id(),
            connected_at=time.time(),
            source_ip=ws.remote_address[0],
            user_agent=request.headers.get("User-Agent", ""),
            domain=request.headers.get("Host", "localhost"),
            api_id=self._api_id,
            stage=self._deployment.stage,
        )

    async def _connect(
        self, peer: Peer, request: Request, query: str
    ) -> tuple[Response | None, str]:
        """Return the refusal, or `None` and the subprotocol that the function chose."""
        if CONNECT not in self._deployment.routes:
            return None, ""
        request_id = new_id()
        event = connect_event(
            peer, headers=request.headers.raw_items(), query=query, request_id=request_id
        )
        try:
            answer = await self._integrations.call(CONNECT, event)
        except IntegrationTimeoutError:
            status, text = HTTPStatus.GATEWAY_TIMEOUT, TIMED_OUT
        except IntegrationFailedError:
            status, text = HTTPStatus.BAD_GATEWAY, INTERNAL
        else:
            if answer.is_success:
                return None, answer.subprotocol
            status, text = HTTPStatus(answer.status), refusal_text(answer.status)
        body = notice(text, connection_id=peer.connection_id, request_id=request_id)
        return _response(status, body), ""

    async def _serve(self, ws: ServerConnection, socket: Socket) -> None:
        self._sockets.add(socket)
        clock = asyncio.create_task(socket.clock())
        try:
            async for message in ws:
                socket.heard()
                if isinstance(message, bytes) and not self._deployment.binary_frames:
                    socket.end(UNSUPPORTED_DATA, "", told="Unsupported data")
                    continue
                self._invocations.spawn(self._take(socket, message))
                connection_id = socket.peer.connection_id
                if self._chaos.strikes(Fault.DUPLICATE_MESSAGE, connection_id):
                    self._invocations.spawn(self._take(socket, message))
        finally:
            clock.cancel()
            self._sockets.remove(socket)

    async def _take(self, socket: Socket, message: str | bytes) -> None:
        """Have the function of a message's route carry it out, and say what API Gateway says of it."""
        key = route_key(self._select(message), self._deployment.routes)
        request_id = new_id()
        told = await self._carry_out(socket, key, message, request_id) if key else FORBIDDEN
        if isinstance(told, str):
            told = notice(told, connection_id=socket.peer.connection_id, request_id=request_id)
        if told:
            with suppress(GoneError, ClientBehindError):
                socket.post(told)

    async def _carry_out(
        self, socket: Socket, key: str, message: str | bytes, request_id: str
    ) -> str | bytes:
        """Return the body of a route response, empty for none, or the text of a notice."""
        event = message_event(
            socket.peer, route_key=key, message=message, now=time.time(), request_id=request_id
        )
        try:
            answer = await self._integrations.call(key, event)
        except IntegrationTimeoutError:
            return TIMED_OUT
        except IntegrationFailedError:
            return INTERNAL
        return answer.body.encode() if key in self._deployment.responses else b""

    def _disconnected(self, socket: Socket) -> None:
        if DISCONNECT not in self._deployment.routes:
            return
        if self._chaos.strikes(Fault.DROP_DISCONNECT, socket.peer.connection_id):
            return
        farewell = self._invocations.spawn(self._disconnect(socket))
        self._farewells.add(farewell)
        farewell.add_done_callback(self._farewells.discard)

    async def _disconnect(self, socket: Socket) -> None:
        code, reason = socket.ended()
        event = disconnect_event(
            socket.peer, code=code, reason=reason, now=time.time(), request_id=new_id()
        )
        with suppress(IntegrationTimeoutError, IntegrationFailedError):
            await self._integrations.call(DISCONNECT, event)


def _split(target: str) -> tuple[str, str]:
    path, _, query = target.partition("?")
    return path, query


def _refused(status: HTTPStatus, text: str) -> Response:
    return _response(status, b'{"message": "%s"}' % text.encode())


def _response(status: HTTPStatus, body: bytes) -> Response:
    headers = Headers(
        {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Connection": "close",
        }
    )
    return Response(status.value, status.phrase, headers, body)

"""The @connections API: PostToConnection, GetConnection, DeleteConnection.

See https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-how-to-call-websocket-api-connections.html
and the model `apigatewaymanagementapi` of the SDKs.
"""

import asyncio
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

import orjson

from gateway.emulator.chaos import Chaos, Fault
from gateway.emulator.http import LOST, Request, Response, refusal
from gateway.emulator.limits import Limits
from gateway.emulator.signatures import unsigned
from gateway.emulator.sockets import ClientBehindError, GoneError, Socket, Sockets

SERVICE: Final = "execute-api"
DELETED: Final = 1000

GONE: Final = refusal(410, "GoneException", message=None)
TOO_LARGE: Final = refusal(413, "PayloadTooLargeException", message="Payload Too Large")
LIMIT: Final = refusal(429, "LimitExceededException", message=None)
FORBIDDEN: Final = refusal(403, "ForbiddenException", message="Forbidden")
BROKEN: Final = refusal(500, "InternalServerErrorException", message="Internal server error")

_ANSWERED: Final = {
    Fault.POST_GONE: GONE,
    Fault.POST_LIMIT: LIMIT,
    Fault.POST_FORBIDDEN: FORBIDDEN,
    Fault.POST_ERROR: BROKEN,
}


class ConnectionsApi:
    """Answers the requests to `/{stage}/@connections/{id}`.

    Args:
        sockets: the open ones.
        limits: sizes.
        chaos: what goes wrong with posts.
    """

    def __init__(self, sockets: Sockets, *, limits: Limits, chaos: Chaos) -> None:
        self._sockets = sockets
        self._limits = limits
        self._chaos = chaos
        self._held: dict[str, list[bytes]] = {}

    async def answer(self, request: Request, connection_id: str) -> Response:
        """Carry out a request. The connection id is decoded."""
        if (refused := unsigned(request, service=SERVICE)) is not None:
            return refused
        match request.method:
            case "POST":
                return await self._post(connection_id, request.body)
            case "GET":
                return self._get(connection_id)
            case "DELETE":
                return await self._delete(connection_id)
        return FORBIDDEN

    def _get(self, connection_id: str) -> Response:
        socket = self._sockets.get(connection_id)
        if socket is None:
            return GONE
        peer = socket.peer
        told = {
            "connectedAt": _iso(peer.connected_at),
            "identity": {"sourceIp": peer.source_ip, "userAgent": peer.user_agent},
            "lastActiveAt": _iso(socket.active_at),
        }
        return Response(
            status=HTTPStatus.OK,
            body=orjson.dumps(told),
            headers={"Content-Type": "application/json"},
        )

    async def _delete(self, connection_id: str) -> Response:
        socket = self._sockets.get(connection_id)
        if socket is None:
            return GONE
        socket.end(DELETED, "", told="Connection Closed Normally")
        return Response(status=HTTPStatus.NO_CONTENT)

    # Posts

    async def _post(self, connection_id: str, data: bytes) -> Response:
        if len(data) > self._limits.message_bytes:
            return TOO_LARGE
        for fault, response in _ANSWERED.items():
            if self._chaos.strikes(fault, connection_id):
                return response
        if self._chaos.strikes(Fault.POST_DELAY, connection_id):
            await asyncio.sleep(self._chaos.delay(Fault.POST_DELAY))
        try:
            self._deliver(connection_id, data)
        except GoneError:
            return GONE
        except ClientBehindError:
            return LIMIT
        if self._chaos.strikes(Fault.POST_LOST_REPLY, connection_id):
            return LOST
        return Response(status=HTTPStatus.OK)

    def _deliver(self, connection_id: str, data: bytes) -> None:
        socket = self._sockets.get(connection_id)
        if socket is None:
            raise GoneError
        if self._chaos.strikes(Fault.POST_REORDER, connection_id):
            self._hold(socket, data)
            return
        socket.post(data)
        if self._chaos.strikes(Fault.POST_DUPLICATE, connection_id):
            socket.post(data)
        self._release(socket)

    def _hold(self, socket: Socket, data: bytes) -> None:
        self._held.setdefault(socket.peer.connection_id, []).append(data)
        asyncio.get_running_loop().call_later(self._chaos.delay_s, self._release, socket)

    def _release(self, socket: Socket) -> None:
        for data in self._held.pop(socket.peer.connection_id, ()):
            try:
                socket.post(data)
            except (GoneError, ClientBehindError):
                return


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

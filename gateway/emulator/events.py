"""The events that API Gateway hands to the functions of a WebSocket API with Lambda proxy integration. Pure.

Their form is not specified in one place; see
https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-websocket-api-mapping-template-reference.html
for the context. `connect`, message and `disconnect` differ in what they have: only the first has the
client's headers and query, a message has no headers at all.
"""

import base64
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl

from gateway.emulator.deployment import CONNECT, DISCONNECT

Event = dict[str, Any]

_OF_THE_HOP: Final = {"connection", "upgrade"}


def new_id() -> str:
    """Return an id of a connection, request or message that looks like API Gateway's."""
    return base64.urlsafe_b64encode(secrets.token_bytes(11)).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """What the context of every event of a connection says.

    Attributes:
        connection_id: of `new_id`.
        connected_at: Unix time in seconds.
        source_ip: of the client.
        user_agent: its header; empty for none.
        domain: the host and port that the client asked for.
        api_id: ten characters.
        stage: of the API.
    """

    connection_id: str
    connected_at: float
    source_ip: str
    user_agent: str
    domain: str
    api_id: str
    stage: str


def connect_event(
    peer: Peer, *, headers: Iterable[tuple[str, str]], query: str, request_id: str
) -> Event:
    """Return the event of `$connect`.

    Args:
        peer: who connects.
        headers: of the upgrade, in order.
        query: of its URL, without the question mark.
        request_id: of `new_id`.
    """
    _, _, port = peer.domain.rpartition(":")
    listed: dict[str, list[str]] = {}
    for name, value in headers:
        if name.lower() not in _OF_THE_HOP:
            listed.setdefault(name, []).append(value)
    listed |= {
        "X-Amzn-Trace-Id": [f"Root=1-{int(peer.connected_at):08x}-{secrets.token_hex(12)}"],
        "X-Forwarded-For": [peer.source_ip],
        "X-Forwarded-Port": [port if port.isdigit() else "443"],
        "X-Forwarded-Proto": ["https"],
    }
    event: Event = {
        "headers": {name: values[-1] for name, values in listed.items()},
        "multiValueHeaders": listed,
        "requestContext": _context(
            peer,
            route_key=CONNECT,
            event_type="CONNECT",
            now=peer.connected_at,
            request_id=request_id,
        ),
        "isBase64Encoded": False,
    }
    parameters: dict[str, list[str]] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        parameters.setdefault(name, []).append(value)
    if parameters:
        event["queryStringParameters"] = {name: many[-1] for name, many in parameters.items()}
        event["multiValueQueryStringParameters"] = parameters
    return event


def message_event(
    peer: Peer, *, route_key: str, message: str | bytes, now: float, request_id: str
) -> Event:
    """Return the event of a message. Bytes become Base64.

    Args:
        peer: who sent it.
        route_key: of the route that takes it.
        message: as it came.
        now: Unix time in seconds.
        request_id: of `new_id`.
    """
    context = _context(
        peer, route_key=route_key, event_type="MESSAGE", now=now, request_id=request_id
    )
    context["messageId"] = new_id()
    binary = isinstance(message, bytes)
    return {
        "requestContext": context,
        "body": base64.b64encode(message).decode() if isinstance(message, bytes) else message,
        "isBase64Encoded": binary,
    }


def disconnect_event(peer: Peer, *, code: int, reason: str, now: float, request_id: str) -> Event:
    """Return the event of `$disconnect`.

    Args:
        peer: who was connected.
        code: the status of the WebSocket's end; 1005 or 1006 where no close frame said one.
        reason: its text.
        now: Unix time in seconds.
        request_id: of `new_id`.
    """
    context = _context(
        peer, route_key=DISCONNECT, event_type="DISCONNECT", now=now, request_id=request_id
    )
    context["disconnectStatusCode"] = code
    context["disconnectReason"] = reason
    headers = {"Host": peer.domain, "x-api-key": "", "X-Forwarded-For": "", "x-restapi": ""}
    return {
        "headers": headers,
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        "requestContext": context,
        "isBase64Encoded": False,
    }


def _context(
    peer: Peer, *, route_key: str, event_type: str, now: float, request_id: str
) -> dict[str, Any]:
    identity = {"sourceIp": peer.source_ip}
    if peer.user_agent:
        identity["userAgent"] = peer.user_agent
    return {
        "routeKey": route_key,
        "eventType": event_type,
        "extendedRequestId": request_id,
        "requestTime": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(now)),
        "messageDirection": "IN",
        "stage": peer.stage,
        "connectedAt": int(peer.connected_at * 1000),
        "requestTimeEpoch": int(now * 1000),
        "identity": identity,
        "requestId": request_id,
        "domainName": peer.domain,
        "connectionId": peer.connection_id,
        "apiId": peer.api_id,
    }

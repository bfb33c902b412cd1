"""What API Gateway says in the events of a WebSocket API, in the gateway's words. Pure.

See https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-websocket-api-mapping-template-reference.html
and, for the form that a Lambda proxy integration gets, the neighbouring pages.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from gateway.identity.admission import Handshake

Event = Mapping[str, Any]

LIFETIME_S: Final = 7200.0
"""API Gateway closes every connection after two hours ("Amazon API Gateway quotas")."""


class UnexpectedEventError(Exception):
    """The event is none of a WebSocket API: the function was invoked by something else."""


def connection_id_of(event: Event) -> str:
    """Return the connection that the event is about.

    Raises:
        UnexpectedEventError: there is none.
    """
    connection_id = _context(event).get("connectionId")
    if not isinstance(connection_id, str) or not connection_id:
        raise UnexpectedEventError("no connection in the event")
    return connection_id


def connections_url_of(event: Event) -> str:
    """Return where to post to the connection, as its own API says. Wrong for custom domains with a path.

    Raises:
        UnexpectedEventError: it does not say.
    """
    context = _context(event)
    domain, stage = context.get("domainName"), context.get("stage")
    if not isinstance(domain, str) or not isinstance(stage, str) or not domain or not stage:
        raise UnexpectedEventError("no domain or stage in the event")
    return f"https://{domain}/{stage}"


def handshake_of(event: Event, *, now: float) -> "Handshake":
    """Return the request that opens a connection.

    Args:
        event: of the route `$connect`.
        now: Unix time in seconds.

    Raises:
        UnexpectedEventError: it is of no connection.
    """
    # Here and not above: only a connect needs it, and it brings in the cryptography.
    from gateway.identity.admission import Handshake

    connected_at = _context(event).get("connectedAt")  # milliseconds; some emulators leave it out
    age = now - connected_at / 1000 if isinstance(connected_at, int | float) else 0.0
    return Handshake(
        connection_id=connection_id_of(event),
        headers=_pairs(event, "multiValueHeaders", "headers"),
        query=_pairs(event, "multiValueQueryStringParameters", "queryStringParameters"),
        lifetime_s=LIFETIME_S - min(max(age, 0.0), LIFETIME_S),
    )


def frame_of(event: Event) -> str | bytes:
    """Return the message of a client; `bytes` for a binary one. Empty if there is none."""
    body = event.get("body")
    if not isinstance(body, str):
        return ""
    if not event.get("isBase64Encoded"):
        return body
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _context(event: Event) -> Mapping[str, Any]:
    context = event.get("requestContext")
    if not isinstance(context, Mapping):
        raise UnexpectedEventError("no request context in the event")
    return context


def _pairs(event: Event, many: str, one: str) -> list[tuple[str, str]]:
    """Return names and values in order. `one` has the last value of each only, and may be all there is."""
    listed = event.get(many)
    if isinstance(listed, Mapping) and listed:
        return [
            (name, value)
            for name, values in listed.items()
            if isinstance(values, list)
            for value in values
            if isinstance(value, str)
        ]
    single = event.get(one)
    if not isinstance(single, Mapping):
        return []
    return [(name, value) for name, value in single.items() if isinstance(value, str)]

"""What the answer of a function means to API Gateway, and what it tells a client itself. Pure.

See https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-websocket-api-integration-responses.html
and the pages beside it.
"""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import orjson

SUBPROTOCOL_HEADER: Final = "Sec-WebSocket-Protocol"

INTERNAL: Final = "Internal server error"
TIMED_OUT: Final = "Endpoint request timed out"
FORBIDDEN: Final = "Forbidden"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyAnswer:
    """What a function with proxy integration said.

    Attributes:
        status: of HTTP.
        body: empty for none.
        subprotocol: that it chose; empty for none.
    """

    status: int
    body: str = ""
    subprotocol: str = ""

    @property
    def is_success(self) -> bool:
        """Whether a connection is let in with it."""
        return 200 <= self.status < 300


def read_answer(payload: bytes) -> ProxyAnswer | None:
    """Read what a function returned; `None` if it is no object with a `statusCode`."""
    try:
        answer = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(answer, dict):
        return None
    status = answer.get("statusCode")
    if isinstance(status, str) and status.isdecimal():
        status = int(status)
    if not isinstance(status, int) or isinstance(status, bool) or not 100 <= status <= 599:
        return None
    body = answer.get("body")
    return ProxyAnswer(
        status=status,
        body=body if isinstance(body, str) else "" if body is None else orjson.dumps(body).decode(),
        subprotocol=_header(answer, SUBPROTOCOL_HEADER),
    )


def notice(message: str, *, connection_id: str, request_id: str) -> bytes:
    """Return what API Gateway itself tells a client."""
    return orjson.dumps(
        {"message": message, "connectionId": connection_id, "requestId": request_id}
    )


def refusal_text(status: int) -> str:
    """Return the message with which a connection is refused."""
    if status == HTTPStatus.FORBIDDEN:
        return FORBIDDEN
    if status == HTTPStatus.UNAUTHORIZED:
        return "Unauthorized"
    return INTERNAL if status >= 500 else "Bad request"


def _header(answer: dict[str, Any], wanted: str) -> str:
    for kind in ("headers", "multiValueHeaders"):
        headers = answer.get(kind)
        if not isinstance(headers, dict):
            continue
        for name, value in headers.items():
            if name.lower() != wanted.lower():
                continue
            one = value[-1] if isinstance(value, list) and value else value
            if isinstance(one, str):
                return one
    return ""

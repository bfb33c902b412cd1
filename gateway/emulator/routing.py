"""Which route takes a message: the RouteSelectionExpression. Pure.

See https://docs.aws.amazon.com/apigateway/latest/developerguide/websocket-api-develop-routes.html.
"""

import re
from collections.abc import Callable, Container
from typing import Any, Final

import orjson

from gateway.emulator.deployment import CONNECT, DEFAULT, DISCONNECT, DeploymentError

_REFERENCE: Final = re.compile(r"\$\{request\.body\.([\w.-]+)\}|\$request\.body\.([\w.-]+)")


def route_selector(expression: str) -> Callable[[str | bytes], str | None]:
    """Return what reads the value of an expression from a message; `None` if it has none.

    Args:
        expression: text with references such as `$request.body.action` or `${request.body.meta.kind}`.

    Raises:
        DeploymentError: it refers to nothing in the body.
    """
    pieces = _REFERENCE.split(expression)
    literals, paths = pieces[::3], [a or b for a, b in zip(pieces[1::3], pieces[2::3], strict=True)]
    if not paths or any("$" in literal for literal in literals):
        raise DeploymentError(f"no route selection expression: {expression!r}")

    def select(message: str | bytes) -> str | None:
        try:
            body = orjson.loads(message)
        except orjson.JSONDecodeError:
            return None
        values = [_value_at(body, path) for path in paths]
        if any(value is None for value in values):
            return None
        return literals[0] + "".join(
            f"{v}{text}" for v, text in zip(values, literals[1:], strict=True)
        )

    return select


def route_key(selected: str | None, routes: Container[str]) -> str | None:
    """Return the key of the route for what was selected; `None` if there is not even `$default`."""
    if selected in routes and selected not in (CONNECT, DISCONNECT):
        return selected
    return DEFAULT if DEFAULT in routes else None


def _value_at(body: Any, path: str) -> str | None:
    for name in path.split("."):
        if not isinstance(body, dict):
            return None
        body = body.get(name)
    match body:
        case bool():
            return "true" if body else "false"
        case str() | int() | float():
            return str(body)
    return None

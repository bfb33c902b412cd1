"""The RouteSelectionExpression."""

import pytest

from gateway.emulator.deployment import DeploymentError
from gateway.emulator.routing import route_key, route_selector


@pytest.mark.parametrize(
    ("expression", "message", "selected"),
    [
        ("$request.body.action", '{"action": "send"}', "send"),
        ("${request.body.action}", '{"action": "send"}', "send"),
        ("$request.body.meta.kind", '{"meta": {"kind": "k"}}', "k"),
        ("${request.body.a}/${request.body.b}", '{"a": "x", "b": "y"}', "x/y"),
        ("$request.body.action", '{"action": 7}', "7"),
        ("$request.body.action", '{"action": true}', "true"),
        ("$request.body.action", '{"type": "send"}', None),
        ("$request.body.action", '{"action": null}', None),
        ("$request.body.action", '{"action": {"a": 1}}', None),
        ("$request.body.action", "[1]", None),
        ("$request.body.action", "not json", None),
        ("$request.body.action", b"\xff", None),
        ("${request.body.a}/${request.body.b}", '{"a": "x"}', None),
    ],
)
def test_a_message_selects(expression: str, message: str | bytes, selected: str | None) -> None:
    assert route_selector(expression)(message) == selected


@pytest.mark.parametrize("expression", ["", "action", "$request.header.x", "$request.body."])
def test_what_is_no_expression_is_refused(expression: str) -> None:
    with pytest.raises(DeploymentError, match="route selection"):
        route_selector(expression)


@pytest.mark.parametrize(
    ("selected", "routes", "key"),
    [
        ("send", {"send", "$default"}, "send"),
        ("other", {"send", "$default"}, "$default"),
        (None, {"send", "$default"}, "$default"),
        ("other", {"send"}, None),
        ("$connect", {"$connect", "$default"}, "$default"),
        ("$disconnect", {"$disconnect"}, None),
        ("$default", {"$default"}, "$default"),
    ],
)
def test_the_route_for_what_was_selected(
    selected: str | None, routes: set[str], key: str | None
) -> None:
    assert route_key(selected, routes) == key

"""A fault of ours in any function leaves a line of level `error`, which alarms count, and says what it is."""

import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.engines.fault_proxy import refusal
from tests.engines.processes import Engine
from tests.engines.runtime_api import FunctionError, LambdaFunction
from tests.gateway.hosts.aws.functions import (
    Functions,
    connect_event,
    disconnect_event,
    failure_event,
    http_event,
    message_event,
    new_connection_id,
    running_functions,
)

NAMES = ("connect", "disconnect", "http", "message", "reply", "seal")
FORBIDDEN = refusal("AccessDeniedException")
OPERATIONS = (
    *("GetItem", "BatchGetItem", "Query"),
    *("PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "TransactWriteItems"),
)
TEXT = "a very private matter"


@pytest.fixture(autouse=True)
def healed(functions: Functions) -> Iterator[None]:
    functions.user = f"user-{secrets.token_hex(4)}"
    functions.lambdas.asked.clear()
    yield
    functions.dynamodb.heal()


def event_of(functions: Functions, name: str) -> Any:
    """Return an event of that function, with which nothing is wrong."""
    if name == "connect":
        return connect_event(new_connection_id(), token=functions.token())
    if name == "http":
        return http_event(token=functions.token())
    here = functions.connect()
    if name == "disconnect":
        return disconnect_event(here)
    send = {"type": "send", "id": secrets.token_hex(8), "content": TEXT}
    message = message_event(here, orjson.dumps(send).decode())
    if name == "message":
        return message
    functions["message"].invoke(message)
    payload = orjson.loads(functions.lambdas.asked.pop())
    return failure_event(payload) if name == "seal" else payload


def errors_of(function: LambdaFunction, event: object) -> list[dict[str, Any]]:
    """Invoke it; return the lines of level `error` that it has written."""
    before = len(function.said())
    with suppress(FunctionError):
        function.invoke(event)
    said = function.said()[before:]
    assert TEXT not in said
    lines = [orjson.loads(line) for line in said.splitlines() if line.startswith("{")]
    return [line for line in lines if line["level"] == "error"]


@pytest.mark.parametrize("name", NAMES)
def test_a_database_that_refuses_is_an_error_with_its_cause(
    functions: Functions, name: str
) -> None:
    event = event_of(functions, name)
    for operation in OPERATIONS:
        functions.dynamodb.fail(operation, FORBIDDEN, times=1_000)

    errors = errors_of(functions[name], event)

    assert errors
    assert "DynamoDB refuses: AccessDeniedException" in str(errors[0])


@pytest.mark.parametrize("name", NAMES)
def test_a_setting_that_is_not_valid_is_an_error_with_its_name(
    functions: Functions, name: str
) -> None:
    event = event_of(functions, name)
    function = functions.another(name, MAKOTO_POSTS_PER_SECOND="many")

    errors = errors_of(function, event)

    assert errors
    assert "MAKOTO_POSTS_PER_SECOND must be a number" in errors[0]["trace"]


@pytest.mark.parametrize("name", NAMES)
def test_what_nobody_foresaw_is_an_error_with_its_trace(functions: Functions, name: str) -> None:
    errors = errors_of(functions[name], {"requestContext": {}, "Records": None})
    assert errors
    assert "Error" in errors[0]["trace"]


def test_keys_that_cannot_be_had_are_an_error(
    dynoxide: Engine, moto_server: Engine, tmp_path: Path
) -> None:
    with running_functions(dynoxide, moto_server, tmp_path) as nobody_has_fetched_them:
        nobody_has_fetched_them.lambdas.serves_keys = False
        event = connect_event(new_connection_id(), token=nobody_has_fetched_them.token())
        (error,) = errors_of(nobody_has_fetched_them["connect"], event)
    assert error["message"] == "keys are unavailable"
    assert error["cause"].startswith("KeysUnavailableError: ")

"""What each function loads until its first event is dealt with: somebody waits for that."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.engines.runtime_api import lambda_function
from tests.gateway.hosts.aws.functions import (
    Functions,
    connect_event,
    disconnect_event,
    http_event,
    message_event,
    new_connection_id,
)

MODELS = {"openai", "httpx", "httpx2"}
SDK = {"aiobotocore", "botocore", "aiohttp"}
SERVERS = {"uvicorn", "websockets"}
WEB = {"fastapi", "starlette", "mangum", *SERVERS}
CHECKS = {"pydantic", "pydantic_core", "msgspec"}
CRYPTOGRAPHY = {"jose", "cryptography"}


def first_event(functions: Functions, name: str) -> Any:
    if name == "connect":
        return connect_event(new_connection_id(), token=functions.token())
    if name == "http":
        return http_event(token=functions.token())
    here = functions.connect()
    if name == "disconnect":
        return disconnect_event(here)
    message = message_event(here, '{"type": "send", "id": "s1", "content": "Hello"}')
    if name == "message":
        return message
    functions["message"].invoke(message)
    return orjson.loads(functions.lambdas.asked.pop())


@pytest.mark.parametrize(
    ("name", "never"),
    [
        ("connect", MODELS | SDK | WEB | CHECKS),
        ("disconnect", MODELS | SDK | WEB | CHECKS | CRYPTOGRAPHY),
        ("message", MODELS | SDK | WEB),
        ("reply", MODELS | SDK | WEB),  # the scripted model; a provider's brings its SDK
        ("http", MODELS | SDK | SERVERS),
    ],
)
def test_a_function_loads_nothing_that_its_first_event_does_not_need(
    functions: Functions, tmp_path: Path, name: str, never: set[str]
) -> None:
    event = first_event(functions, name)
    handler = f"tests.gateway.hosts.aws.loaded.{name}"
    with lambda_function(handler, functions.environ, logs=tmp_path) as function:
        loaded = set(function.invoke(event))
    assert loaded & never == set()
    assert "gateway" in loaded

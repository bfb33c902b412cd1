"""What each function loads until its first event is dealt with: somebody waits for that."""

import asyncio
import secrets
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.engines.processes import Engine
from tests.engines.runtime_api import lambda_function
from tests.gateway.hosts.aws.functions import (
    Functions,
    connect_event,
    disconnect_event,
    failure_event,
    http_event,
    message_event,
    new_connection_id,
)
from tests.gateway.hosts.aws.test_aws_secrets import keep

MODELS = {"openai", "httpx", "httpx2"}
AWS_SDK = {"aiobotocore", "botocore"}
SDK = {*AWS_SDK, "aiohttp"}
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
    send = {"type": "send", "id": secrets.token_hex(8), "content": "Hello"}
    message = message_event(here, orjson.dumps(send).decode())
    if name == "message":
        return message
    functions["message"].invoke(message)
    asked = orjson.loads(functions.lambdas.asked.pop())
    return failure_event(asked) if name == "seal" else asked


@pytest.mark.parametrize(
    ("name", "never"),
    [
        ("connect", MODELS | SDK | WEB | CHECKS),
        ("disconnect", MODELS | SDK | WEB | CHECKS | CRYPTOGRAPHY),
        ("message", MODELS | SDK | WEB),
        ("reply", MODELS | SDK | WEB),  # the scripted model; a provider's brings its SDK
        ("seal", MODELS | SDK | WEB),
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


@pytest.mark.parametrize(("name", "loads"), [("provider_reply", True), ("reply", False)])
def test_what_is_deployed_as_reply_loads_a_providers_sdk_while_it_starts(
    functions: Functions, tmp_path: Path, name: str, loads: bool
) -> None:
    """Then it has a whole CPU; later, with somebody waiting, it has its share of one."""
    handler = f"tests.gateway.hosts.aws.loaded.{name}_before"
    with lambda_function(handler, functions.environ, logs=tmp_path) as function:
        loaded = set(function.invoke({}))
    assert ("openai" in loaded) is loads


async def test_reading_the_models_secret_loads_no_sdk(
    functions: Functions, moto_server: Engine, tmp_path: Path
) -> None:
    said = '{"OPENAI_MODEL": "any"}'  # without a key, so that the scripted model answers
    environ = functions.environ | {
        "MAKOTO_MODEL_SECRET": await keep(moto_server.url, "secretsmanager", said),
        "AWS_ENDPOINT_URL_SECRETS_MANAGER": moto_server.url,
    }

    def loaded() -> set[str]:
        event = first_event(functions, "reply")
        handler = "tests.gateway.hosts.aws.loaded.reply"
        with lambda_function(handler, environ, logs=tmp_path) as function:
            return set(function.invoke(event))

    assert await asyncio.to_thread(loaded) & AWS_SDK == set()

"""Replies of a real provider's SDK, whose key is a secret of AWS."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlsplit

import orjson
import pytest

from gateway.aws_settings import read_aws_settings
from gateway.hosts.aws import reply_process as module
from gateway.hosts.aws.invocation import Process
from gateway.hosts.aws.reply_process import ReplyProcess
from gateway.hosts.aws.secrets import ModelSecret, SecretValues
from gateway.settings import Settings, SettingsError
from tests.engines.fault_proxy import FaultProxy, fault_proxy
from tests.engines.processes import Engine
from tests.engines.runtime_api import FunctionError
from tests.gateway.hosts.aws.functions import Functions, failure_event, running_functions
from tests.gateway.hosts.aws.test_aws_secrets import keep
from tests.streaming.models.openai_endpoint import OpenAIEndpoint, answer, openai_endpoint

KEY = "sk-test-SECRET"


@pytest.fixture
async def endpoint() -> AsyncIterator[OpenAIEndpoint]:
    async with openai_endpoint() as running:
        yield running


@pytest.fixture
async def provider(endpoint: OpenAIEndpoint) -> AsyncIterator[FaultProxy]:
    """The endpoint behind a proxy that can cut its connections."""
    port = urlsplit(endpoint.url).port
    assert port is not None
    with fault_proxy(Engine(name="provider", port=port, process_id=0)) as proxy:
        yield proxy


def asked(functions: Functions, connection: str, number: int = 0) -> bytes:
    """Have a message accepted; return what `reply` is invoked with."""
    functions.command(connection, type="send", id=f"s{number}", content="Hello")
    assert functions.last(connection)["type"] == "accepted"
    return functions.lambdas.asked.pop()


def last_event(functions: Functions, connection: str) -> dict[str, Any]:
    event: dict[str, Any] = functions.last(connection)["events"][-1]
    return event


async def test_the_key_is_a_secret_and_every_cut_connection_is_replaced(
    dynoxide: Engine,
    moto_server: Engine,
    endpoint: OpenAIEndpoint,
    provider: FaultProxy,
    tmp_path: Path,
) -> None:
    said = orjson.dumps({"content": "こんにちは", "emotion": "happy", "category": "general"})
    endpoint.will(answer(said.decode()))

    def chat(where: str) -> str:
        with running_functions(
            dynoxide,
            moto_server,
            tmp_path,
            MAKOTO_MODEL_SECRET=where,
            OPENAI_BASE_URL=f"{provider.url}/v1",
            AWS_ENDPOINT_URL_SECRETS_MANAGER=moto_server.url,
        ) as functions:
            here = functions.connect()
            for number in range(10):
                functions.reply(asked(functions, here, number))
                assert last_event(functions, here)["reason"] == "stop", last_event(functions, here)
                functions.cut_idle_connections()
                provider.cut_idle()
            assert functions["reply"].starts == 1
            return functions["reply"].said()

    logged = await asyncio.to_thread(chat, await keep(moto_server.url, "secretsmanager", KEY))

    assert [each.headers["Authorization"] for each in endpoint.requests] == [f"Bearer {KEY}"] * 10
    assert KEY not in logged


def test_without_its_secret_reply_fails_and_the_queue_ends_the_run(
    dynoxide: Engine, moto_server: Engine, tmp_path: Path
) -> None:
    with running_functions(
        dynoxide,
        moto_server,
        tmp_path,
        MAKOTO_MODEL_SECRET="arn:aws:secretsmanager:eu-central-1:000000000000:secret:none-abcdef",
        AWS_ENDPOINT_URL_SECRETS_MANAGER=moto_server.url,
    ) as functions:
        here = functions.connect()
        payload = asked(functions, here)
        with pytest.raises(FunctionError, match="MAKOTO_MODEL_SECRET cannot be read"):
            functions.reply(payload)
        failure = failure_event(orjson.loads(payload))
        assert functions["seal"].invoke(failure) == {"batchItemFailures": []}
        assert last_event(functions, here)["reason"] == "error"


class Secret:
    def __init__(self) -> None:
        self.held = {"OPENAI_API_KEY": "first"}

    async def values(self) -> SecretValues:
        return SecretValues(self.held)


async def test_a_key_that_was_rotated_makes_another_model(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Settings] = []
    closed: list[object] = []

    async def open_model(settings: Settings, *, stack: Any) -> object:
        if settings.openai_api_key == "typo":
            raise SettingsError("no request can be made with it")
        made.append(settings)
        stack.callback(closed.append, settings)
        return object()

    monkeypatch.setattr(module, "open_model", open_model)
    secret = Secret()
    shared = SimpleNamespace(backend=SimpleNamespace(aws=read_aws_settings({})))
    process = ReplyProcess(cast("Process", shared), cast("ModelSecret", secret))

    first = await process.model()
    assert await process.model() is first
    assert "first" not in str(vars(process)), "the key is not shown"
    secret.held = {"OPENAI_API_KEY": "second"}
    second = await process.model()
    assert second is not first
    assert [each.openai_api_key for each in made] == ["first", "second"]
    assert closed == made[:1]

    secret.held = {"OPENAI_API_KEY": "typo"}
    with pytest.raises(SettingsError):
        await process.model()
    assert closed == made
    secret.held = {"OPENAI_API_KEY": "second"}
    assert await process.model() is not second, "that one is closed"

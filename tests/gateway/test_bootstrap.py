"""From settings to a gateway that answers, and what keeps it from starting."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.bootstrap.generation import open_model
from gateway.bootstrap.handlers import make_gateway, make_recovery, make_sealer
from gateway.bootstrap.local import (
    LOCAL_AUDIENCE,
    LOCAL_ISSUER,
    LocalFoundation,
    open_foundation,
)
from gateway.identity.admission import Handshake
from gateway.identity.errors import LocalKeyError
from gateway.runs.live_run import LiveRun
from gateway.settings import Settings, SettingsError
from storage.errors import StorageUnavailableError, UnusableDataError
from storage.records import Owner
from streaming.models.chat_model import ChatMessage, ChatModel, Function, ModelRequest
from streaming.models.scripted import ScriptedModel
from streaming.parts import Part, Usage
from tests.gateway.runs.fakes import FakeTransport
from tests.gateway.turns.exchange import FakeModel
from tests.streaming.models.openai_endpoint import openai_endpoint

PAGE = "http://localhost:8765"


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def opened(stack: AsyncExitStack, folder: Path, **settings: Any) -> LocalFoundation:
    return await open_foundation(
        Settings(**{"data_dir": folder, **settings}),
        stack=stack,
        transport=FakeTransport(),
        own_origins=frozenset({PAGE}),
        model=FakeModel(),
    )


class Tasks:
    """Generates in a task; see `RunStarter`."""

    def __init__(self, on: LocalFoundation) -> None:
        self._on = on
        self.tasks: list[asyncio.Task[Any]] = []

    def start(self, live: LiveRun) -> None:
        if not live.started:
            live.started = True
            self.tasks.append(asyncio.create_task(self._on.generator.generate(live)))


# A gateway that works


async def test_a_chat_from_token_to_done(stack: AsyncExitStack, tmp_path: Path) -> None:
    on = await opened(stack, tmp_path)
    starter = Tasks(on)
    recovery = make_recovery(on, starter=starter)
    await recovery.at_start(await on.store.unfinished())
    gateway = make_gateway(on, starter=starter, recovery=recovery, new_claim=on.generator.new_claim)
    assert on.local_issuer is not None
    made = on.local_issuer.mint("anna", ttl_s=60, now=on.clock())
    admitted = await gateway.connect(
        Handshake(
            connection_id="c1",
            headers=[
                ("Origin", PAGE),
                ("Sec-WebSocket-Protocol", f"makoto.v1, bearer.{made}"),
            ],
            query=[],
            lifetime_s=60.0,
        )
    )
    assert admitted.connection.owner == Owner(tenant_id="default", user_id="anna")
    for command in ({"type": "hello"}, {"type": "send", "id": "s1", "content": "Hi"}):
        await gateway.message(admitted.connection, orjson.dumps(command).decode())
    await asyncio.wait(starter.tasks, timeout=5)
    transport = on.transport
    assert isinstance(transport, FakeTransport)
    answers = transport.answers("c1")
    assert [answer["type"] for answer in answers][:2] == ["ready", "accepted"]
    events = [event for answer in answers[2:] for event in answer["events"]]
    assert events[-1]["type"] == "done"
    assert events[-1]["saved"] is True


async def test_the_settings_reach_the_rooms(stack: AsyncExitStack, tmp_path: Path) -> None:
    on = await opened(
        stack,
        tmp_path,
        emotions=("calm",),
        categories=("any",),
        characters={"誠": "あなたは誠です。"},
        content_bytes=50,
        live_runs=2,
        heartbeat_s=7.0,
        tenant="acme",
    )
    starter = Tasks(on)
    recovery = make_recovery(on, starter=starter)
    gateway = make_gateway(on, starter=starter, recovery=recovery, new_claim=on.generator.new_claim)
    assert on.local_issuer is not None
    admitted = await gateway.connect(
        Handshake(
            connection_id="c1",
            headers=[
                ("Authorization", f"Bearer {on.local_issuer.mint('u', ttl_s=60, now=on.clock())}")
            ],
            query=[],
            lifetime_s=60.0,
        )
    )
    assert isinstance(on.transport, FakeTransport)
    await gateway.message(admitted.connection, '{"type":"hello"}')
    ready = on.transport.answers("c1")[0]
    assert (ready["tenant_id"], ready["heartbeat_ms"]) == ("acme", 7_000)
    assert (ready["limits"]["content_bytes"], ready["limits"]["live_runs"]) == (50, 2)
    await gateway.message(admitted.connection, '{"type":"send","id":"s1","content":"Hi"}')
    await asyncio.wait(starter.tasks, timeout=5)
    model = on.generator._model
    assert isinstance(model, FakeModel)
    (request,) = model.requests
    assert request.messages[0].content == "あなたは誠です。"
    assert make_sealer(on)._rules == on.generator._rules
    properties: Any = request.function.parameters["properties"]
    assert properties["emotion"]["const"] == "calm"


async def test_the_key_of_the_embedded_issuer_is_kept(tmp_path: Path) -> None:
    documents = []
    for _ in range(2):
        async with AsyncExitStack() as stack:
            on = await opened(stack, tmp_path)
            assert on.local_issuer is not None
            documents.append(on.local_issuer.jwks_document())
    assert documents[0] == documents[1]


async def test_everything_is_closed_with_the_stack(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        on = await opened(stack, tmp_path)
    with pytest.raises(StorageUnavailableError):
        await on.store.unfinished()
    async with AsyncExitStack() as stack:  # the folder is free again
        await opened(stack, tmp_path)


async def test_with_an_issuer_of_ones_own_the_server_mints_nothing(
    stack: AsyncExitStack, tmp_path: Path
) -> None:
    on = await opened(
        stack,
        tmp_path,
        issuer="https://id.example/pool",
        jwks_url="https://id.example/keys",
        audience=("chat",),
    )
    assert on.local_issuer is None
    assert not list(tmp_path.glob("*.pem"))


async def test_the_embedded_issuer_is_not_a_public_name() -> None:
    assert LOCAL_ISSUER.startswith("urn:")
    assert LOCAL_AUDIENCE == "makoto"


# What keeps it from starting


@pytest.mark.parametrize(
    "settings",
    [
        {"allowed_origins": ("https://chat.example/",)},
        {"allowed_origins": ("*",)},
    ],
    ids=["an origin with a path", "any origin"],
)
async def test_a_setting_that_is_not_valid_is_one_line(
    stack: AsyncExitStack, tmp_path: Path, settings: dict[str, Any]
) -> None:
    with pytest.raises(SettingsError) as caught:
        await opened(stack, tmp_path, **settings)
    assert "\n" not in str(caught.value)


async def test_a_data_folder_in_use(stack: AsyncExitStack, tmp_path: Path) -> None:
    await opened(stack, tmp_path)
    with pytest.raises(UnusableDataError):
        await opened(stack, tmp_path)


async def test_a_key_that_others_may_read(stack: AsyncExitStack, tmp_path: Path) -> None:
    (tmp_path / "signing-key.pem").write_text("no key")
    (tmp_path / "signing-key.pem").chmod(0o644)
    with pytest.raises(LocalKeyError):
        await opened(stack, tmp_path)


# Who answers


async def test_without_a_key_the_scripted_model_answers(stack: AsyncExitStack) -> None:
    model = await open_model(Settings(), stack=stack)
    assert isinstance(model, ScriptedModel)
    assert model.name == "scripted"


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"openai_api_key": "sk-1"}, "gpt-4o-mini"),
        ({"openai_api_key": "sk-1", "openai_model": "own"}, "own"),
        ({"openai_api_key": "sk-1", "openai_base_url": "http://127.0.0.1:9/v1"}, "gpt-4o-mini"),
        (
            {
                "openai_api_key": "sk-1",
                "azure_endpoint": "https://example.openai.azure.com",
                "azure_api_key": "k",
                "azure_deployment": "chat",
            },
            "chat",
        ),
    ],
    ids=["OpenAI", "another model", "another server", "Azure wins"],
)
async def test_with_a_key_a_provider_answers(settings: dict[str, Any], name: str) -> None:
    async with AsyncExitStack() as stack:
        model = await open_model(Settings(**settings), stack=stack)
        assert type(model).__name__ == "OpenAIModel"
        assert model.name == name


@pytest.mark.parametrize(
    ("settings", "whose"),
    [
        ({"openai_api_key": "sk-secret with a space"}, "OPENAI_"),
        ({"openai_api_key": "sk-secret", "openai_base_url": "not a url"}, "OPENAI_"),
        (
            {
                "azure_endpoint": "example",
                "azure_api_key": "secret",
                "azure_deployment": "chat",
            },
            "AZURE_OPENAI_",
        ),
    ],
    ids=["key", "URL", "endpoint"],
)
async def test_a_provider_that_cannot_be_asked_keeps_it_from_starting(
    stack: AsyncExitStack, settings: dict[str, Any], whose: str
) -> None:
    with pytest.raises(SettingsError, match=whose) as caught:
        await open_model(Settings(**settings), stack=stack)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


async def test_the_scripted_model_says_no_more_tokens_than_set(stack: AsyncExitStack) -> None:
    model = await open_model(Settings(reply_tokens=5, scripted_pace=0), stack=stack)
    usage = [part for part in await reply_of(model) if isinstance(part, Usage)]
    assert [each.completion_tokens for each in usage] == [5]


async def test_a_provider_is_asked_for_no_more_tokens_than_set() -> None:
    async with openai_endpoint() as endpoint, AsyncExitStack() as stack:
        provider = {"openai_api_key": "sk-1", "openai_base_url": endpoint.base_url}
        await reply_of(await open_model(Settings(**provider), stack=stack))
        await reply_of(await open_model(Settings(reply_tokens=5, **provider), stack=stack))
        limits = [asked.body.get("max_completion_tokens") for asked in endpoint.requests]
    assert limits == [None, 5]


async def reply_of(model: ChatModel) -> list[Part]:
    function = Function(name="reply", description="", parameters={"properties": {"content": {}}})
    asked = ModelRequest(messages=(ChatMessage(role="user", content="Hi"),), function=function)
    async with asyncio.timeout(10), aclosing(model.stream(asked)) as reply:
        return [part async for parts in reply for part in parts]


async def test_a_given_model_is_used_as_it_is(stack: AsyncExitStack, tmp_path: Path) -> None:
    on = await opened(stack, tmp_path, openai_api_key="sk-1")
    assert isinstance(on.generator._model, FakeModel)

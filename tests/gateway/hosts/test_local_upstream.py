"""The local host with the OpenAI model, against a provider's endpoint on loopback."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.wire.limits import SUBPROTOCOL
from tests.gateway.hosts.client import text_of
from tests.gateway.hosts.local_host import LocalHost, local_host
from tests.streaming.models.openai_endpoint import (
    Do,
    OpenAIEndpoint,
    answer,
    call_events,
    openai_endpoint,
    reply_events,
    stream,
)

KEY = "sk-test-SECRET"


@pytest.fixture
async def endpoint() -> AsyncIterator[OpenAIEndpoint]:
    async with openai_endpoint() as running:
        yield running


@pytest.fixture
async def host(folder: Path, endpoint: OpenAIEndpoint) -> AsyncIterator[LocalHost]:
    settings = {"openai_api_key": KEY, "openai_base_url": endpoint.base_url}
    async with local_host(folder, **settings) as running:
        yield running


def arguments(content: str, *, memory: str | None = None, ascii_only: bool = False) -> str:
    fields = {"content": content, "emotion": "happy", "category": "advice", "memory": memory}
    return json.dumps(fields, ensure_ascii=ascii_only)


@pytest.mark.parametrize("ascii_only", [False, True], ids=["plain", "escaped"])
@pytest.mark.parametrize("size", [1, 4, 1000])
async def test_every_byte_of_the_text_arrives_however_it_was_cut(
    host: LocalHost, endpoint: OpenAIEndpoint, size: int, ascii_only: bool
) -> None:
    said = 'He said: "こんにちは" \\ 👩‍👩‍👧 𝒳\n\t</script>\u2028'
    endpoint.will(answer(arguments(said, ascii_only=ascii_only), size=size))
    async with host.client() as client:
        accepted, events = await client.exchange("Hi")
        (_, kept) = await client.history(accepted["session_id"])
    assert text_of(events).encode() == said.encode()
    assert kept["content"] == said
    values = {event["type"]: event.get("value") for event in events}
    assert (values["emotion"], values["category"]) == ("happy", "advice")
    usage = events[-2]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (11, 7)
    assert events[-1]["reason"] == "stop"


async def test_the_third_request_carries_two_turns_and_a_new_session_the_memory(
    host: LocalHost, endpoint: OpenAIEndpoint
) -> None:
    endpoint.will(
        answer(arguments("Nice to meet you", memory="is called 愛子")),
        answer(arguments("Second")),
        answer(arguments("Third")),
    )
    async with host.client() as client:
        session_id = (await client.exchange("I am 愛子"))[0]["session_id"]
        await client.exchange("two", session_id=session_id)
        await client.exchange("three", session_id=session_id)
        await client.exchange("Who am I?")
    third, fourth = (request.body["messages"] for request in endpoint.requests[2:])
    assert [message["content"] for message in third[1:]] == [
        *("I am 愛子", "Nice to meet you"),
        *("two", "Second"),
        "three",
    ]
    assert [message["role"] for message in third] == [
        "system",
        *("user", "assistant") * 2,
        "user",
    ]
    assert "is called 愛子" in fourth[0]["content"]
    assert len(fourth) == 2


async def test_cancel_closes_the_upstream_request_within_a_second(
    host: LocalHost, endpoint: OpenAIEndpoint
) -> None:
    endpoint.will(stream(*call_events('{"content": "Once upon'), Do.STALL))
    async with host.client() as client:
        run = await client.send("Hi")
        begun = await client.events(run["run_id"], until="content.delta")
        await client.say("cancel", run_id=run["run_id"])
        async with asyncio.timeout(1):
            await endpoint.requests[0].disconnected.wait()
        events = await client.events(run["run_id"], after=len(begun))
        assert events[-1]["reason"] == "cancelled"
        _, kept = await client.history(run["session_id"])
    assert kept["content"] == text_of(begun + events)


async def test_cancel_before_the_first_byte_closes_the_upstream_request_too(
    host: LocalHost, endpoint: OpenAIEndpoint
) -> None:
    endpoint.will(stream(Do.STALL))
    async with host.client() as client:
        run = await client.send("Hi")
        received = await endpoint.received(1)
        await client.say("cancel", run_id=run["run_id"])
        async with asyncio.timeout(1):
            await received.disconnected.wait()
        assert (await client.events(run["run_id"]))[-1]["reason"] == "cancelled"


async def test_a_browsers_chat_works_through_the_whole_path(
    host: LocalHost, endpoint: OpenAIEndpoint
) -> None:
    gate = asyncio.Event()
    first, *rest = reply_events(arguments("Once upon a time"), size=10)
    endpoint.will(stream(first, *rest[:3], gate, *rest[3:]))
    async with host.client(
        subprotocols=[SUBPROTOCOL, f"bearer.{host.token()}"], origin=host.origin
    ) as client:
        run = await client.send("Hi")
        begun = await client.events(run["run_id"], until="content.delta")
        gate.set()
        events = begun + await client.events(run["run_id"], after=len(begun))
    assert text_of(events) == "Once upon a time"

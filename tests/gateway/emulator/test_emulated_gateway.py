"""A chat of ours through the emulator: the functions of the template, as API Gateway and Lambda run them."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from gateway.emulator import Emulator, Fault
from tests.engines.processes import Engine
from tests.gateway.emulator.conftest import Printed, until
from tests.gateway.hosts import client as client_module
from tests.gateway.hosts.aws.emulated import emulated_gateway
from tests.gateway.hosts.aws.functions import ORIGIN, Functions, running_functions
from tests.gateway.hosts.client import Client, connect

BOUND_S = 60.0
"""Functions start cold, on a busy machine."""


@pytest.fixture(scope="module")
def world(
    dynoxide: Engine, moto_server: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Functions]:
    """Tables, a bucket and an issuer; the functions themselves are the emulator's."""
    folder = tmp_path_factory.mktemp("world")
    with running_functions(dynoxide, moto_server, folder, MAKOTO_SCRIPTED_PACE="40") as running:
        yield running


@pytest.fixture
async def deployed(
    world: Functions, printed: Printed, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Emulator]:
    monkeypatch.setattr(client_module, "BOUND_S", BOUND_S)
    async with emulated_gateway(world, output=printed) as running:
        yield running


@asynccontextmanager
async def chatting(deployed: Emulator, world: Functions) -> AsyncIterator[Client]:
    """Connect as a browser does."""
    async with connect(
        deployed.url,
        origin_url=ORIGIN,
        origin=ORIGIN,
        subprotocols=["makoto.v1", f"bearer.{world.token()}"],
    ) as client:
        yield client


def text(events: list[dict[str, Any]]) -> str:
    return "".join(event["text"] for event in events if event["type"] == "content.delta")


async def test_a_token_opens_a_connection_and_a_message_is_answered(
    deployed: Emulator, world: Functions
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await connect(
            deployed.url,
            origin_url=ORIGIN,
            origin=ORIGIN,
            subprotocols=["makoto.v1", "bearer.x.y.z"],
        ).__aenter__()
    assert refused.value.response.status_code == 401

    async with chatting(deployed, world) as client:
        assert client.ws.subprotocol == "makoto.v1"
        assert client.ready["connection_id"] == deployed.connection_ids[0]
        accepted, events = await client.exchange("echo 誠")
        assert text(events) == "誠"
        assert (events[-1]["reason"], events[-1]["saved"]) == ("stop", True)
        page = await client.ask("history", session_id=accepted["session_id"])
        assert sorted(item["content"] for item in page["items"]) == ["echo 誠", "誠"]
    await deployed.settle()


async def test_cancel_stops_an_answer_that_another_process_writes(
    deployed: Emulator, world: Functions
) -> None:
    async with chatting(deployed, world) as client:
        accepted = await client.send("slow long")
        run_id = accepted["run_id"]
        begun = await client.events(run_id, until="content.delta")
        await client.say("cancel", run_id=run_id)
        rest = await client.events(run_id, after=len(begun))
        assert rest[-1]["reason"] == "cancelled"
    await deployed.settle()


async def test_an_answer_whose_process_is_killed_ends_as_interrupted_and_stays(
    deployed: Emulator, world: Functions
) -> None:
    async with chatting(deployed, world) as client:
        accepted = await client.send("slow long")
        events = await heard(client, until="content.delta")
        assert deployed.kill("makoto-reply") == 1
        events = await heard(client, events)
        assert (events[-1]["reason"], events[-1]["saved"]) == ("interrupted", True)
        page = await client.ask("history", session_id=accepted["session_id"])
        (kept,) = [item for item in page["items"] if item["role"] == "assistant"]
        assert kept["content"] == text(events) != ""
    await until(lambda: deployed.queued("failures") == 0)


async def test_an_answer_survives_posts_that_fail_arrive_twice_or_lose_their_reply(
    deployed: Emulator, world: Functions
) -> None:
    async with chatting(deployed, world) as client:
        faults = {Fault.POST_ERROR, Fault.POST_LOST_REPLY, Fault.POST_LIMIT, Fault.POST_DUPLICATE}
        for fault in faults:
            deployed.chaos.order(fault, times=2)
        for fault in (Fault.DUPLICATE_INVOKE, Fault.DUPLICATE_MESSAGE):
            deployed.chaos.order(fault)
        await client.say("send", id="s", content="echo just once, whatever happens on the way")
        events = await heard(client)
        assert text(events) == "just once, whatever happens on the way"
        assert events[-1]["reason"] == "stop"
        struck = deployed.chaos.struck
        assert faults | {Fault.DUPLICATE_INVOKE, Fault.DUPLICATE_MESSAGE} == struck.keys()


async def heard(
    client: Client, events: list[dict[str, Any]] | None = None, *, until: str = "done"
) -> list[dict[str, Any]]:
    """Put the frames of an answer together as clients do: what they have already, they drop."""
    events = list(events or ())
    async with asyncio.timeout(BOUND_S):
        while not events or events[-1]["type"] != until:
            frame = await client.next()
            if frame["type"] == "events":
                assert frame["first_seq"] <= len(events) + 1, "a gap"
                events += frame["events"][len(events) + 1 - frame["first_seq"] :]
    return events

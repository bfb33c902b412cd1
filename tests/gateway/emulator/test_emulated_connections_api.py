"""The @connections API, by the SDK."""

import asyncio
from collections.abc import AsyncIterator, Callable
from http.client import HTTPConnection
from typing import Any

import pytest
from botocore.exceptions import ClientError, HTTPClientError
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from gateway.emulator import Emulator, Fault, Limits
from tests.gateway.emulator.conftest import WAIT_S, Printed, until

Emulating = Callable[..., Any]


class World:
    """An emulator, a client that is connected, and the SDK."""

    def __init__(self, emulated: Emulator, ws: Any, api: Any) -> None:
        self.emulated = emulated
        self.ws = ws
        self.api = api
        self.connection_id = emulated.connection_ids[0]

    async def post(self, data: bytes | str, connection_id: str = "") -> None:
        await self.api.post_to_connection(
            ConnectionId=connection_id or self.connection_id,
            Data=data.encode() if isinstance(data, str) else data,
        )

    async def refused(self, data: bytes | str = "x", connection_id: str = "") -> tuple[int, str]:
        """Post; return the status and the error that the SDK made of the refusal."""
        with pytest.raises(ClientError) as error:
            await self.post(data, connection_id)
        metadata = error.value.response["ResponseMetadata"]
        return metadata["HTTPStatusCode"], type(error.value).__name__

    async def hear(self) -> Any:
        return await asyncio.wait_for(self.ws.recv(), WAIT_S)


@pytest.fixture
async def world(emulating: Emulating, sdk: Callable[..., Any]) -> AsyncIterator[World]:
    emulated = await emulating(disconnect="room:seen", limits=Limits(unsent_bytes=262_144))
    api = await sdk("apigatewaymanagementapi", emulated.connections_url)
    async with connect(emulated.url, user_agent_header="tests") as ws:
        yield World(emulated, ws, api)


async def test_a_post_arrives_as_text(world: World) -> None:
    await world.post("誠")
    assert await world.hear() == "誠"


async def test_what_is_no_text_arrives_as_bytes(world: World) -> None:
    await world.post(b"\xff\x00")
    assert await world.hear() == b"\xff\x00"


async def test_a_post_may_be_of_128_kib_and_no_more(world: World) -> None:
    await world.post("x" * 131_072)
    assert len(await world.hear()) == 131_072
    assert await world.refused("x" * 131_073) == (413, "PayloadTooLargeException")


async def test_an_unknown_connection_is_gone(world: World) -> None:
    assert await world.refused(connection_id="AAAAAAAAAAAAAAA=") == (410, "GoneException")


async def test_a_closed_connection_is_gone(world: World) -> None:
    await world.ws.close()
    await until(lambda: world.emulated.connection_ids == [])
    assert await world.refused() == (410, "GoneException")
    for call in (world.api.get_connection, world.api.delete_connection):
        with pytest.raises(world.api.exceptions.GoneException):
            await call(ConnectionId=world.connection_id)


async def test_get_tells_of_the_connection(world: World) -> None:
    before = await world.api.get_connection(ConnectionId=world.connection_id)
    assert before["Identity"] == {"SourceIp": "127.0.0.1", "UserAgent": "tests"}
    assert before["ConnectedAt"] <= before["LastActiveAt"]
    await asyncio.sleep(0.002)
    await world.post("x")
    after = await world.api.get_connection(ConnectionId=world.connection_id)
    assert after["ConnectedAt"] == before["ConnectedAt"]
    assert after["LastActiveAt"] > before["LastActiveAt"]


async def test_delete_closes_with_1000(world: World, printed: Printed) -> None:
    answer = await world.api.delete_connection(ConnectionId=world.connection_id)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert await world.refused() == (410, "GoneException")
    with pytest.raises(ConnectionClosed) as ended:
        await world.hear()
    assert ended.value.rcvd is not None
    assert ended.value.rcvd.code == 1000
    context = (await printed.event("disconnect"))["requestContext"]
    assert context["disconnectStatusCode"] == 1000
    assert context["disconnectReason"] == "Connection Closed Normally"


async def test_posts_to_a_client_that_does_not_read_are_limited(world: World) -> None:
    world.ws.transport.pause_reading()

    async def post_on() -> None:
        for _ in range(200):
            await world.post("x" * 131_072)

    with pytest.raises(world.api.exceptions.LimitExceededException):
        await post_on()
    world.ws.transport.abort()


async def test_a_post_from_inside_connect_is_gone(emulating: Emulating, printed: Printed) -> None:
    emulated = await emulating(connect="room:post_back", default="room:post_back")
    async with connect(emulated.url) as ws:
        assert await printed.wait("connect") == ["410"]
        await ws.send("x")
        assert await asyncio.wait_for(ws.recv(), WAIT_S) == "from inside"
        assert await printed.wait("default") == ["200"]


async def test_a_handler_finds_the_api_over_https_at_the_domain_of_its_event(
    emulating: Emulating, printed: Printed
) -> None:
    emulated = await emulating(default="room:post_back")
    async with connect(emulated.url) as ws:
        await ws.send("securely")
        assert await asyncio.wait_for(ws.recv(), WAIT_S) == "from inside"
    assert await printed.wait("default") == ["200"]


# Signatures


@pytest.mark.parametrize(
    ("authorization", "error"),
    [
        (None, "MissingAuthenticationTokenException"),
        ("Bearer x", "IncompleteSignatureException"),
        (
            "AWS4-HMAC-SHA256 Credential=A/20260101/us-east-1/lambda/aws4_request, "
            f"SignedHeaders=host, Signature={'0' * 64}",
            "InvalidSignatureException",
        ),
    ],
)
async def test_a_request_that_is_not_signed_for_the_api_is_refused(
    world: World, authorization: str | None, error: str
) -> None:
    def ask() -> tuple[int, str | None]:
        connection = HTTPConnection("127.0.0.1", world.emulated.port, timeout=WAIT_S)
        headers = {"Authorization": authorization} if authorization else {}
        connection.request("POST", f"/dev/@connections/{world.connection_id}", b"x", headers)
        response = connection.getresponse()
        response.read()
        connection.close()
        return response.status, response.headers["x-amzn-ErrorType"]

    assert await asyncio.to_thread(ask) == (403, error)


async def test_another_stage_is_forbidden(world: World, sdk: Callable[..., Any]) -> None:
    world.api = await sdk("apigatewaymanagementapi", f"{world.emulated.lambda_url}/prod")
    assert await world.refused() == (403, "ForbiddenException")


# Chaos


@pytest.mark.parametrize(
    ("fault", "answer"),
    [
        (Fault.POST_GONE, (410, "GoneException")),
        (Fault.POST_LIMIT, (429, "LimitExceededException")),
        (Fault.POST_FORBIDDEN, (403, "ForbiddenException")),
        (Fault.POST_ERROR, (500, "ClientError")),
    ],
)
async def test_a_post_can_fail(world: World, fault: Fault, answer: tuple[int, str]) -> None:
    world.emulated.chaos.order(fault, target=world.connection_id)
    assert await world.refused("lost") == answer
    await world.post("kept")
    assert await world.hear() == "kept"


async def test_the_reply_to_a_post_can_be_lost(world: World) -> None:
    world.emulated.chaos.order(Fault.POST_LOST_REPLY)
    with pytest.raises(HTTPClientError):
        await world.post("arrives")
    assert await world.hear() == "arrives"
    await world.post("next")
    assert await world.hear() == "next"


async def test_a_post_can_arrive_twice(world: World) -> None:
    world.emulated.chaos.order(Fault.POST_DUPLICATE)
    await world.post("a")
    await world.post("b")
    assert [await world.hear() for _ in range(3)] == ["a", "a", "b"]


async def test_posts_can_arrive_out_of_order(world: World) -> None:
    world.emulated.chaos.order(Fault.POST_REORDER)
    await world.post("a")
    await world.post("b")
    assert [await world.hear() for _ in range(2)] == ["b", "a"]


async def test_a_post_that_is_reordered_arrives_though_none_follows(world: World) -> None:
    world.emulated.chaos.order(Fault.POST_REORDER)
    await world.post("a")
    assert await world.hear() == "a"


async def test_a_post_can_be_delayed(world: World) -> None:
    world.emulated.chaos.delay_s = 0.3
    world.emulated.chaos.order(Fault.POST_DELAY)
    slow = asyncio.create_task(world.post("slow"))
    await until(lambda: world.emulated.chaos.struck[Fault.POST_DELAY] == 1)
    await world.post("quick")
    assert await world.hear() == "quick"
    assert await world.hear() == "slow"
    await slow

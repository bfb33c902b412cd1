"""The WebSocket API, by a real client: routes, refusals, notices, sizes and clocks."""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from gateway.emulator import DeploymentError, Fault, Limits, emulator
from tests.gateway.emulator.conftest import HANDLERS, WAIT_S, Printed, until

Emulating = Callable[..., Any]

SEEN = {"connect": "room:seen", "default": "room:seen", "disconnect": "room:seen"}


async def hear(ws: Any) -> Any:
    """Return the next message, decoded."""
    return json.loads(await asyncio.wait_for(ws.recv(), WAIT_S))


async def closed(ws: Any) -> ConnectionClosed:
    """Wait until the server has closed."""
    with pytest.raises(ConnectionClosed) as ended:
        await asyncio.wait_for(ws.recv(), WAIT_S)
    return ended.value


# Routes


async def test_each_route_has_its_function(emulating: Emulating, printed: Printed) -> None:
    emulated = await emulating(**SEEN, routes={"send": "room:seen"})
    async with connect(f"{emulated.url}?a=1", additional_headers={"X-Mine": "yes"}) as ws:
        (connection_id,) = emulated.connection_ids
        await ws.send('{"action": "send", "text": "é"}')
        await ws.send("not json")
    connected = await printed.event("connect")
    assert connected["headers"]["X-Mine"] == "yes"
    assert connected["queryStringParameters"] == {"a": "1"}
    assert connected["requestContext"]["domainName"] == f"127.0.0.1:{emulated.port}"
    sent, other = await printed.event("send"), await printed.event("default")
    assert (sent["body"], other["body"]) == ('{"action": "send", "text": "é"}', "not json")
    assert sent["requestContext"]["routeKey"] == "send"
    gone = await printed.event("disconnect")
    assert gone["requestContext"]["disconnectStatusCode"] == 1000
    contexts = [event["requestContext"] for event in (connected, sent, other, gone)]
    assert {context["connectionId"] for context in contexts} == {connection_id}
    assert len({context["requestId"] for context in contexts}) == 4
    assert emulated.connection_ids == []


async def test_without_connect_everybody_is_let_in_and_without_default_it_is_forbidden(
    emulating: Emulating,
) -> None:
    emulated = await emulating(routes={"send": "room:seen"})
    async with connect(emulated.url) as ws:
        await ws.send('{"action": "else"}')
        told = await hear(ws)
        assert told["message"] == "Forbidden"
        assert told["connectionId"] == emulated.connection_ids[0]


async def test_the_expression_selects(emulating: Emulating, printed: Printed) -> None:
    emulated = await emulating(routes={"send": "room:seen"}, route_selection="$request.body.type")
    async with connect(emulated.url) as ws:
        await ws.send('{"type": "send"}')
        assert await printed.event("send")


async def test_messages_of_one_socket_run_at_the_same_time(
    emulating: Emulating, tmp_path: Path
) -> None:
    emulated = await emulating(
        default="room:meet",
        responses=frozenset({"$default"}),
        environment={"FOLDER": str(tmp_path)},
    )
    async with connect(emulated.url) as ws:
        for name in ("a", "b", "c"):
            await ws.send(json.dumps({"name": name, "of": 3}))
        heard = [await asyncio.wait_for(ws.recv(), WAIT_S) for _ in range(3)]
    assert sorted(heard) == ["a", "b", "c"]


async def test_a_body_is_sent_where_a_route_response_is_configured_alone(
    emulating: Emulating,
) -> None:
    emulated = await emulating(
        default="room:upper", routes={"quiet": "room:upper"}, responses=frozenset({"$default"})
    )
    async with connect(emulated.url) as ws:
        await ws.send('{"action": "quiet"}')
        await emulated.settle()
        await ws.send("loud")
        assert await asyncio.wait_for(ws.recv(), WAIT_S) == "LOUD"


@pytest.mark.parametrize(
    ("handler", "said"),
    [
        ("fail", "[ERROR] ValueError: a detail"),
        ("nothing", "Malformed Lambda proxy response"),
        ("not_json", "[ERROR] Runtime.MarshalError"),
        ("leave", "Runtime exited with error: exit status 3"),
        ("crash", "Runtime exited with error: signal"),
    ],
)
async def test_a_function_that_fails_is_an_internal_server_error_and_says_why(
    emulating: Emulating, printed: Printed, handler: str, said: str
) -> None:
    emulated = await emulating(default=f"room:{handler}")
    async with connect(emulated.url) as ws:
        await ws.send("x")
        told = await hear(ws)
    assert told.keys() == {"message", "connectionId", "requestId"}
    assert told["message"] == "Internal server error"
    assert any(said in line for line in printed.of("default"))


@pytest.mark.parametrize(
    ("handler", "said"),
    [
        ("broken:handler", "RuntimeError: no import"),
        ("absent:handler", "Runtime.ImportModuleError"),
        ("room:absent", "Runtime.HandlerNotFound"),
    ],
)
async def test_a_function_that_cannot_be_imported_is_one_too(
    emulating: Emulating, printed: Printed, handler: str, said: str
) -> None:
    emulated = await emulating(default=handler)
    async with connect(emulated.url) as ws:
        await ws.send("x")
        assert (await hear(ws))["message"] == "Internal server error"
    assert any(said in line for line in printed.of("default"))


# Handshakes


@pytest.mark.parametrize("status", [401, 403, 429, 500])
async def test_connect_refuses_with_its_status(emulating: Emulating, status: int) -> None:
    emulated = await emulating(connect="room:refuse", disconnect="room:seen")
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"{emulated.url}?status={status}").__aenter__()
    assert refused.value.response.status_code == status
    await emulated.settle()
    assert emulated.process_ids("disconnect") == []


@pytest.mark.parametrize("handler", ["fail", "nothing"])
async def test_connect_that_fails_is_a_bad_gateway(emulating: Emulating, handler: str) -> None:
    emulated = await emulating(connect=f"room:{handler}")
    with pytest.raises(InvalidStatus) as refused:
        await connect(emulated.url).__aenter__()
    assert refused.value.response.status_code == 502


async def test_another_path_is_forbidden(emulating: Emulating) -> None:
    emulated = await emulating(default="room:seen", stage="prod")
    with pytest.raises(InvalidStatus) as refused:
        await connect(emulated.url.replace("/prod", "/dev")).__aenter__()
    assert refused.value.response.status_code == 403


async def test_a_subprotocol_is_the_function_s_choice(emulating: Emulating) -> None:
    emulated = await emulating(connect="room:welcome")
    async with connect(emulated.url, subprotocols=["chat.v1", "chat.v2"]) as ws:  # type: ignore[list-item]
        assert ws.subprotocol == "chat.v2"


async def test_a_subprotocol_is_not_echoed_by_itself(emulating: Emulating) -> None:
    emulated = await emulating(connect="room:seen")
    async with connect(emulated.url, subprotocols=["chat.v1"]) as ws:  # type: ignore[list-item]
        assert ws.subprotocol is None


async def test_compression_is_not_accepted(emulating: Emulating) -> None:
    emulated = await emulating()
    async with connect(emulated.url, compression="deflate") as ws:
        assert ws.response.headers.get("Sec-WebSocket-Extensions") is None


# Sizes


async def test_frames_and_messages_up_to_the_limits_get_through(
    emulating: Emulating, printed: Printed
) -> None:
    emulated = await emulating(default="room:seen")
    async with connect(emulated.url) as ws:
        await ws.send("x" * 32_768)
        assert len((await printed.event("default"))["body"]) == 32_768
        await ws.send(["y" * 32_768] * 4)
        assert len((await printed.event("default", 1))["body"]) == 131_072


@pytest.mark.parametrize(
    "message", ["x" * 32_769, ["x" * 32_768] * 4 + ["x"]], ids=["frame", "message"]
)
async def test_what_is_larger_closes_with_1009(
    emulating: Emulating, printed: Printed, message: str | list[str]
) -> None:
    emulated = await emulating(default="room:seen", disconnect="room:seen")
    async with connect(emulated.url) as ws:
        with suppress(ConnectionClosed):  # which may come before all is sent
            await ws.send(message)
        assert (await closed(ws)).rcvd.code == 1009  # type: ignore[union-attr]
    gone = await printed.event("disconnect")
    assert gone["requestContext"]["disconnectStatusCode"] == 1009
    assert printed.of("default") == []


async def test_a_binary_frame_closes_with_1003(emulating: Emulating, printed: Printed) -> None:
    emulated = await emulating(default="room:seen", disconnect="room:seen")
    async with connect(emulated.url) as ws:
        await ws.send(b"\x00")
        assert (await closed(ws)).rcvd.code == 1003  # type: ignore[union-attr]
    gone = await printed.event("disconnect")
    assert gone["requestContext"]["disconnectStatusCode"] == 1003
    assert printed.of("default") == []


async def test_a_binary_frame_is_base64_where_it_is_asked_for(
    emulating: Emulating, printed: Printed
) -> None:
    emulated = await emulating(default="room:seen", binary_frames=True)
    async with connect(emulated.url) as ws:
        await ws.send(b"\x00\xff")
        event = await printed.event("default")
    assert (event["body"], event["isBase64Encoded"]) == ("AP8=", True)


# Clocks


async def test_a_function_that_takes_too_long_is_told_of_and_runs_on(
    emulating: Emulating, printed: Printed, tmp_path: Path
) -> None:
    emulated = await emulating(
        default="room:wait_for_file",
        environment={"FOLDER": str(tmp_path)},
        limits=Limits(integration_s=0.3),
    )
    async with connect(emulated.url) as ws:
        await ws.send("x")
        told = await hear(ws)
        assert told["message"] == "Endpoint request timed out"
        await printed.wait("default", 2)
        assert any("timed out; the function runs on" in line for line in printed.of("default"))
        (tmp_path / "go").touch()
        await until((tmp_path / "went").exists)
        await emulated.settle()


async def test_an_idle_connection_is_closed(emulating: Emulating, printed: Printed) -> None:
    emulated = await emulating(disconnect="room:seen", limits=Limits(idle_s=0.3))
    async with connect(emulated.url) as ws:
        assert (await closed(ws)).rcvd.code == 1001  # type: ignore[union-attr]
    context = (await printed.event("disconnect"))["requestContext"]
    assert (context["disconnectStatusCode"], context["disconnectReason"]) == (1001, "Going away")


async def test_messages_keep_a_connection_until_its_lifetime_ends(emulating: Emulating) -> None:
    emulated = await emulating(limits=Limits(idle_s=0.8, lifetime_s=1.6))
    loop = asyncio.get_running_loop()
    async with connect(emulated.url) as ws:
        opened = loop.time()
        with suppress(ConnectionClosed):
            while True:
                await ws.send("x")  # is answered Forbidden
                await asyncio.wait_for(ws.recv(), WAIT_S)
                await asyncio.sleep(0.02)
        assert loop.time() - opened > 1.2
        assert ws.close_code == 1001


# Ends


@pytest.mark.parametrize(
    ("end", "code", "reason"),
    [
        (lambda ws: ws.close(4001, "enough"), 4001, "enough"),
        (lambda ws: ws.close(1000, ""), 1000, ""),
        (lambda ws: abort(ws), 1006, "Connection closed abnormally"),
    ],
    ids=["code", "normal", "cut"],
)
async def test_disconnect_says_how_the_client_ended_it(
    emulating: Emulating, printed: Printed, end: Any, code: int, reason: str
) -> None:
    emulated = await emulating(disconnect="room:seen")
    async with connect(emulated.url) as ws:
        await end(ws)
        context = (await printed.event("disconnect"))["requestContext"]
    assert (context["disconnectStatusCode"], context["disconnectReason"]) == (code, reason)


async def abort(ws: Any) -> None:
    ws.transport.abort()


async def test_a_close_frame_without_status_is_1005(emulating: Emulating, printed: Printed) -> None:
    emulated = await emulating(disconnect="room:seen")
    async with connect(emulated.url) as ws:
        ws.transport.write(b"\x88\x80\x00\x00\x00\x00")  # no payload, masked
        context = (await printed.event("disconnect"))["requestContext"]
    assert context["disconnectStatusCode"] == 1005
    assert context["disconnectReason"] == "Client-side close frame status not set"


async def test_disconnect_is_invoked_at_the_end_of_the_emulator(printed: Printed) -> None:
    async with emulator(disconnect="room:seen", root=HANDLERS, output=printed) as emulated:
        async with connect(emulated.url):
            pass
        await printed.event("disconnect")
        ws = await connect(emulated.url)
    assert (await printed.event("disconnect", 1))["requestContext"]["disconnectStatusCode"] == 1001
    await ws.close()


# Other loops


def test_it_runs_on_uvloop(printed: Printed) -> None:
    async def talk() -> Any:
        async with (
            emulator(
                default="room:upper",
                responses=frozenset({"$default"}),
                root=HANDLERS,
                output=printed,
            ) as emulated,
            connect(emulated.url) as ws,
        ):
            await ws.send("x")
            return await asyncio.wait_for(ws.recv(), WAIT_S)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(talk()) == "X"


# Chaos


async def test_disconnect_can_be_lost(emulating: Emulating, printed: Printed) -> None:
    emulated = await emulating(disconnect="room:seen")
    emulated.chaos.order(Fault.DROP_DISCONNECT)
    for _ in range(2):
        async with connect(emulated.url):
            pass
    await printed.event("disconnect")
    await emulated.settle()
    assert len(printed.of("disconnect")) == 1


async def test_a_message_can_come_twice(emulating: Emulating, printed: Printed) -> None:
    emulated = await emulating(default="room:seen")
    emulated.chaos.order(Fault.DUPLICATE_MESSAGE)
    async with connect(emulated.url) as ws:
        await ws.send("x")
        first, second = await printed.event("default"), await printed.event("default", 1)
    assert first["body"] == second["body"] == "x"


async def test_a_throttled_function_is_an_internal_server_error(emulating: Emulating) -> None:
    emulated = await emulating(default="room:seen")
    emulated.chaos.order(Fault.THROTTLE, target="default")
    async with connect(emulated.url) as ws:
        await ws.send("x")
        assert (await hear(ws))["message"] == "Internal server error"


# What does not fit together


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"default": "room:seen", "responses": frozenset({"else"})}, "no route 'else'"),
        ({"route_selection": "action"}, "route selection"),
    ],
)
def test_a_deployment_that_does_not_fit_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(DeploymentError, match=said):
        emulator(**options)

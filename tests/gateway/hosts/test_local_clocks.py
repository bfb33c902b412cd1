"""Ending sockets and requests whose time is over; ending servers."""

import asyncio
import gc
import socket as socket_module
import struct
from pathlib import Path

import pytest

from gateway.hosts.local.limits import HostLimits
from gateway.identity.verifier import TokenVerifier
from tests.gateway.hosts.client import Client, text_of
from tests.gateway.hosts.local_host import Clock, LocalHost, local_host
from tests.gateway.hosts.puppet import Puppet, reply
from tests.gateway.hosts.raw_http import line_to, request


async def test_a_silent_socket_is_closed(folder: Path) -> None:
    limits = HostLimits(idle_s=0.1, sweep_s=0.01)
    async with local_host(folder, limits=limits) as host, host.client() as client:
        assert (await client.closed())[0] == 4408


async def test_a_socket_that_pings_stays_open(folder: Path) -> None:
    limits = HostLimits(idle_s=0.3, sweep_s=0.01)
    async with local_host(folder, limits=limits) as host, host.client() as client:
        for _ in range(5):
            await asyncio.sleep(0.1)  # within the limit each, beyond it together
            await client.say("ping")
            await client.hear("pong")
        assert (await client.closed())[0] == 4408


async def test_a_socket_that_only_listens_is_silent(folder: Path, puppet: Puppet) -> None:
    puppet.says(*["word "] * 3, asyncio.Event())
    limits = HostLimits(idle_s=0.5, sweep_s=0.01)
    async with local_host(folder, model=puppet, limits=limits) as host, host.client() as client:
        await client.send("Hi")
        assert (await client.closed())[0] == 4408


def grow_older(host: LocalHost, seconds: float) -> None:
    """Have all sockets been opened so much earlier."""
    for socket in host.sockets:
        socket.opened_at -= seconds


async def test_a_socket_is_told_before_its_lifetime_is_over(folder: Path) -> None:
    limits = HostLimits(lifetime_s=1000, goaway_s=60, sweep_s=0.01)
    async with local_host(folder, limits=limits) as host, host.client() as client:
        grow_older(host, 941)
        told = await client.hear("goaway")
        assert told["reason"] == "max_age"
        assert told["deadline"] == client.ready["connection_expires_at"]
        assert (await client.ask("sessions"))["type"] == "page", "it may still be used"
        grow_older(host, 60)
        assert (await client.closed())[0] == 1001
        assert [frame["type"] for frame in client.frames].count("goaway") == 1


async def test_a_short_life_is_not_warned_of_from_its_start(folder: Path) -> None:
    limits = HostLimits(lifetime_s=40, goaway_s=60, sweep_s=0.01)
    async with local_host(folder, limits=limits) as host, host.client() as client:
        grow_older(host, 34)
        await asyncio.sleep(0.05)  # the clocks are looked at
        assert (await client.ask("sessions"))["type"] == "page"
        assert "goaway" not in [frame["type"] for frame in client.frames]
        grow_older(host, 1)
        assert (await client.hear("goaway"))["reason"] == "max_age"


async def test_a_clock_that_is_put_forward_closes_no_socket(folder: Path) -> None:
    clock = Clock()
    limits = HostLimits(lifetime_s=1000, identify_s=500, sweep_s=0.01)
    async with (
        local_host(folder, limits=limits, clock=clock) as host,
        host.client() as client,
        host.client(subprotocols=["makoto.v1"], origin=host.origin, hello=False) as unidentified,
    ):
        clock.advance(1001)
        await asyncio.sleep(0.05)  # the clocks are looked at
        assert (await client.ask("sessions"))["type"] == "page"
        assert "goaway" not in [frame["type"] for frame in client.frames]
        await unidentified.say("hello", token=host.token())
        await unidentified.hear("ready")


async def test_a_clock_that_is_put_back_keeps_no_socket(folder: Path) -> None:
    clock = Clock()
    limits = HostLimits(lifetime_s=1000, identify_s=500, sweep_s=0.01)
    async with (
        local_host(folder, limits=limits, clock=clock) as host,
        host.client() as client,
        host.client(subprotocols=["makoto.v1"], origin=host.origin, hello=False) as unidentified,
    ):
        clock.advance(-10_000)
        grow_older(host, 500)
        assert (await unidentified.closed())[0] == 4401
        grow_older(host, 500)
        assert (await client.closed())[0] == 1001


async def stalled(host: LocalHost, client: Client) -> None:
    """Have the client read nothing until the host's side of the socket is full."""
    client.ws.transport.pause_reading()
    (socket,) = host.sockets
    async with asyncio.timeout(5):
        while not socket.ws.paused:
            await asyncio.sleep(0.01)


async def sockets_gone(host: LocalHost) -> None:
    async with asyncio.timeout(5):
        while len(host.sockets) or any(
            "Upgrades.handler" in repr(task.get_coro()) for task in asyncio.all_tasks()
        ):
            await asyncio.sleep(0.01)


async def test_a_client_that_reads_nothing_is_cut_off_when_its_time_is_over_and_may_resume(
    folder: Path, puppet: Puppet
) -> None:
    puppet.says(*reply(*["x" * 8000] * 2000))
    limits = HostLimits(idle_s=1.5, sweep_s=0.01, close_s=0.1)
    async with local_host(folder, model=puppet, limits=limits) as host:
        async with host.client() as client:
            run_id = (await client.send("Hi"))["run_id"]
            await stalled(host, client)
            await sockets_gone(host)
            client.ws.transport.abort()
        async with host.client() as client:
            await client.say("resume", run_id=run_id, after=0)
            await client.hear("resumed")
            pinging = asyncio.create_task(keep_open(client))
            assert len(text_of(await client.events(run_id))) == 8000 * 2000
            pinging.cancel()


async def keep_open(client: Client) -> None:
    while True:
        await client.say("ping")
        await asyncio.sleep(0.2)


async def test_a_client_that_never_answers_the_close_is_cut_off(folder: Path) -> None:
    limits = HostLimits(idle_s=0.1, sweep_s=0.01, close_s=0.1)
    async with local_host(folder, limits=limits) as host, line_to(host.port) as line:
        await line.say(request(headers={"Authorization": f"Bearer {host.token()}"}))
        await line.head()
        assert (await line.read(4))[2:] == (4408).to_bytes(2, "big")
        await line.ended()
        await sockets_gone(host)


@pytest.mark.parametrize(
    "begun",
    [b"", b"GET / HTTP/1.1\r\nHost: ", b"GET", b"GET /v1/ws HTTP/1.1\r\nUpgrade: websocket\r\n"],
    ids=["nothing", "half-a-head", "a-word", "half-an-upgrade"],
)
async def test_a_request_head_must_arrive_in_time(folder: Path, begun: bytes) -> None:
    async with (
        local_host(folder, limits=HostLimits(head_s=0.1)) as host,
        line_to(host.port) as line,
    ):
        await line.say(begun)
        await line.ended()


async def test_a_head_that_drips_in_is_dropped(folder: Path) -> None:
    async with (
        local_host(folder, limits=HostLimits(head_s=0.3)) as host,
        line_to(host.port) as line,
    ):
        await line.say(b"GET / HTTP/1.1\r\n")
        assert await line.is_cut_off(b"X-Drip: x\r\n", times=200, pause_s=0.02)


async def test_a_second_head_must_arrive_in_time_too(folder: Path) -> None:
    async with (
        local_host(folder, limits=HostLimits(head_s=0.2)) as host,
        line_to(host.port) as line,
    ):
        for _ in range(2):
            await line.say(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            head = await line.head()
            assert head.status == 200
            await line.body(head)
        await line.say(b"GET /healthz HTTP/1.1\r\nHost:")
        await line.ended()


async def test_a_body_that_nobody_waits_for_keeps_no_connection_open(folder: Path) -> None:
    async with (
        local_host(folder, limits=HostLimits(head_s=0.2)) as host,
        line_to(host.port) as line,
    ):
        await line.say(b"POST /v1/tickets HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
        head = await line.head()
        assert await line.error_code(head) == "auth.required"
        await line.say(b"x")
        await line.ended()


async def test_a_head_without_end_is_refused(host: LocalHost) -> None:
    async with line_to(host.port) as line:
        await line.say(b"GET / HTTP/1.1\r\n")
        assert await line.is_cut_off(b"X-Long: %b\r\n" % (b"x" * 4096), times=4096)


async def test_a_socket_outlives_the_deadline_of_its_head(folder: Path) -> None:
    async with local_host(folder, limits=HostLimits(head_s=0.1)) as host, host.client() as client:
        await asyncio.sleep(0.3)  # the deadline passes
        assert (await client.ask("sessions"))["type"] == "page"


async def test_a_handshake_must_be_answered_in_time(folder: Path) -> None:
    async def never(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    async with local_host(folder, limits=HostLimits(handshake_s=0.1)) as host:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(TokenVerifier, "identify", never)
            async with line_to(host.port) as line:
                await line.say(request(headers={"Authorization": "Bearer x"}))
                await line.ended()
        async with host.client():
            pass


async def test_a_client_that_breaks_off_while_it_is_told_leaves_no_trace(
    folder: Path, puppet: Puppet, caplog: pytest.LogCaptureFixture
) -> None:
    puppet.says(*["x" * 8000] * 1500, asyncio.Event())
    limits = HostLimits(lifetime_s=1000, sweep_s=0.01)
    async with (
        local_host(folder, model=puppet, limits=limits) as host,
        host.client() as client,
    ):
        await client.send("Hi")
        await stalled(host, client)
        grow_older(host, 950)
        (socket,) = host.sockets
        async with asyncio.timeout(5):
            while not socket.told_to_go:
                await asyncio.sleep(0.01)
        linger = struct.pack("ii", 1, 0)  # send a reset instead of an end
        raw = client.ws.transport.get_extra_info("socket")
        raw.setsockopt(socket_module.SOL_SOCKET, socket_module.SO_LINGER, linger)
        client.ws.transport.abort()
        await sockets_gone(host)
        gc.collect()
    assert not [record for record in caplog.records if record.levelname == "ERROR"]

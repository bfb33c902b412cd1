"""A client that reads slowly, or not at all, costs itself alone."""

import asyncio
import gc
from pathlib import Path
from socket import SO_RCVBUF, SO_SNDBUF, SOL_SOCKET

import pytest
from websockets.protocol import State

from gateway.hosts.local import run_tasks
from gateway.hosts.local.limits import HostLimits
from gateway.hosts.local.sockets import OpenSocket
from gateway.runs import followers
from gateway.runs.feed import Feed
from gateway.runs.followers import BACKLOG_BYTES
from tests.gateway.hosts.client import Client, text_of
from tests.gateway.hosts.local_host import LocalHost, local_host
from tests.gateway.hosts.puppet import Puppet, reply
from tests.gateway.hosts.raw_http import line_to, request

BACKLOG = HostLimits().backlog_bytes
FRAME = 10_240

LONG = [f"{n:07} {'x' * 8000}" for n in range(1500)]
"""12 MB: more than all buffers between the two ends hold."""


def other_end(host: LocalHost, client: Client) -> OpenSocket:
    return next(
        socket
        for socket in host.sockets
        if socket.connection.connection_id == client.ready["connection_id"]
    )


def narrow(socket: OpenSocket, client: Client) -> None:
    """Have the system hold little between the two ends, so that a few answers fill what it holds."""
    for end in (socket.ws, client.ws):
        for side in (SO_RCVBUF, SO_SNDBUF):
            end.transport.get_extra_info("socket").setsockopt(SOL_SOCKET, side, 16_384)


async def full(socket: OpenSocket) -> None:
    async with asyncio.timeout(5):
        while not socket.ws.paused:
            await asyncio.sleep(0.005)


async def test_a_stalled_reader_delays_neither_the_model_nor_another_reader(
    host: LocalHost, puppet: Puppet
) -> None:
    gate = asyncio.Event()
    puppet.says(*reply("Once ", gate, *LONG))
    async with host.client() as stalled, host.client() as other:
        run_id = (await stalled.send("Hi"))["run_id"]
        await other.say("resume", run_id=run_id, after=0)
        await other.hear("resumed")
        stalled.ws.transport.pause_reading()
        gate.set()
        heard = await other.events(run_id)
        assert text_of(heard) == "Once " + "".join(LONG)
        socket = other_end(host, stalled)
        assert socket.ws.paused, "it has not read"
        assert socket.ws.transport.get_write_buffer_size() <= BACKLOG + FRAME
        stalled.ws.transport.resume_reading()
        assert await stalled.events(run_id) == heard, "it lost nothing"


async def test_a_stalled_reader_of_many_runs_costs_no_more_than_a_frame_for_each(
    host: LocalHost, puppet: Puppet
) -> None:
    gate = asyncio.Event()
    puppet.says(*reply("Once ", gate, *LONG[:300]))
    async with host.client() as stalled, host.client() as other:
        runs = [(await stalled.send(f"{n}"))["run_id"] for n in range(8)]
        for run_id in runs:
            await other.say("resume", run_id=run_id, after=0)
            await other.hear("resumed")
        stalled.ws.transport.pause_reading()
        gate.set()
        for run_id in runs:
            await other.events(run_id)
        socket = other_end(host, stalled)
        assert socket.ws.transport.get_write_buffer_size() <= BACKLOG + len(runs) * FRAME
        stalled.ws.transport.resume_reading()
        for run_id in runs:
            assert len(await stalled.events(run_id)) == 300 + 7


async def test_a_stalled_follower_of_a_session_holds_no_answer_after_answer(
    host: LocalHost, puppet: Puppet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followers, "STALLED_S", 0.001)
    puppet.says(*reply(*LONG[:40]))
    async with host.client() as stalled, host.client() as other:
        session_id = (await other.exchange("Hi"))[0]["session_id"]
        await stalled.say("subscribe", session_id=session_id)
        await stalled.hear("subscribed")
        narrow(socket := other_end(host, stalled), stalled)
        stalled.ws.transport.pause_reading()
        runs = []
        async with asyncio.timeout(60):
            while socket.ws.protocol.state is State.OPEN:
                runs.append((await other.exchange("More", session_id=session_id))[0]["run_id"])
        assert BACKLOG_BYTES < len(runs) * 40 * 8_000 < 3 * BACKLOG_BYTES
        assert not [feed for feed in feeds() if feed.follows(socket.connection.connection_id)]
        stalled.ws.transport.abort()
    async with host.client() as again:
        await again.say("resume", run_id=runs[0], after=0)
        await again.hear("resumed")
        assert text_of(await again.events(runs[0])) == "".join(LONG[:40])


async def test_who_comes_back_to_many_answers_at_once_may_read_them_all(
    host: LocalHost, puppet: Puppet
) -> None:
    puppet.says(*reply(*LONG[:50]))
    async with host.client() as before:
        runs = [(await before.exchange(f"{n}"))[0]["run_id"] for n in range(8)]
    async with host.client() as reading:
        narrow(other_end(host, reading), reading)
        for run_id in runs:
            await reading.say("resume", run_id=run_id, after=0)
        for run_id in runs:
            await reading.hear("resumed", run_id=run_id)
        for run_id in runs:
            assert text_of(await reading.events(run_id)) == "".join(LONG[:50])


async def test_a_replay_waits_for_its_reader(host: LocalHost, puppet: Puppet) -> None:
    puppet.says(*reply(*LONG))
    async with host.client() as stalled:
        run_id = (await stalled.exchange("Hi"))[0]["run_id"]
        stalled.ws.transport.pause_reading()
        await stalled.say("resume", run_id=run_id, after=0)
        socket = other_end(host, stalled)
        await full(socket)
        assert socket.ws.transport.get_write_buffer_size() <= BACKLOG + FRAME
        stalled.ws.transport.resume_reading()
        await stalled.hear("resumed")
        assert text_of(await stalled.events(run_id)) == "".join(LONG)


async def test_a_stalled_client_can_ask_for_no_more_than_it_reads(
    host: LocalHost, puppet: Puppet
) -> None:
    puppet.says(*reply("x" * 7000))
    async with host.client() as client:
        session_id = (await client.exchange("Hi"))[0]["session_id"]
        socket = other_end(host, client)
        narrow(socket, client)
        client.ws.transport.pause_reading()
        asking = asyncio.create_task(ask_for_ever(client, session_id))
        try:
            await full(socket)
            async with asyncio.timeout(5):
                while not client.ws.paused:  # what it asks is not read either
                    await asyncio.sleep(0.005)
            assert socket.ws.transport.get_write_buffer_size() <= BACKLOG + FRAME
        finally:
            asking.cancel()
            client.ws.transport.abort()


async def test_a_client_that_pings_and_reads_nothing_is_cut_off(host: LocalHost) -> None:
    pings = bytes([0x89, 0x80 | 125, 0, 0, 0, 0]) + bytes(125)
    async with line_to(host.port) as line:
        await line.say(request(headers={"Authorization": f"Bearer {host.token()}"}))
        await line.head()
        line.writer.transport.pause_reading()
        (socket,) = host.sockets
        assert await line.is_cut_off(pings * 1000, times=500)
        assert socket.ws.transport.get_write_buffer_size() == 0


async def ask_for_ever(client: Client, session_id: str) -> None:
    while True:
        await client.say("history", id="h", session_id=session_id, padding="x" * 30_000)
        await asyncio.sleep(0)


async def test_a_stalled_reader_that_is_gone_leaves_nothing(folder: Path, puppet: Puppet) -> None:
    gate = asyncio.Event()
    puppet.says(*reply(*LONG, gate))
    async with local_host(folder, model=puppet) as host:
        async with host.client() as client:
            run_id = (await client.send("Hi"))["run_id"]
            client.ws.transport.pause_reading()
            await full(other_end(host, client))
            client.ws.transport.abort()
        async with asyncio.timeout(5):
            while len(host.sockets):
                await asyncio.sleep(0.005)
        gate.set()
        async with host.client() as client:
            await client.say("resume", run_id=run_id, after=0)
            await client.hear("resumed")
            assert text_of(await client.events(run_id)) == "".join(LONG)


async def test_an_idle_connection_holds_nothing_of_the_answers_it_was_given(
    host: LocalHost, puppet: Puppet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_tasks, "LINGER_S", 0.05)
    puppet.says(*reply(*LONG[:50]))
    async with host.client() as client, host.client() as other:
        run_id = (await client.exchange("Hi"))[0]["run_id"]
        await other.say("resume", run_id=run_id, after=0)
        await other.hear("resumed")
        await other.events(run_id)
        async with asyncio.timeout(30):  # each look at all objects takes a second late in a run
            while feeds_of(run_id):
                await asyncio.sleep(0.02)
        await other.say("resume", run_id=run_id, after=0)
        await other.hear("resumed")
        await other.events(run_id)
        await other.ask("sessions")
        assert not feeds_of(run_id)


def feeds_of(run_id: str) -> list[Feed]:
    return [feed for feed in feeds() if feed.run_id == run_id]


def feeds() -> list[Feed]:
    gc.collect()
    return [thing for thing in gc.get_objects() if isinstance(thing, Feed)]

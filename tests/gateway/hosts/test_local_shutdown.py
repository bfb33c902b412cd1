"""The end of a host: nothing new, what is under way finishes or is interrupted, all of it bounded."""

import asyncio
import time
from pathlib import Path

import orjson
import pytest

from tests.gateway.hosts.client import Client, Frame, text_of
from tests.gateway.hosts.local_host import LocalHost, local_host
from tests.gateway.hosts.puppet import Puppet, reply
from tests.gateway.hosts.raw_http import Line, line_to, request


async def begin(client: Client, puppet: Puppet, *end: str) -> tuple[Frame, asyncio.Event]:
    """Have an answer that ends when the event is set; return its `accepted`."""
    gate = asyncio.Event()
    puppet.says(*reply("Once ", gate, *(end or ("more",))))
    accepted = await client.send("Hi")
    await client.events(accepted["run_id"], until="content.delta")
    return accepted, gate


async def kept_alive(line: Line) -> None:
    """Leave the connection open for a next request."""
    await line.say(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    head = await line.head()
    assert orjson.loads(await line.body(head)) == {"status": "ok"}


async def test_an_answer_under_way_finishes_and_clients_are_told(
    folder: Path, puppet: Puppet
) -> None:
    async with (
        local_host(folder, model=puppet, shutdown_s=10) as host,
        host.client() as client,
    ):
        run, gate = await begin(client, puppet)
        before = host.clock()
        host.stop.set()
        told = await client.hear("goaway")
        assert told["reason"] == "deploy"
        assert told["deadline"] == pytest.approx((before + 10) * 1000, abs=1000)
        gate.set()
        events = await client.events(run["run_id"], after=2)
        assert text_of(events) == "more"
        assert (events[-1]["reason"], events[-1]["saved"]) == ("stop", True)
        assert await client.closed() == (1012, "restart")
        await asyncio.wait_for(host.ended, 5)


async def test_new_work_is_turned_away_while_answers_finish(folder: Path, puppet: Puppet) -> None:
    async with (
        local_host(folder, model=puppet, shutdown_s=10) as host,
        host.client() as client,
        line_to(host.port) as upgrading,
        line_to(host.port) as asking,
    ):
        _, gate = await begin(client, puppet)
        for line in (upgrading, asking):
            await kept_alive(line)
        host.stop.set()
        await client.hear("goaway")
        await upgrading.say(request(headers={"Authorization": f"Bearer {host.token()}"}))
        refused = await upgrading.head()
        assert refused.status == 503
        assert await upgrading.error_code(refused) == "maintenance"
        await asking.say(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        draining = await asking.head()
        assert draining.status == 503
        assert orjson.loads(await asking.body(draining)) == {"status": "draining"}
        with pytest.raises(OSError, match="Connect call failed"):
            async with line_to(host.port):
                pass
        gate.set()


async def test_an_answer_that_takes_too_long_is_interrupted_and_kept(
    folder: Path, puppet: Puppet
) -> None:
    async with (
        local_host(folder, model=puppet, shutdown_s=0.1) as host,
        host.client() as client,
    ):
        run, _ = await begin(client, puppet)
        began = time.monotonic()
        host.stop.set()
        events = await client.events(run["run_id"], after=2)
        assert (events[-1]["reason"], events[-1]["saved"]) == ("interrupted", True)
        await client.closed()
        await asyncio.wait_for(host.ended, 5)
        assert time.monotonic() - began < 8
    async with local_host(folder, model=puppet) as host, host.client() as client:
        await client.say("resume", run_id=run["run_id"], after=2)
        await client.hear("resumed")
        assert await client.events(run["run_id"], after=2) == events
        _, answer = await client.history(run["session_id"])
        assert (answer["content"], answer["end"]) == ("Once ", "interrupted")


async def test_what_is_accepted_while_answers_finish_is_answered_by_the_next_process(
    folder: Path, puppet: Puppet
) -> None:
    async with (
        local_host(folder, model=puppet, shutdown_s=10) as host,
        host.client() as client,
    ):
        run, gate = await begin(client, puppet)
        queued = await client.send("queued", session_id=run["session_id"], if_busy="queue")
        host.stop.set()
        await client.hear("goaway")
        late = await client.send("late")
        gate.set()
        await client.closed()
    puppet.says(*reply("Hello"))
    async with local_host(folder, model=puppet) as host, host.client() as client:
        for accepted in (queued, late):
            await client.say("resume", run_id=accepted["run_id"], after=0)
            await client.hear("resumed")
            assert text_of(await client.events(accepted["run_id"])) == "Hello"
    said = [request.messages[-1].content for request in puppet.requests]
    assert sorted(said) == ["Hi", "late", "queued"]


async def test_a_client_that_reads_nothing_does_not_hold_up_the_end(
    folder: Path, puppet: Puppet
) -> None:
    puppet.says(*reply(*["x" * 8000] * 1500))
    async with local_host(folder, model=puppet) as host, host.client() as client:
        await client.send("Hi")
        client.ws.transport.pause_reading()
        await puppet.idle()
        began = time.monotonic()
        host.stop.set()
        await asyncio.wait_for(host.ended, 15)
        client.ws.transport.abort()
        assert time.monotonic() - began < 10


async def test_a_request_without_end_does_not_hold_up_the_end(host: LocalHost) -> None:
    async with line_to(host.port) as line:
        await line.say(b"POST /v1/tickets HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
        await line.head()
        await line.say(b"GET / HT")
        host.stop.set()
        await asyncio.wait_for(host.ended, 8)


async def test_the_folder_is_free_at_the_end(folder: Path, puppet: Puppet) -> None:
    for _ in range(3):
        async with local_host(folder, model=puppet) as host, host.client() as client:
            await client.exchange("Hi")
    assert not [path for path in (folder / "journal").iterdir() if path.stat().st_size]

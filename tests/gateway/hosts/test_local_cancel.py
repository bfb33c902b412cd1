"""Stopping answers, and everything that must not stop them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from gateway.account.account import Account
from gateway.app import Gateway
from gateway.hosts.local.inbox import LONG_S
from gateway.hosts.local.limits import HostLimits
from gateway.identity.admission import Admission
from gateway.wire.events import DoneReason
from storage.sqlite.runs import SqliteRuns
from tests.gateway.hosts.client import Client, Frame, text_of
from tests.gateway.hosts.local_host import LocalHost, local_host
from tests.gateway.hosts.puppet import Puppet, reply


async def begin(client: Client, puppet: Puppet, content: str = "first") -> Frame:
    """Have an answer that does not end by itself; return its `accepted`."""
    puppet.says_to(content, "Once ", asyncio.Event())
    accepted = await client.send(content)
    await client.events(accepted["run_id"], until="content.delta")
    return accepted


async def end_of(client: Client, run: Frame, *, after: int = 2) -> tuple[DoneReason, bool]:
    done = (await client.events(run["run_id"], after=after))[-1]
    return done["reason"], done["saved"]


@pytest.mark.parametrize("by", ["run_id", "id"])
async def test_cancel_stops_the_model_and_keeps_what_was_said(
    host: LocalHost, puppet: Puppet, by: str
) -> None:
    async with host.client() as client:
        run = await begin(client, puppet)
        await client.say("cancel", **{by: run[by]})
        *_, usage, done = await client.events(run["run_id"], after=2)
        await puppet.idle()
        _, answer = await client.history(run["session_id"])
    assert (done["reason"], done["saved"]) == ("cancelled", True)
    assert usage["estimated"] is True
    assert (answer["content"], answer["end"]) == ("Once ", "cancelled")


async def test_cancel_works_from_another_connection(host: LocalHost, puppet: Puppet) -> None:
    async with host.client() as client, host.client() as other:
        run = await begin(client, puppet)
        await other.say("cancel", run_id=run["run_id"])
        assert await end_of(client, run) == ("cancelled", True)


async def test_cancel_that_overtakes_its_send_spares_the_model(
    host: LocalHost, puppet: Puppet
) -> None:
    async with host.client() as client, host.client() as other:
        await other.say("cancel", id="c1")
        await other.ask("sessions")  # by now the cancel is done
        accepted, events = await client.exchange("Hi", id="c1")
        assert [event["type"] for event in events] == ["started", "done"]
        assert (events[-1]["reason"], events[-1]["saved"]) == ("cancelled", True)
        assert [item["content"] for item in await client.history(accepted["session_id"])] == ["Hi"]
        _, again = await client.exchange("Again", session_id=accepted["session_id"])
        assert again[-1]["reason"] == "stop"
    assert [request.messages[-1].content for request in puppet.requests] == ["Again"]


async def test_an_overtaking_cancel_is_known_after_a_restart(folder: Path, puppet: Puppet) -> None:
    async with local_host(folder, model=puppet) as host, host.client() as client:
        await client.say("cancel", id="c1")
        await client.ask("sessions")
    async with local_host(folder, model=puppet) as host, host.client() as client:
        _, events = await client.exchange("Hi", id="c1")
    assert events[-1]["reason"] == "cancelled"
    assert puppet.requests == []


async def test_cancel_takes_a_waiting_message_out_of_its_turn(
    host: LocalHost, puppet: Puppet
) -> None:
    async with host.client() as client:
        first = await begin(client, puppet)
        queue = {"session_id": first["session_id"], "if_busy": "queue"}
        second, third = [await client.send(text, **queue) for text in ("second", "third")]
        await client.say("cancel", run_id=second["run_id"])
        assert await end_of(client, second, after=0) == ("cancelled", True)
        await client.say("cancel", run_id=first["run_id"])
        assert await end_of(client, third, after=0) == ("stop", True)
    assert [request.messages[-1].content for request in puppet.requests] == ["first", "third"]


@pytest.mark.parametrize("by", ["run_id", "id"])
async def test_cancel_of_an_ended_run_changes_nothing(
    host: LocalHost, puppet: Puppet, by: str
) -> None:
    async with host.client() as client:
        run, events = await client.exchange("Hi")
        heard = len(client.frames)
        await client.say("cancel", **{by: run[by]})
        await client.ask("sessions")
        assert len(client.frames) == heard + 1
        await client.say("resume", run_id=run["run_id"], after=0)
        await client.hear("resumed")
        assert await client.events(run["run_id"]) == events
        _, again = await client.exchange("Again", session_id=run["session_id"])
        assert again[-1]["reason"] == "stop"


async def test_cancelling_twice_ends_once(host: LocalHost, puppet: Puppet) -> None:
    async with host.client() as client, host.client() as other:
        run = await begin(client, puppet)
        for each in (client, other, client):
            await each.say("cancel", run_id=run["run_id"])
        assert await end_of(client, run) == ("cancelled", True)
        await client.ask("sessions")
        assert [frame["type"] for frame in client.frames].count("error") == 0


async def test_a_run_that_does_not_exist_cannot_be_cancelled(host: LocalHost) -> None:
    async with host.client() as client:
        await client.say("cancel", run_id="nothing")
        told = await client.hear("error")
        assert (told["code"], told["run_id"]) == ("not_found", "nothing")


async def test_somebody_elses_send_id_cancels_nothing(host: LocalHost, puppet: Puppet) -> None:
    gate = asyncio.Event()
    puppet.says(*reply("Once ", gate, "more"))
    async with host.client("aiko") as client, host.client("hana") as other:
        run = await client.send("Hi", id="c1")
        await other.say("cancel", id="c1")
        await other.ask("sessions")
        gate.set()
        assert (await client.events(run["run_id"]))[-1]["reason"] == "stop"


async def test_disconnecting_never_cancels(host: LocalHost, puppet: Puppet) -> None:
    gate = asyncio.Event()
    puppet.says(*reply("Once ", gate, "more"))
    async with host.client() as client:
        run = await client.send("Hi")
        await client.events(run["run_id"], until="content.delta")
        client.ws.transport.abort()
        async with asyncio.timeout(5):
            while len(host.sockets):
                await asyncio.sleep(0.01)
    gate.set()
    async with host.client() as client:
        await client.say("resume", run_id=run["run_id"], after=0)
        await client.hear("resumed")
        assert text_of(await client.events(run["run_id"])) == "Once more"
        assert (await client.history(run["session_id"]))[-1]["content"] == "Once more"


@pytest.mark.parametrize("read", [False, True], ids=["nobody reads it", "another reads it"])
async def test_an_unread_answer_is_ended_if_that_is_set(
    folder: Path, puppet: Puppet, read: bool
) -> None:
    unread_run_s = 0.3
    gate = asyncio.Event()
    puppet.says(*reply("Once ", gate, "more"))
    async with (
        local_host(
            folder, model=puppet, limits=HostLimits(sweep_s=0.02), unread_run_s=unread_run_s
        ) as host,
        host.client() as other,
    ):
        async with host.client() as client:
            run = await client.send("Hi")
            await client.events(run["run_id"], until="content.delta")
            if read:
                await other.say("resume", run_id=run["run_id"], after=0)
                await other.hear("resumed")
        if read:
            await asyncio.sleep(2 * unread_run_s)
            gate.set()
        await puppet.idle()
        if not read:
            await other.say("resume", run_id=run["run_id"], after=0)
            await other.hear("resumed")
        events = await other.events(run["run_id"])
        assert text_of(events) == ("Once more" if read else "Once ")
        assert events[-1]["reason"] == ("stop" if read else "interrupted")
        assert events[-1]["saved"]
        assert events[-2]["type"] == "usage"
        (_, answer) = await other.history(run["session_id"])
        assert (answer["content"], answer["end"]) == (text_of(events), events[-1]["reason"])


async def test_a_message_accepted_after_a_cancel_of_everything_runs(
    host: LocalHost, puppet: Puppet
) -> None:
    async with host.client() as client:
        run = await begin(client, puppet)
        await client.say("cancel", run_id=run["run_id"])
        accepted = await client.send("next", session_id=run["session_id"], if_busy="queue")
        assert text_of(await client.events(accepted["run_id"])) == "Hello"


# Before what came earlier


async def test_cancel_waits_for_no_answer_that_a_slow_client_does_not_take(
    host: LocalHost, puppet: Puppet
) -> None:
    puppet.says(*["x" * 8000] * 1500, asyncio.Event())  # more than all buffers hold
    async with host.client() as client:
        run = await client.send("Hi")
        client.ws.transport.pause_reading()
        (socket,) = host.sockets
        async with asyncio.timeout(5):
            while not socket.ws.paused:
                await asyncio.sleep(0.01)
        await client.say("ping")
        await client.say("cancel", run_id=run["run_id"])
        async with asyncio.timeout(1):
            await puppet.idle()
        client.ws.transport.abort()


@asynccontextmanager
async def hung(whose: type, name: str) -> AsyncIterator[asyncio.Event]:
    """Have a method hang until the event is set, at the latest at the end."""
    method, goes_on = getattr(whose, name), asyncio.Event()

    async def hang(*given: Any, **named: Any) -> Any:
        await goes_on.wait()
        return await method(*given, **named)

    with patch.object(whose, name, hang):
        try:
            yield goes_on
        finally:
            goes_on.set()


async def test_cancels_wait_neither_for_a_disk_nor_for_each_other(
    host: LocalHost, puppet: Puppet
) -> None:
    async with host.client() as client:
        runs = [await begin(client, puppet, name) for name in ("one", "two", "three")]
        async with hung(Account, "answer"), hung(SqliteRuns, "cancel"):
            await client.say("sessions", id="s")
            for run in runs:
                await client.say("cancel", run_id=run["run_id"])
            async with asyncio.timeout(1):
                await puppet.idle()
        for run in runs:
            assert await end_of(client, run) == ("cancelled", True)
        await client.hear("page", id="s")


async def test_all_but_cancel_keeps_its_order_behind_a_command_that_hangs(
    host: LocalHost,
) -> None:
    async with host.client() as client:
        async with hung(Account, "answer"):
            await client.say("sessions", id="s")
            for n in range(30):
                await client.say("ping", t=n)
            await client.say("auth", id="a", token=host.token())
            await asyncio.sleep(2 * LONG_S)  # what comes too early comes now
            assert [frame["type"] for frame in client.frames] == ["ready"]
        await client.hear(id="a")
    answers = client.frames[1:]
    assert [frame.get("t", frame["type"]) for frame in answers] == ["page", *range(30), "notice"]


async def test_cancel_before_there_is_an_identity_waits_for_it(
    host: LocalHost, puppet: Puppet
) -> None:
    late = {"subprotocols": ["makoto.v1"], "origin": host.origin, "hello": False}
    async with host.client() as client, host.client(**late) as other:
        run = await begin(client, puppet)
        async with hung(Admission, "identify"):
            await other.say("hello", token=host.token())
            await other.say("cancel", run_id=run["run_id"])
            await asyncio.sleep(0.05)
            assert other.frames == []
        assert await end_of(client, run) == ("cancelled", True)
        await other.hear("ready")


@pytest.mark.parametrize("politely", [True, False], ids=["closes", "breaks off"])
async def test_what_came_before_a_client_left_is_carried_out(
    host: LocalHost, puppet: Puppet, politely: bool
) -> None:
    async with host.client() as client:
        accepted, _ = await client.exchange("Hi")
        session_id = accepted["session_id"]
        async with hung(Account, "answer"):
            await client.say("history", id="h", session_id=session_id)
            await client.say("session", id="t", session_id=session_id, title="Left")
            await client.say("send", id="last", session_id=session_id, content="Bye")
            await asyncio.sleep(0.05)  # what was sent is there
            if politely:
                await client.ws.close()
            else:
                client.ws.transport.abort()
            assert len(puppet.requests) == 1
        await puppet.asked(2)
    async with host.client() as client:
        assert (await client.ask("sessions"))["items"][0]["title"] == "Left"


async def test_a_fault_of_ours_in_a_command_ends_its_socket(
    host: LocalHost, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    async with host.client() as client:
        with patch.object(Gateway, "message", broken):
            await client.say("ping")
            await client.closed()
    assert [record.message for record in caplog.records if record.exc_info] == ["socket broke"]

"""Stopping answers, and everything that must not stop them."""

import asyncio
from pathlib import Path

import pytest

from gateway.hosts.local.limits import HostLimits
from gateway.wire.events import DoneReason
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

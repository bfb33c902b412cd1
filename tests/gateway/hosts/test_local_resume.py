"""Following a run from anywhere in it: what was seen is seen again, and nothing twice."""

import asyncio
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest

from gateway.hosts.local.limits import HostLimits
from storage import ttl
from storage.sqlite.segments import Segments
from tests.gateway.hosts.client import Client, Frame, text_of
from tests.gateway.hosts.local_host import Clock, LocalHost, local_host
from tests.gateway.hosts.puppet import Puppet, reply


async def resume(client: Client, run_id: str, *, after: int) -> Frame:
    await client.say("resume", run_id=run_id, after=after)
    return await client.hear("resumed")


async def begin(client: Client, puppet: Puppet) -> tuple[Frame, asyncio.Event]:
    """Have an answer that ends when the event is set; return its `accepted`."""
    gate = asyncio.Event()
    puppet.says(*reply("One, ", "two, ", gate, "three"))
    accepted = await client.send("Hi")
    await client.events(accepted["run_id"], until="content.delta")
    return accepted, gate


@pytest.mark.parametrize("after", [0, 1, 4, 9])
async def test_an_ended_run_is_replayed_from_anywhere(
    host: LocalHost, puppet: Puppet, after: int
) -> None:
    puppet.says(*reply("One, ", "two", memory="counts"))
    async with host.client() as client:
        run, events = await client.exchange("Hi")
    async with host.client() as client:
        resumed = await resume(client, run["run_id"], after=after)
        assert resumed == {
            "type": "resumed",
            "run_id": run["run_id"],
            "state": "ended",
            "last_seq": 9,
        }
        if after < 9:
            assert await client.events(run["run_id"], after=after) == events[after:]
        await client.ask("sessions")
        assert len(client.frames) == (4 if after < 9 else 3), "nothing more was posted"


async def test_an_ended_run_is_replayed_after_a_restart(folder: Path, puppet: Puppet) -> None:
    puppet.says(*reply("一つ、", "二つ"))
    async with local_host(folder, model=puppet) as host, host.client() as client:
        run, events = await client.exchange("Hi")
    async with local_host(folder, model=puppet) as host, host.client() as client:
        assert (await resume(client, run["run_id"], after=0))["last_seq"] == len(events)
        assert await client.events(run["run_id"]) == events
        await resume(client, run["run_id"], after=3)
        assert await client.events(run["run_id"], after=3) == events[3:]


async def test_a_live_run_is_replayed_and_followed(host: LocalHost, puppet: Puppet) -> None:
    async with host.client() as client, host.client() as other:
        run, gate = await begin(client, puppet)
        await client.hear("events", first_seq=3)
        resumed = await resume(other, run["run_id"], after=1)
        assert (resumed["state"], resumed["last_seq"]) == ("running", 3)
        begun = [await other.hear("events", run_id=run["run_id"])]
        assert (begun[0]["first_seq"], begun[0]["last_seq"]) == (2, 3)
        gate.set()
        events = await other.events(run["run_id"], after=3)
    assert text_of(begun[0]["events"] + events) == "One, two, three"


async def test_all_readers_of_a_run_get_the_same_events(host: LocalHost, puppet: Puppet) -> None:
    async with host.client() as client, host.client() as other:
        run, gate = await begin(client, puppet)
        await resume(other, run["run_id"], after=0)
        gate.set()
        theirs = await other.events(run["run_id"])
        mine = await client.events(run["run_id"], after=2)
    assert theirs[2:] == mine


async def test_a_resume_beyond_the_end_is_harmless(host: LocalHost, puppet: Puppet) -> None:
    async with host.client() as client:
        run, gate = await begin(client, puppet)
        await client.hear("events", first_seq=3)
        assert (await resume(client, run["run_id"], after=10**9))["last_seq"] == 3
        gate.set()
        events = await client.events(run["run_id"], after=3)
        assert events[-1]["type"] == "done"
        assert (await resume(client, run["run_id"], after=10**9))["state"] == "ended"
        await client.ask("sessions")
        assert client.frames[-1]["type"] == "page"
        assert client.frames[-2]["type"] == "resumed"


async def test_two_resumes_are_harmless(host: LocalHost, puppet: Puppet) -> None:
    async with host.client() as client:
        run, gate = await begin(client, puppet)
        await client.hear("events", first_seq=3)
        for after in (0, 2):
            await client.say("resume", run_id=run["run_id"], after=after)
        for first in (1, 3):
            await client.hear("resumed")
            replayed = await client.hear("events")
            assert (replayed["first_seq"], replayed["last_seq"]) == (first, 3)
        gate.set()
        assert (await client.events(run["run_id"], after=3))[-1]["type"] == "done"


async def test_a_waiting_run_can_be_followed(host: LocalHost, puppet: Puppet) -> None:
    async with host.client() as client, host.client() as other:
        run, gate = await begin(client, puppet)
        waiting = await client.send("b", session_id=run["session_id"], if_busy="queue")
        assert await resume(other, waiting["run_id"], after=0) == {
            "type": "resumed",
            "run_id": waiting["run_id"],
            "state": "queued",
            "last_seq": 0,
        }
        gate.set()
        assert (await other.events(waiting["run_id"]))[-1]["reason"] == "stop"


async def test_what_waited_at_a_restart_is_answered(folder: Path, puppet: Puppet) -> None:
    async with local_host(folder, model=puppet) as host, host.client() as client:
        run, _ = await begin(client, puppet)
        waiting = await client.send("b", session_id=run["session_id"], if_busy="queue")
    puppet.says(*reply("Hello"))
    async with local_host(folder, model=puppet) as host, host.client() as client:
        await resume(client, waiting["run_id"], after=0)
        assert text_of(await client.events(waiting["run_id"])) == "Hello"
        contents = [item["content"] for item in await client.history(run["session_id"])]
        assert contents == ["Hi", "One, two, ", "b", "Hello"]


@pytest.mark.parametrize("run_id", ["unknown", "{foreign}"])
async def test_a_run_of_nobody_or_somebody_else_is_not_found(host: LocalHost, run_id: str) -> None:
    async with host.client("aiko") as owner, host.client("hana") as other:
        run, _ = await owner.exchange("Hi")
        named = run_id.format(foreign=run["run_id"])
        await other.say("resume", run_id=named, after=0)
        told = await other.hear("error")
        assert (told["code"], told["run_id"]) == ("not_found", named)


async def test_an_expired_log_brings_the_stored_message_instead(
    folder: Path, puppet: Puppet
) -> None:
    clock = Clock()
    limits = HostLimits(sweep_s=60)
    puppet.says(*reply("One, two", emotion="sad"))
    async with (
        local_host(folder, model=puppet, limits=limits, clock=clock) as host,
        host.client() as client,
    ):
        run, events = await client.exchange("Hi")
    clock.advance(ttl.LOG + 1)
    async with (
        local_host(folder, model=puppet, limits=limits, clock=clock) as host,
        host.client() as client,
    ):
        await client.say("resume", run_id=run["run_id"], after=3)
        told = await client.hear("error")
        assert (told["code"], told["run_id"]) == ("not_resumable", run["run_id"])
        assert told["retryable"] is False
        assert told["stored"] == (await client.history(run["session_id"]))[1]
        assert told["stored"]["message_id"] == events[-1]["message_id"]
        duplicate = await client.send("Hi", id=run["id"])
        assert duplicate["duplicate"] is True, "the key outlives the log"
        await client.ask("sessions")


async def test_an_expired_log_of_a_run_without_a_word_brings_nothing(
    folder: Path, puppet: Puppet
) -> None:
    clock = Clock()
    async with local_host(folder, model=puppet, clock=clock) as host, host.client() as client:
        await client.say("cancel", id="c1")
        run, _ = await client.exchange("Hi", id="c1")
    clock.advance(ttl.LOG + 1)
    async with local_host(folder, model=puppet, clock=clock) as host, host.client() as client:
        await client.say("resume", run_id=run["run_id"], after=0)
        told = await client.hear("error")
        assert told["code"] == "not_resumable"
        assert "stored" not in told


# Log before post


@contextmanager
def full_disk() -> Iterator[None]:
    """Refuse every write of the journal, as a full disk does."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with patch.object(Segments, "write", refuse):
        yield


async def test_nothing_is_posted_that_the_log_refused(host: LocalHost, puppet: Puppet) -> None:
    async with host.client() as client:
        run, gate = await begin(client, puppet)
        await client.hear("events", first_seq=3)
        with full_disk():
            gate.set()
            await puppet.idle()
            await client.ask("sessions")
            assert client.frames[-1]["type"] == "page"
            assert client.frames[-2]["last_seq"] == 3
        events = await client.events(run["run_id"], after=3)
        assert text_of(events) == "three"
        assert events[-1]["saved"] is True
        assert not [frame for frame in client.frames if "volatile" in frame]
        await resume(client, run["run_id"], after=3)
        assert await client.events(run["run_id"], after=3) == events


async def test_a_log_that_refuses_for_two_seconds_makes_the_run_volatile(
    folder: Path, puppet: Puppet
) -> None:
    async with local_host(folder, model=puppet) as host, host.client() as client:
        run, gate = await begin(client, puppet)
        await client.hear("events", first_seq=3)
        with full_disk():
            gate.set()
            events = await client.events(run["run_id"], after=3)
        volatile = [frame.get("volatile", False) for frame in client.frames if "first_seq" in frame]
        assert text_of(events) == "three", "the answer is shown all the same"
        assert (events[-1]["reason"], events[-1]["saved"]) == ("stop", False)
        assert volatile[0] is False
        assert volatile[-1] is True
        _, kept = await client.history(run["session_id"])
        assert kept["content"] == "One, two, three"
        _, again = await client.exchange("More", session_id=run["session_id"])
        assert again[-1]["saved"] is True, "the next run is logged again"
    async with local_host(folder, model=puppet) as host, host.client() as client:
        await client.say("resume", run_id=run["run_id"], after=0)
        told = await client.hear("error")
        assert told["code"] == "not_resumable"
        assert told["stored"]["content"] == "One, two, three"

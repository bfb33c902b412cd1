"""Who is speaking on an open connection, and for how long."""

import asyncio
from pathlib import Path

import pytest

from gateway.hosts.local.limits import HostLimits
from tests.gateway.hosts.local_host import Clock, LocalHost, local_host
from tests.gateway.hosts.puppet import Puppet

GRACE_S = 60


def milliseconds(seconds: float) -> float:
    return seconds * 1000


async def test_ready_says_who_one_is_and_what_one_may(host: LocalHost, clock: Clock) -> None:
    before = clock()
    async with host.client("hana") as client:
        after = clock()
    ready = client.ready
    assert ready | {"connection_id": ""} == {
        "type": "ready",
        "connection_id": "",
        "connection_expires_at": ready["connection_expires_at"],
        "user_id": "hana",
        "tenant_id": "default",
        "tier": "standard",
        "limits": {
            "command_bytes": 32_768,
            "content_bytes": 262_144,
            "live_runs": 8,
            "queued_per_session": 4,
        },
        "auth_expires_at": ready["auth_expires_at"],
        "heartbeat_ms": 25_000,
        "server_time": ready["server_time"],
        "runs": [],
    }
    times = {"server_time": 0, "auth_expires_at": 3600, "connection_expires_at": 7200}
    for name, ahead in times.items():
        assert milliseconds(before + ahead - 1) <= ready[name] <= milliseconds(after + ahead)


async def test_hello_may_be_said_again(host: LocalHost) -> None:
    async with host.client() as client:
        await client.say("hello", token=host.token(ttl_s=7200))
        again = await client.hear("ready")
        assert again["connection_id"] == client.ready["connection_id"]
        assert again["auth_expires_at"] > client.ready["auth_expires_at"]


async def test_ready_names_the_answers_under_way(host: LocalHost, puppet: Puppet) -> None:
    puppet.says("Once", asyncio.Event())
    async with host.client() as client:
        running = await client.send("a")
        await client.events(running["run_id"], until="content.delta")
        waiting = await client.send("b", session_id=running["session_id"], if_busy="queue")
    async with host.client() as client:
        assert client.ready["runs"] == [
            {
                "run_id": running["run_id"],
                "session_id": running["session_id"],
                "last_seq": 2,
                "state": "running",
            },
            {
                "run_id": waiting["run_id"],
                "session_id": running["session_id"],
                "last_seq": 0,
                "state": "queued",
            },
        ]
    async with host.client("hana") as client:
        assert client.ready["runs"] == []


async def test_auth_renews_in_place(host: LocalHost, clock: Clock) -> None:
    async with host.client() as client:
        clock.advance(1000)
        renewed = await client.ask("auth", token=host.token())
        assert (renewed["type"], renewed["kind"]) == ("notice", "auth.renewed")
        assert renewed["auth_expires_at"] == pytest.approx(
            client.ready["auth_expires_at"] + milliseconds(1000), abs=2000
        )
        clock.advance(3000)  # beyond the first token, within the second
        assert (await client.ask("sessions"))["type"] == "page"


@pytest.mark.parametrize("kind", ["auth", "hello"])
async def test_another_persons_token_does_not_change_who_is_speaking(
    host: LocalHost, kind: str
) -> None:
    async with host.client("aiko") as client:
        await client.say(kind, id="a", token=host.token("hana"))
        assert (await client.hear("error"))["code"] == "auth.invalid"
        await client.say("hello")
        assert (await client.hear("ready"))["user_id"] == "aiko"


@pytest.mark.parametrize(
    ("token", "code"),
    [("garbage", "auth.invalid"), ("", "bad_request"), ("expired", "auth.expired")],
)
async def test_a_renewal_that_fails_leaves_the_old_identity(
    host: LocalHost, token: str, code: str
) -> None:
    if token == "expired":
        token = host.token(ttl_s=1, ago_s=100)
    async with host.client() as client:
        assert (await client.ask("auth", token=token))["code"] == code
        assert (await client.ask("sessions"))["type"] == "page"


async def test_an_identity_is_served_for_a_grace_beyond_its_expiry(folder: Path) -> None:
    clock = Clock()
    limits = HostLimits(sweep_s=30)
    async with (
        local_host(folder, model=Puppet(), limits=limits, clock=clock) as host,
        host.client() as client,
    ):
        clock.advance(3600 + GRACE_S - 5)
        assert (await client.ask("sessions"))["type"] == "page"
        clock.advance(10)
        assert (await client.ask("sessions"))["code"] == "auth.expired"
        await client.say("hello")
        assert (await client.hear("error"))["code"] == "auth.expired"
        assert (await client.ask("auth", token=host.token()))["type"] == "notice"
        assert (await client.ask("sessions"))["type"] == "page"


async def test_past_the_grace_the_connection_is_told_and_closed(folder: Path) -> None:
    clock = Clock()
    limits = HostLimits(sweep_s=0.01)
    async with (
        local_host(folder, model=Puppet(), limits=limits, clock=clock) as host,
        host.client() as client,
    ):
        clock.advance(3600 + GRACE_S)
        told = await client.hear("error")
        assert (told["code"], told["fatal"]) == ("auth.expired", True)
        assert (await client.closed())[0] == 4401


async def test_an_answer_goes_on_when_its_readers_identity_ends(
    folder: Path, puppet: Puppet
) -> None:
    clock, gate = Clock(), asyncio.Event()
    puppet.says("Once ", gate, "upon a time")
    limits = HostLimits(sweep_s=0.01)
    async with local_host(folder, model=puppet, limits=limits, clock=clock) as host:
        async with host.client() as client:
            run_id = (await client.send("a"))["run_id"]
            await client.events(run_id, until="content.delta")
            clock.advance(3600 + GRACE_S)
            assert (await client.closed())[0] == 4401
        gate.set()
        async with host.client() as client:
            await client.say("resume", run_id=run_id, after=0)
            await client.hear("resumed")
            assert (await client.events(run_id))[-1]["reason"] == "stop"


@pytest.mark.parametrize("t", [0, 81_250, -1.5, 2**53, 1e300])
async def test_pong_gives_back_what_ping_brought(host: LocalHost, clock: Clock, t: float) -> None:
    async with host.client() as client:
        await client.say("ping", t=t)
        pong = await client.hear("pong")
        assert pong["t"] == t
        assert pong["server_time"] == pytest.approx(milliseconds(clock()), abs=2000)


async def test_ping_needs_no_number(host: LocalHost) -> None:
    async with host.client() as client:
        await client.say("ping")
        assert "t" not in await client.hear("pong")

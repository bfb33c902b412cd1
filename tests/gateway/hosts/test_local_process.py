"""The server as a process: signals, kills, and what it logs."""

import asyncio
import resource
import signal
import time
from pathlib import Path

import pytest

from tests.gateway.hosts.client import Client, Frame, text_of
from tests.gateway.hosts.host_process import host_process

SLOW = "slow long"
"""What makes the scripted model take a minute."""


@pytest.fixture
def folder(folder_with_key: Path) -> Path:
    return folder_with_key


async def some_of(client: Client, run: Frame) -> list[Frame]:
    """Return the first events of a run, a few pieces of text among them."""
    events: list[Frame] = []
    while len(events) < 5:
        frame = await client.hear("events", run_id=run["run_id"])
        assert frame["first_seq"] == len(events) + 1
        events += frame["events"]
    return events


async def test_what_was_shown_survives_a_kill_and_the_answer_is_interrupted_once(
    folder: Path,
) -> None:
    async with host_process(folder) as host, host.client() as client:
        run = await client.send(SLOW, id="c1")
        queued = await client.send("Hi", session_id=run["session_id"], if_busy="queue")
        shown = await some_of(client, run)
        host.signal(signal.SIGKILL)
        await host.ended()
    async with host_process(folder) as host, host.client() as client:
        assert run["run_id"] not in {live["run_id"] for live in client.ready["runs"]}
        await client.say("resume", run_id=run["run_id"], after=0)
        assert (await client.hear("resumed"))["state"] == "ended"
        events = await client.events(run["run_id"])
        assert events[: len(shown)] == shown
        done = events[-1]
        assert (done["reason"], done["saved"]) == ("interrupted", True)
        again = await client.send(SLOW, id="c1")
        assert again == run | {"duplicate": True}
        await client.events(run["run_id"])
        await client.say("resume", run_id=queued["run_id"], after=0)
        await client.hear("resumed")
        assert (await client.events(queued["run_id"]))[-1]["reason"] == "stop"
        history = await client.history(run["session_id"])
        assert [item["role"] for item in history] == ["user", "assistant"] * 2
        assert (history[1]["content"], history[1]["end"]) == (text_of(events), "interrupted")
        host.signal(signal.SIGKILL)
        await host.ended()
    async with host_process(folder) as host, host.client() as client:
        assert await client.history(run["session_id"]) == history, "it was ended once"


async def test_sigterm_lets_an_answer_finish_and_exits_0(folder: Path) -> None:
    async with host_process(folder) as host, host.client() as client:
        run = await client.send("Hi")
        await client.events(run["run_id"], until="started")
        host.signal(signal.SIGTERM)
        assert (await client.hear("goaway"))["reason"] == "deploy"
        events = await client.events(run["run_id"], after=1)
        assert (events[-1]["reason"], events[-1]["saved"]) == ("stop", True)
        assert (await client.closed())[0] == 1012
        assert await host.ended() == 0
        assert "trace" not in await host.logged()


async def test_sigterm_interrupts_an_answer_that_takes_too_long(folder: Path) -> None:
    async with host_process(folder, MAKOTO_SHUTDOWN_S="0.2") as host, host.client() as client:
        run = await client.send(SLOW)
        shown = await some_of(client, run)
        host.signal(signal.SIGTERM)
        events = await client.events(run["run_id"], after=len(shown))
        assert (events[-1]["reason"], events[-1]["saved"]) == ("interrupted", True)
        assert await host.ended() == 0
        assert "trace" not in await host.logged()


async def test_a_second_signal_exits_at_once(folder: Path) -> None:
    async with host_process(folder) as host, host.client() as client:
        run = await client.send(SLOW)
        await some_of(client, run)
        host.signal(signal.SIGTERM)
        await client.hear("goaway")
        began = time.monotonic()
        host.signal(signal.SIGTERM)
        assert await host.ended() == 128 + signal.SIGTERM
        assert time.monotonic() - began < 5


async def test_the_log_of_a_whole_life_is_json_and_keeps_secrets(folder: Path) -> None:
    async with host_process(folder, MAKOTO_LOG_LEVEL="debug", MAKOTO_SCRIPTED_PACE="0") as host:
        token = host.issuer.mint("aiko", ttl_s=3600, now=time.time())
        async with host.client(headers={"Authorization": f"Bearer {token}"}) as client:
            await client.exchange("remember my private matter. echo private words")
            await client.exchange("large private words")
            await client.ask("auth", token=token)
            await client.ws.send("private nonsense")
            await client.ask("sessions")
            await client.ask("upload", bytes=1, sha256="0" * 64)
        async with (
            asyncio.timeout(5),
            host.client(
                headers={}, subprotocols=["makoto.v1", f"bearer.{token}"], origin=host.url[:-1]
            ),
        ):
            pass
        host.signal(signal.SIGTERM)
        assert await host.ended() == 0
        logged = await host.logged()
    assert '"message":"run ended"' in logged
    assert "private" not in logged
    assert token.split(".")[2] not in logged
    assert "sig=" not in logged
    assert '"trace"' not in logged


async def test_it_takes_all_the_descriptors_that_it_may(folder: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowered = min(hard, 512)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowered, hard))
    try:
        async with host_process(folder) as host:
            limits = Path(f"/proc/{host.pid}/limits").read_text()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    (line,) = [line for line in limits.splitlines() if line.startswith("Max open files")]
    assert line.split()[3] == line.split()[4] == f"{hard}"

"""The real server while its database or its disk fails: what people get, how soon, and that it passes."""

import asyncio
import resource
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from storage.sqlite.store import DATABASE
from tests.gateway.hosts.client import Client, Frame, text_of
from tests.gateway.hosts.host_process import HostProcess, host_process

Fault = Callable[[int, Path], AbstractContextManager[None]]
"""Breaks the server with that process id and that data folder."""

WITHIN_S = 5.0
"""What is promised of an error, and of the end of an answer that cannot be kept."""

UNBLOCKED_S = 0.7
"""The longest that a loop which nobody blocks keeps a ping waiting on a busy machine; the shortest wait for
the database that could block it is several seconds."""

TEXT = "Whatever becomes of the disk, the person who asked shall read this to its end."


@contextmanager
def locked(pid: int, folder: Path) -> Iterator[None]:
    """Hold the write lock of the database, as a backup or a curious administrator does."""
    with closing(sqlite3.connect(folder / DATABASE, isolation_level=None, timeout=5.0)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@contextmanager
def full_disk(pid: int, folder: Path) -> Iterator[None]:
    """Let no file of the server grow or be written at all."""
    limits = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)


@dataclass(slots=True)
class Pulse:
    """The longest round trip of a ping, in seconds, and how many there were."""

    longest: float = 0.0
    count: int = 0


@asynccontextmanager
async def pulse(client: Client) -> AsyncIterator[Pulse]:
    """Ping over and over while the block runs."""
    seen = Pulse()

    async def beat() -> None:
        while True:
            sent = time.monotonic()
            await client.say("ping")
            await client.hear("pong")
            seen.longest = max(seen.longest, time.monotonic() - sent)
            seen.count += 1
            await asyncio.sleep(0.01)

    beating = asyncio.create_task(beat())
    try:
        yield seen
    finally:
        beating.cancel()
        await asyncio.wait({beating})
    assert beating.cancelled() or beating.result() is None


@pytest.fixture
def folder(folder_with_key: Path) -> Path:
    return folder_with_key


async def in_time(client: Client, kind: str, **fields: str) -> Frame:
    """Ask, and hold the answer to the promised time."""
    asked = time.monotonic()
    answer = await client.ask(kind, **fields)
    assert time.monotonic() - asked <= WITHIN_S
    return answer


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[HostProcess]:
    async with host_process(folder, MAKOTO_SCRIPTED_PACE="60", MAKOTO_LOG_LEVEL="error") as host:
        yield host


@pytest.mark.parametrize("fault", [locked, full_disk])
async def test_an_answer_is_shown_others_are_told_and_all_goes_on_without_a_restart(
    folder: Path, fault: Fault
) -> None:
    async with (
        serving(folder) as host,
        host.client() as client,
        host.client("beni") as other,
        host.client("chie") as third,
    ):
        run = await client.send(f"echo {TEXT}")
        begun = await client.events(run["run_id"], until="content.delta")
        async with pulse(third) as pings:
            with fault(host.pid, folder):
                asking = asyncio.create_task(in_time(other, "send", id="s1", content="echo Hello"))
                events = begun + await client.events(run["run_id"], after=len(begun))
                refused = await asking
                reading = await in_time(other, "sessions")
        assert text_of(events) == TEXT, "the answer is shown"
        assert (events[-1]["reason"], events[-1]["saved"]) == ("stop", False)
        assert (refused["code"], refused["retryable"]) == ("storage.unavailable", True)
        assert (reading["type"], reading["items"]) == ("page", []), "nothing half done"
        assert pings.count > 20
        assert pings.longest < UNBLOCKED_S

        accepted, answered = await other.exchange("echo Hello", id="s1")
        assert "duplicate" not in accepted
        assert (text_of(answered), answered[-1]["saved"]) == ("Hello", True)
        async with asyncio.timeout(10):
            while len(await client.history(run["session_id"])) < 2:
                await asyncio.sleep(0.05)
        kept = await client.history(run["session_id"])
        assert [(item["role"], item["content"]) for item in kept][1:] == [("assistant", TEXT)]
        _, more = await client.exchange("echo More", session_id=run["session_id"])
        assert more[-1]["saved"] is True, "its session is free again"

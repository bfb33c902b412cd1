"""Many clients that send, repeat, cancel, resume and break off at random, while the disk fails.

Whatever the order in which things happen: a run's events never change and have no gap, every run ends
once, no message is stored or asked twice, and no session stays busy.
"""

import asyncio
import contextlib
import errno
import os
import random
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from websockets.exceptions import ConnectionClosed

from storage.errors import StorageUnavailableError
from storage.sqlite.segments import Segments
from storage.sqlite.threads import Writer
from streaming.models.chat_model import ModelRequest
from streaming.parts import FieldDelta, Part
from tests.gateway.hosts.client import Client, Frame
from tests.gateway.hosts.local_host import LocalHost, local_host
from tests.gateway.hosts.puppet import Puppet, reply

STORM_S = 0.6
STORM_S_MAX = 20.0
RUNS = 11
CLIENTS = 6
USERS = ("aiko", "hana")


class Moody(Puppet):
    """Answers with anything from nothing to 100 KB, in its own time; the largest pieces are spilled."""

    async def stream(self, request: ModelRequest) -> AsyncGenerator[list[Part], None]:
        mood = random.Random(request.messages[-1].content)
        self.requests.append(request)
        for _ in range(mood.randrange(10)):
            await asyncio.sleep(mood.choice([0, 0, 0.02]))
            yield [FieldDelta("content", mood.choice("aあ😀") * mood.choice([1, 30, 300, 3000]))]
        for step in reply():
            assert isinstance(step, list)
            yield step


class Storm:
    """What one storm has seen so far.

    Attributes:
        seen: events by number, of each run.
        volatile: runs of which something was shown that may be in no log.
        sends: commands by id, for repeating them.
        runs: owner and session of each run that was accepted.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.seen: defaultdict[str, dict[int, Frame]] = defaultdict(dict)
        self.volatile: set[str] = set()
        self.sends: dict[str, tuple[str, Frame]] = {}
        self.runs: dict[str, tuple[str, str]] = {}

    async def rage(self, host: LocalHost, user: str) -> None:
        """Connect, do some things, break off; again and again."""
        while True:
            with contextlib.suppress(ConnectionClosed, ConnectionError, TimeoutError):
                async with host.client(user) as client:
                    hearing = asyncio.create_task(self._hear(client, user))
                    try:
                        for _ in range(self.random.randrange(1, 12)):
                            kind, fields = self._next(user)
                            await client.say(kind, **fields)
                            await asyncio.sleep(self.random.random() * 0.05)
                    finally:
                        client.ws.transport.abort()
                        await asyncio.wait({hearing})

    def _next(self, user: str) -> tuple[str, Frame]:
        mine = [send for whose, send in self.sends.values() if whose == user]
        runs = [run for run, (whose, _) in self.runs.items() if whose == user]
        sessions = [session for whose, session in self.runs.values() if whose == user]
        match self.random.randrange(8) if runs else 0:
            case 0 | 1 | 2 | 3:
                send: Frame = {"id": f"{user}-{len(self.sends)}"}
                send["content"] = send["id"]
                send["if_busy"] = self.random.choice(["reject", "queue", "cancel"])
                if sessions and self.random.random() < 0.9:
                    send["session_id"] = self.random.choice(sessions)
                self.sends[send["id"]] = (user, send)
                return "send", send
            case 4:
                return "send", self.random.choice(mine)
            case 5:
                return "cancel", {"id": self.random.choice(mine)["id"]}
            case _:
                after = self.random.choice([0, 1, 5, 100])
                return "resume", {"run_id": self.random.choice(runs), "after": after}

    async def _hear(self, client: Client, user: str) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self.note(client, await client.next(), user)

    async def note(self, client: Client, frame: Frame, user: str) -> None:
        match frame["type"]:
            case "accepted":
                self.runs[frame["run_id"]] = (user, frame["session_id"])
            case "payload":
                with contextlib.suppress(OSError, AssertionError):  # the host may be gone
                    await self.note(client, await client.fetch(frame), user)
            case "events":
                if frame.get("volatile"):
                    self.volatile.add(frame["run_id"])
                seen = self.seen[frame["run_id"]]
                for number, event in enumerate(frame["events"], frame["first_seq"]):
                    assert seen.setdefault(number, event) == event
            case "error":
                assert frame["code"] != "internal"


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with patch.object(Segments, "write", refuse):
        yield


@contextlib.contextmanager
def locked_database() -> Iterator[None]:
    async def refuse(*_: object, **__: object) -> None:
        raise StorageUnavailableError("locked")

    with patch.object(Writer, "call", refuse):
        yield


async def fail_at_times(storm: Storm) -> None:
    while True:
        await asyncio.sleep(storm.random.random() * 0.2)
        with storm.random.choice([full_disk, locked_database])():
            await asyncio.sleep(storm.random.random() * 0.2)


async def rage_on(storm: Storm, raging: list[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
    """Wait for a while, longer on a slow machine; return the tasks that have ended: none if all is well."""
    loop = asyncio.get_running_loop()
    enough, until = len(storm.runs) + RUNS, loop.time() + STORM_S_MAX
    done, _ = await asyncio.wait(raging, timeout=STORM_S)
    while not done and len(storm.runs) < enough and loop.time() < until:
        done, _ = await asyncio.wait(raging, timeout=0.1)
    return done


@pytest.mark.parametrize("failing", [False, True], ids=["healthy", "failing"])
async def test_a_storm_loses_and_doubles_nothing(folder: Path, failing: bool) -> None:
    storm, model = Storm(seed=7), Moody()
    for _ in range(2):
        async with local_host(folder, model=model, live_runs=64, user_commands=10_000) as host:
            raging = [
                asyncio.create_task(storm.rage(host, USERS[number % len(USERS)]))
                for number in range(CLIENTS)
            ]
            if failing:
                raging.append(asyncio.create_task(fail_at_times(storm)))
            done = await rage_on(storm, raging)
            for task in raging:
                task.cancel()
            await asyncio.wait(raging)
            for task in done:
                task.result()
    async with local_host(folder, model=model, live_runs=64, user_commands=10_000) as host:
        for user in USERS:
            async with host.client(user) as client:
                await all_quiet(client)
                await check(storm, client, user)
    asked = Counter(request.messages[-1].content for request in model.requests)
    assert asked.most_common(1)[0][1] == 1
    assert len(storm.runs) >= 2 * RUNS, "the storm was none"


async def all_quiet(client: Client) -> None:
    """Wait until nothing is queued or running."""
    async with asyncio.timeout(20):
        runs = client.ready["runs"]
        while runs:
            await asyncio.sleep(0.05)
            await client.say("hello")
            runs = (await client.hear("ready"))["runs"]


async def check(storm: Storm, client: Client, user: str) -> None:
    mine = {run: session for run, (whose, session) in storm.runs.items() if whose == user}
    for run in mine:
        await client.say("resume", run_id=run, after=0)
        answer = await client.hear(run_id=run)
        if answer["type"] == "payload":
            answer = await client.fetch(answer)
        if answer["type"] == "error":
            assert answer["code"] == "not_resumable"
            continue  # its log or its end could not be written
        assert answer["state"] == "ended"
        events = await client.events(run)
        if run not in storm.volatile:
            seen = storm.seen[run]
            assert {number: events[number - 1] for number in seen} == seen
    for session in set(mine.values()):
        questions = [item for item in await client.history(session) if item["role"] == "user"]
        assert len({item["content"] for item in questions}) == len(questions)
        _, events = await client.exchange(f"last {session}", session_id=session)
        assert events[-1]["saved"] is True

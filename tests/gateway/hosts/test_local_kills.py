"""kill -9 at any moment of a real server, over and over: its people lose nothing and see nothing twice."""

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from websockets.exceptions import ConnectionClosed

from gateway.bootstrap.local import KEY_FILE, LOCAL_AUDIENCE, LOCAL_ISSUER
from gateway.identity.local_issuer import LocalIssuer
from gateway.identity.local_key import load_or_create_key
from tests.gateway.hosts.client import Client, Frame, connect, text_of
from tests.gateway.hosts.host_process import environment

KILLS = 14
TURNS = 3
"""New ones for each server."""

LONGEST_S = 0.15
"""A server lives so long at most once it is connected to; an answer takes about half of it."""

WITHIN_S = 20.0
ROOT = Path(__file__).parents[3]
NURSERY = Path(__file__).with_name("nursery.py")
SETTINGS = {
    "PYTHONPATH": str(ROOT),
    "MAKOTO_SCRIPTED_PACE": "400",
    "MAKOTO_PURGE_S": "0.02",
    "MAKOTO_LOG_LEVEL": "error",
    "MAKOTO_LIVE_RUNS": "1000",
}


@dataclass(slots=True)
class Turn:
    """One message, and what its sender has heard of it.

    Attributes:
        events: of the answer, each once and in order.
    """

    send_id: str
    content: str
    accepted: Frame | None = None
    events: list[Frame] = field(default_factory=list)

    @property
    def over(self) -> bool:
        return bool(self.events) and self.events[-1]["type"] == "done"


class Person:
    """Sends messages, sends again what was not accepted, and resumes what has not ended."""

    def __init__(self) -> None:
        self.turns: list[Turn] = []

    async def go_on(self, client: Client) -> None:
        """Take up what a kill has interrupted."""
        for turn in self.turns:
            if turn.accepted is None:
                await client.say("send", id=turn.send_id, content=turn.content)
            elif not turn.over:
                run_id, after = turn.accepted["run_id"], len(turn.events)
                await client.say("resume", run_id=run_id, after=after)

    async def begin(self, client: Client, content: str) -> None:
        turn = Turn(f"send-{len(self.turns)}", content)
        self.turns.append(turn)
        await client.say("send", id=turn.send_id, content=content)

    async def listen(self, client: Client) -> None:
        """Hear until the connection ends."""
        with suppress(ConnectionClosed, aiohttp.ClientError):
            while True:
                await self._heard(client, await client.next())

    async def _heard(self, client: Client, frame: Frame) -> None:
        match frame["type"]:
            case "accepted":
                (turn,) = [each for each in self.turns if each.send_id == frame["id"]]
                frame.pop("duplicate", None)
                assert turn.accepted in (None, frame)
                turn.accepted = frame
            case "payload":
                await self._heard(client, await client.fetch(frame))
            case "events":
                self._events(frame)
            case kind:
                assert kind == "resumed", frame

    def _events(self, frame: Frame) -> None:
        """Apply what comes next, and drop what is there already, as every client does."""
        turn = next(
            each
            for each in self.turns
            if each.accepted is not None and each.accepted["run_id"] == frame["run_id"]
        )
        start = frame["first_seq"] - 1
        assert start <= len(turn.events), "a gap"
        known = turn.events[start : frame["last_seq"]]
        assert frame["events"][: len(known)] == known
        more = frame["events"][len(known) :]
        assert not (turn.over and more), "something follows the end"
        assert "volatile" not in frame
        turn.events += more


class Nursery:
    """Has one server after the other in the same folder; see `nursery`."""

    def __init__(self, process: asyncio.subprocess.Process, issuer: LocalIssuer) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._say, self._hear = process.stdin, process.stdout
        self._issuer = issuer
        self._pid = 0

    @asynccontextmanager
    async def server(self) -> AsyncIterator[Client]:
        """Connect to a new server, which is killed at the end of the block."""
        self._say.write(b"\n")
        url = await self._born()
        socket_url = f"{url}v1/ws".replace("http", "ws", 1)
        token = self._issuer.mint("aiko", ttl_s=3600, now=time.time())
        headers = {"Authorization": f"Bearer {token}"}
        try:
            async with connect(socket_url, origin_url=url, headers=headers) as client:
                yield client
                os.kill(self._pid, signal.SIGKILL)
        finally:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            assert await self._line("ended") == str(int(signal.SIGKILL)), "it ended by itself"

    async def _born(self) -> str:
        self._pid = int(await self._line("born"))
        return await self._line("Open")

    async def _line(self, beginning: str) -> str:
        """Return what follows these words in the next line that begins with them."""
        async with asyncio.timeout(WITHIN_S):
            while line := (await self._hear.readline()).decode():
                if line.startswith(f"{beginning} "):
                    return line.removeprefix(f"{beginning} ").strip()
        raise AssertionError("the nursery is gone")


@asynccontextmanager
async def nursery(folder: Path, log: Path) -> AsyncIterator[Nursery]:
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(NURSERY),
            str(folder),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            env=environment(**SETTINGS),
        )
    issuer = LocalIssuer(
        load_or_create_key(folder / KEY_FILE),
        issuer=LOCAL_ISSUER,
        audience=LOCAL_AUDIENCE,
        tenant_id="default",
    )
    try:
        yield Nursery(process, issuer)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        async with asyncio.timeout(WITHIN_S):
            await process.wait()


async def test_nothing_is_lost_or_doubled_whenever_it_is_killed(
    folder_with_key: Path, tmp_path: Path
) -> None:
    seed = random.randrange(2**32)
    log = tmp_path / "log"
    try:
        async with nursery(folder_with_key, log) as those:
            await live(those, random.Random(seed))
    except BaseException as exc:
        exc.add_note(f"seed {seed}")
        raise
    assert log.read_text() == "", "nothing is broken in a folder that was only killed"


async def live(those: Nursery, chance: random.Random) -> None:
    person = Person()
    for _ in range(KILLS):
        async with those.server() as client:
            listening = asyncio.create_task(person.listen(client))
            await person.go_on(client)
            for number in range(TURNS):
                words = chance.choice(["large", f"echo {'word ' * 8 * (number + 1)}"])
                await person.begin(client, f"{words} {len(person.turns)}")
            await asyncio.sleep(chance.uniform(0, LONGEST_S))
        await listening
    async with those.server() as client:  # once more, surely in the middle of an answer
        listening = asyncio.create_task(person.listen(client))
        await person.go_on(client)
        await person.begin(client, f"long {len(person.turns)}")
        async with asyncio.timeout(WITHIN_S):
            while not person.turns[-1].events:
                await asyncio.sleep(0)
    await listening
    assert not person.turns[-1].over
    async with those.server() as client:
        listening = asyncio.create_task(person.listen(client))
        await person.go_on(client)
        async with asyncio.timeout(WITHIN_S):
            while not all(turn.over for turn in person.turns):
                await asyncio.sleep(0.02)
                assert not listening.done(), listening.result()
        listening.cancel()
        await asyncio.wait({listening})
        await check(client, person.turns)


async def check(client: Client, turns: list[Turn]) -> None:
    """Find every turn stored once, as it was shown."""
    sessions: list[Frame] = []
    page = await client.ask("sessions", limit=100)
    sessions += page["items"]
    while "next" in page:
        page = await client.ask("sessions", limit=100, before=page["next"])
        sessions += page["items"]
    assert len(sessions) == len(turns)
    for turn in turns:
        assert turn.accepted is not None
        done = turn.events[-1]
        assert (done["saved"], done["reason"] in ("stop", "interrupted")) == (True, True)
        kept = await client.history(turn.accepted["session_id"])
        shown = [("user", turn.content)]
        if text_of(turn.events):
            shown.append(("assistant", text_of(turn.events)))
        assert [(item["role"], item["content"]) for item in kept] == shown
        await client.say("resume", run_id=turn.accepted["run_id"], after=0)
        await client.hear("resumed")
        assert await client.events(turn.accepted["run_id"]) == turn.events

"""A bad day for the real server: many clients, and everything breaks; then the checker judges it.

    make chaos SECONDS=600

Prints turns, faults by kind and what broke; ends with 1 if anything did.
"""

import argparse
import asyncio
import logging
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from storage.blobs.files import open_file_blobs
from storage.keys import run_id
from storage.records import Owner
from storage.sqlite.store import open_store
from tests.promises.device import Day, Device, read_back
from tests.promises.history import Broken, History, Stored, Trouble, broken
from tests.promises.provider import Provider
from tests.promises.server import TENANT, Server, serving
from tests.promises.stored import read_stored
from tests.streaming.models.openai_endpoint import openai_endpoint

DEVICES_PER_USER = 4
CALM_S = 60.0
"""How long the devices have to come to an end, once nothing breaks any more."""

RETRIES = 5
"""Further requests of one turn before a word of it: two (`streaming.models.retry`), and each of the three
once more where a kept connection ended unanswered (`streaming.models.http_pool`)."""

SHORTEST_S, LONGEST_S = 0.2, 3.0
"""Of a fault of the server."""

SETTINGS = {
    "OPENAI_API_KEY": "sk-test",
    "MAKOTO_FIRST_TOKEN_S": "3",
    "MAKOTO_BETWEEN_CHUNKS_S": "2",
    "MAKOTO_REPLY_S": "8",
    "MAKOTO_LIVE_RUNS": "64",
    "MAKOTO_SHUTDOWN_S": "0.5",
    "MAKOTO_LOG_LEVEL": "error",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a day brought.

    Attributes:
        seconds: until the last device had all that it asked for; judging not counted.
        turns: answers that a device has seen to their end.
        faults: by kind.
        ends: how the stored runs ended.
        found: promises that were broken.
    """

    seconds: float
    turns: int
    faults: Counter[str]
    ends: Counter[str]
    found: list[Broken]

    def __str__(self) -> str:
        lines = [f"{self.turns} turns in {self.seconds:.0f} s; violations: {len(self.found)}"]
        lines += [f"  {count:6} {kind}" for kind, count in sorted(self.faults.items())]
        lines += [f"  {count:6} ended: {end}" for end, count in sorted(self.ends.items())]
        return "\n".join([*lines, *map(str, self.found[:20])])


async def bad_day(folder: Path, *, seconds: float, clients: int, seed: int) -> Report:
    """Let everything break for so long, then let it end well, and judge it.

    Args:
        folder: of the server's data; empty.
        seconds: how long it is bad.
        clients: devices, `DEVICES_PER_USER` of each user.
        seed: of every choice; what comes of it depends on the machine, too.
    """
    chance = random.Random(seed)
    provider = Provider(random.Random(seed + 1))
    began = time.monotonic()
    async with (
        openai_endpoint() as endpoint,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(5)) as http,
        serving(folder, **SETTINGS, OPENAI_BASE_URL=endpoint.base_url) as server,
    ):
        endpoint.will(provider)
        day = Day(server=server, chance=chance, http=http)
        users = [f"user{number}" for number in range(max(1, clients // DEVICES_PER_USER))]
        marks = {user: f"«{user}»" for user in users}
        devices = [
            Device(day, user := users[number % len(users)], f"{user}-d{number}", marks[user])
            for number in range(clients)
        ]
        living = [asyncio.create_task(device.live()) for device in devices]
        try:
            await _break_things(day, seconds)
            provider.healthy = day.calm = day.over = True
            unended = await _come_to_an_end(devices, living)
        finally:
            for task in living:
                task.cancel()
            await asyncio.gather(*living, return_exceptions=True)
        took = time.monotonic() - began
        for user in users:
            owner = Owner(tenant_id=TENANT, user_id=user)
            ids = [run_id(owner, each) for each in sorted(day.send_ids.get(user, ()))]
            await read_back(day, user, ids)
        await server.stop()
        stored = await _stored(folder, day)
    history = History(
        happenings=day.happenings,
        asked=provider.asked,
        stored=stored,
        marks=marks,
        retries=RETRIES,
        stop_within_s=1.5,  # a second, and what a busy machine takes to notice
    )
    return Report(
        seconds=took,
        turns=sum(device.turns for device in devices),
        faults=day.faults + provider.faults,
        ends=Counter(str(run.end) for run in stored.runs),
        found=unended + broken(history),
    )


async def _break_things(day: Day, seconds: float) -> None:
    """Break one thing of the server after the other."""
    chance, server = day.chance, day.server
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    kinds: dict[str, Callable[[float], Coroutine[Any, Any, None]]] = {
        "kill -9": lambda length: _killed(server, length / 4),
        "deploy": lambda length: _deployed(server),
        "pause": server.pause,
        "disk full": server.without_disk,
        "locked database": server.locked,
    }
    longest = min(LONGEST_S, seconds / 10)  # so that a short day has every kind of it
    deck: list[str] = []
    while loop.time() < until:
        await asyncio.sleep(min(chance.uniform(0.5, 1.5), longest))
        deck = deck or chance.sample(sorted(kinds), len(kinds))
        kind = deck.pop()
        day.faults[f"server: {kind}"] += 1
        at = loop.time()
        await kinds[kind](chance.uniform(SHORTEST_S, longest))
        day.happenings.append(Trouble(at=at, until=loop.time(), kind=kind))


async def _killed(server: Server, down_s: float) -> None:
    await server.kill()
    await asyncio.sleep(down_s)
    await server.start()


async def _deployed(server: Server) -> None:
    await server.stop()
    await server.start()


async def _come_to_an_end(devices: list[Device], living: list[asyncio.Task[None]]) -> list[Broken]:
    """Wait until every device has all that it asked for; return what is missing."""
    try:
        async with asyncio.timeout(CALM_S):
            while not all(device.is_idle for device in devices):
                for task in living:
                    if task.done():
                        task.result()
                await asyncio.sleep(0.05)
    except TimeoutError:
        waiting = [device.waits_for for device in devices if not device.is_idle]
        return [Broken(promise="every run ends", what=f"not for {each}") for each in waiting]
    return []


async def _stored(folder: Path, day: Day) -> Stored:
    store = await open_store(folder)
    blobs = await open_file_blobs(folder)
    try:
        send_ids = {
            Owner(tenant_id=TENANT, user_id=user): sorted(ids) for user, ids in day.send_ids.items()
        }
        return await read_stored(store, send_ids, fetch=blobs.get, now=time.time())
    finally:
        await blobs.aclose()
        await store.aclose()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    asked = parser.parse_args()
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # the provider breaks off
    sys.stdout.write(f"seed {asked.seed}\n")
    sys.stdout.flush()
    with tempfile.TemporaryDirectory() as folder:
        report = asyncio.run(
            bad_day(
                Path(folder) / "data",
                seconds=asked.seconds,
                clients=asked.clients,
                seed=asked.seed,
            )
        )
    sys.stdout.write(f"{report}\n")
    sys.exit(1 if report.found else 0)


if __name__ == "__main__":
    main()

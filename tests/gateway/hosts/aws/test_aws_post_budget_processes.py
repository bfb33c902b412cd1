"""The budget over one table, kept by processes that know nothing else of each other."""

import asyncio
import math
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import orjson

from storage.dynamodb.signed_client import SignedClient
from storage.dynamodb.tables import create_tables
from tests.engines.connections_api import CREDENTIALS, REGION, ConnectionsApi, connections_api
from tests.engines.processes import Engine
from tests.gateway.hosts.aws.posting_process import TOKEN_EVERY_S, token
from tests.gateway.hosts.aws.rates import most_in_a_second

BUDGET = 50
SECONDS = 3.0
PROCESSES = [["many:5"], ["many:5"], ["many:5"], ["many:4", "one:1"]]
TEXT = "".join


def test_twenty_runs_in_four_processes_keep_a_budget_of_fifty(dynoxide: Engine) -> None:
    with connections_api() as api, longest_stall() as stall:
        api.delay_s = 0.03
        post_from_processes(api, dynoxide)
        names = {request.connection_id for request in api.requests}
        assert len(names) == 20
        assert set(api.statuses()) == {200}
        for name in names:
            assert text_of(api.arrived(name)) == TEXT(
                token(name, number) for number in range(round(SECONDS / TOKEN_EVERY_S))
            )
        times = sorted(api.times())
        # More only by what this machine let a thread wait (one slot on an idle one).
        assert most_in_a_second(times) <= BUDGET + math.ceil(stall[0] * BUDGET)
        assert len(times) >= 0.7 * BUDGET * (times[-1] - times[0])
        # The budget bears 2.5 posts a second of each run. Whoever is alone in a tenant has more.
        one = next(name for name in names if name.startswith("one"))
        rates = {name: len(api.times(name)) / SECONDS for name in names}
        assert rates.pop(one) >= 1.5 * sum(rates.values()) / len(rates)
        # And nobody more than the rhythm of an answer: one at once, ten a second, one at its end.
        lasted = times[-1] - times[0]
        assert max(map(len, map(api.arrived, names))) <= 2 + 10 * lasted


def post_from_processes(api: ConnectionsApi, dynoxide: Engine) -> None:
    table = f"door-{uuid.uuid4().hex}"
    asyncio.run(create_door(dynoxide, table))
    processes = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.gateway.hosts.aws.posting_process"),
                *(api.url, dynoxide.url, table, str(BUDGET), str(SECONDS), *shares),
            ],
            cwd=Path(__file__).parents[4],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for shares in PROCESSES
    ]
    try:
        for process in processes:
            assert said(process.stdout) == b"ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(b"go\n")
            process.stdin.flush()
        for process in processes:
            assert said(process.stdout) == b"done\n"
    finally:
        for process in processes:
            process.terminate()
            process.communicate(timeout=10)


def said(output: IO[bytes] | None) -> bytes:
    assert output is not None
    return output.readline()


async def create_door(dynoxide: Engine, table: str) -> None:
    client = SignedClient(region=REGION, credentials=CREDENTIALS, endpoint_url=dynoxide.url)
    await create_tables(client, data=f"{table}-data", door=table)
    await client.aclose()


def text_of(frames: list[bytes]) -> str:
    events: list[dict[str, str]] = []
    for frame in map(orjson.loads, frames):
        assert frame["first_seq"] == len(events) + 1
        events += frame["events"]
    return TEXT(event["text"] for event in events)


@contextmanager
def longest_stall() -> Iterator[list[float]]:
    """Measure for how long a thread that wants to run is made to wait, in seconds."""
    longest = [0.0]
    over = threading.Event()

    def watch() -> None:
        before = time.perf_counter()
        while not over.wait(0.005):
            now = time.perf_counter()
            longest[0] = max(longest[0], now - before - 0.005)
            before = now

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield longest
    finally:
        over.set()
        thread.join()

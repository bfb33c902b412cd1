"""What a reader that reads nothing more keeps of the server's memory.

Each reader has had a long reply written and then asks for it again and again, without reading, until the
server takes no further command from it: all buffers between the two are full, and the rest is the server's
to hold.
"""

import asyncio
import time
from pathlib import Path

import orjson

from bench.lines import GatewayLine
from bench.load import open_lines
from bench.process import Process, choose_cores, pinned
from bench.provider import CHARACTERS
from bench.report import Verdict, table, verdicts
from bench.rounds import raise_descriptor_limit, uvloop_runner
from bench.systems import Gateway, start_provider

READERS, QUICK_READERS = 100, 20
CHUNKS = 2000  # of each reply
WRITING = 10  # replies being written at a time
ASKED_AT_ONCE = 4
FULL_SECONDS = 60.0
TARGET_KB = 1000


def run(*, quick: bool) -> None:
    """Measure and print it; see the module.

    Args:
        quick: fewer readers.
    """
    raise_descriptor_limit()
    readers = QUICK_READERS if quick else READERS
    cores = choose_cores()
    print("== Stalled readers ==")
    print(f"{readers} readers, each of a reply of {CHUNKS * CHARACTERS:,} characters; {cores}.\n")
    began = time.monotonic()
    provider = start_provider(cores.others)
    gateway = Gateway(deflate=False)
    try:
        server = gateway.start(provider, cores.server)
        assert server is not None
        try:
            with pinned(cores.others), uvloop_runner() as runner:
                stalled, idle = runner.run(_measure(gateway, server, readers))
        finally:
            gateway.stop()
    finally:
        provider.stop()
    table(
        ("", Gateway.name),
        [
            ("RSS per idle reader of such a reply, KB", f"{idle / 1000:,.1f}"),
            ("RSS per stalled reader, KB", f"{stalled / 1000:,.1f}"),
        ],
    )
    print(f"took {time.monotonic() - began:.0f} s")
    verdicts(
        [
            Verdict(
                what="KB resident per stalled reader",
                target=TARGET_KB,
                measured=stalled / 1000,
                below=True,
            )
        ]
    )


async def _measure(gateway: Gateway, server: Process, readers: int) -> tuple[float, float]:
    """Return the bytes resident per stalled reader, and what they were before it stalled."""
    warm = await open_lines(gateway, WRITING)
    await _replies(warm)
    for line in warm:
        line.close()
    await asyncio.sleep(1)
    before = server.resident()
    lines = [line for line in await open_lines(gateway, readers) if isinstance(line, GatewayLine)]
    await _replies(lines)
    await asyncio.sleep(1)
    idle = server.resident()
    for line in lines:
        line.socket.stall()
    async with asyncio.timeout(FULL_SECONDS):
        while waiting := _not_full(lines, server.port):
            for line in waiting:
                ask = {"type": "resume", "run_id": line.run_id, "after": 0}
                for _ in range(ASKED_AT_ONCE):
                    line.socket.send(orjson.dumps(ask))
            await asyncio.sleep(0.5)
    stalled = server.resident()
    for line in lines:
        line.close()
    return (stalled - before) / readers, (idle - before) / readers


async def _replies(lines: list[GatewayLine]) -> None:
    """Have each line's reply written, a few at a time."""
    for first in range(0, len(lines), WRITING):
        batch = lines[first : first + WRITING]
        for line in batch:
            line.ask(CHUNKS, 1)
        async with asyncio.timeout(30):
            await asyncio.gather(*(line.ended for line in batch))


def _not_full(lines: list[GatewayLine], port: int) -> list[GatewayLine]:
    """Return the lines of which the server, at that port, still takes every command."""
    unread = _unread()
    return [line for line in lines if not unread.get((port, line.socket.port))]


def _unread() -> dict[tuple[int, int], int]:
    """Return the bytes that each end of a connection has not read, by its own port and the other's.

    From proc(5), `/proc/net/tcp`: local and remote address in hexadecimal, then `tx_queue:rx_queue`.
    """
    found: dict[tuple[int, int], int] = {}
    for row in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, queues, *_ = row.split()
        ports = int(local.partition(":")[2], 16), int(remote.partition(":")[2], 16)
        found[ports] = int(queues.partition(":")[2], 16)
    return found

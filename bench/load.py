"""What is asked of a started system, phase by phase, and what it cost its server."""

import asyncio
import contextlib
import gc
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench.lines import Line
from bench.process import Process
from bench.systems import System

SESSIONS = 100
FEW = 25  # sessions of a load that every system bears with ease
EVERY = 20  # milliseconds between two chunks of a stream: 50 a second
OPENING = 25  # connections being opened at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much one visit to a system asks, in connections (`idle`: 0 for none), turns and seconds."""

    idle: int = 500
    warm: int = 20
    turns: int = 80
    ramp: float = 1.0
    settle: float = 0.7
    window: float = 4.0
    probing: float = 1.5

    def chunks(self, window: float) -> int:
        """Return the chunks of a reply that outlasts a window, and the turns asked after it."""
        seconds = self.ramp + self.settle + window + self.probing + 0.5
        return int(seconds * 1000 / EVERY)


@dataclass(slots=True, kw_only=True)
class Visit:
    """What one visit measured; None where a system has no server of its own.

    Attributes:
        idle_bytes: resident memory per idle connection.
        streaming_bytes: resident memory by which the server grew under load, per session.
        first_delta: median seconds to the first text, one turn at a time.
        turn_cpu: seconds of server CPU per turn of three chunks, one turn at a time.
        chunk_cpu: seconds of server CPU per delivered chunk under load.
        busy: share of its core that the server used under load.
        delivered: chunks per second that reached the clients under load.
        merged: chunks per message under load.
        few_first_delta: median seconds to the first text of further turns while a few sessions
            stream, infinite when none came before the phase ended.
        loaded_first_delta: the same under load.
        clients_busy: share of the other core used by clients and provider under load.
    """

    idle_bytes: float | None = None
    streaming_bytes: float | None = None
    first_delta: float = math.inf
    turn_cpu: float | None = None
    chunk_cpu: float | None = None
    busy: float | None = None
    delivered: float = 0.0
    merged: float = 0.0
    few_first_delta: float = math.inf
    loaded_first_delta: float = math.inf
    clients_busy: float = 0.0


async def open_lines(system: System, count: int) -> list[Line]:
    """Open so many connections, a few at a time."""
    lines: list[Line] = []
    while len(lines) < count:
        batch = min(OPENING, count - len(lines))
        lines += await asyncio.gather(*(system.open() for _ in range(batch)))
    return lines


async def _turn(line: Line, chunks: int, every: int) -> float:
    line.ask(chunks, every)
    async with asyncio.timeout(10):
        await line.ended
    return line.waited


async def idle_memory(system: System, server: Process, plan: Plan) -> float:
    """Return the bytes that one more idle connection keeps resident in a warm server."""
    await asyncio.sleep(0.3)
    before = server.resident()
    lines = await open_lines(system, plan.idle)
    await asyncio.sleep(0.5)
    kept = server.resident() - before
    for line in lines:
        line.close()
    await asyncio.sleep(0.3)
    return kept / plan.idle


async def quiet(line: Line, server: Process | None, plan: Plan, visit: Visit) -> None:
    """Ask one short turn after the other on an otherwise idle system."""
    waited: list[float] = []
    before = server.cpu() if server else 0.0
    for _ in range(plan.turns):
        waited.append(await _turn(line, 3, 1))
        await asyncio.sleep(0.005)  # what a system does after a reply is not the next one's burden
    visit.first_delta = statistics.median(waited)
    if server:
        visit.turn_cpu = (server.cpu() - before) / plan.turns


async def _stream(lines: Sequence[Line], chunks: int, plan: Plan) -> None:
    """Begin so many streams, evenly spread over the ramp, and let them settle."""
    for line in lines:
        line.ask(chunks, EVERY)
        await asyncio.sleep(plan.ramp / len(lines))
    await asyncio.sleep(plan.settle)


async def _probe(line: Line, plan: Plan) -> float:
    """Return the median seconds to the first text of short turns while others stream."""
    waited: list[float] = []
    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(plan.probing):
            while True:
                line.ask(3, 1)
                await line.ended
                waited.append(line.waited)
                await asyncio.sleep(0.02)
    return statistics.median(waited) if waited else math.inf


async def few(lines: Sequence[Line], plan: Plan, visit: Visit) -> None:
    """Stream to a few sessions; the last line asks short turns meanwhile."""
    *streaming, probing = lines
    await _stream(streaming, plan.chunks(0.0), plan)
    visit.few_first_delta = await _probe(probing, plan)
    await asyncio.wait([line.ended for line in lines], timeout=5.0)


async def load(
    lines: Sequence[Line], server: Process | None, provider: Process, plan: Plan, visit: Visit
) -> None:
    """Stream to all sessions at once; the last line waits until the load runs, then asks too."""
    *streaming, probing = lines
    resting = server.resident() if server else 0
    await _stream(streaming, plan.chunks(plan.window), plan)

    def read() -> tuple[float, float, float, int, int]:
        chunks = sum(line.delivered for line in streaming)
        messages = sum(line.messages for line in streaming)
        clients = time.process_time() + provider.cpu()
        return time.perf_counter(), server.cpu() if server else 0.0, clients, chunks, messages

    before = read()
    await asyncio.sleep(plan.window)
    seconds, cpu, clients, chunks, messages = (
        after - start for after, start in zip(read(), before, strict=True)
    )
    visit.delivered = chunks / seconds
    visit.merged = chunks / max(messages, 1)
    visit.clients_busy = clients / seconds
    if server:
        visit.busy = cpu / seconds
        visit.chunk_cpu = cpu / max(chunks, 1)
        visit.streaming_bytes = (server.resident() - resting) / len(streaming)
    visit.loaded_first_delta = await _probe(probing, plan)
    await asyncio.wait([line.ended for line in streaming], timeout=1.5)


async def _rest(server: Process) -> None:
    """Wait until a server has worked off what the load left, at most four seconds."""
    for _ in range(20):
        before = server.cpu()
        await asyncio.sleep(0.2)
        if server.cpu() - before < 0.01:
            return


async def visit(system: System, server: Process | None, provider: Process, plan: Plan) -> Visit:
    """Measure one freshly started system in all phases."""
    found = Visit()
    lines: list[Line] = []
    try:
        lines += await open_lines(system, plan.warm)
        await asyncio.gather(*(_turn(line, 3, 1) for line in lines))
        if server and plan.idle:
            found.idle_bytes = await idle_memory(system, server, plan)
        lines += await open_lines(system, SESSIONS + 1 - len(lines))
        gc.collect()
        gc.freeze()
        await few(lines[: FEW + 1], plan, found)
        await load(lines, server, provider, plan, found)
        for line in lines:
            line.close()
        lines = await open_lines(system, 1)
        if server:
            await _rest(server)
        # Last, when the load has warmed the code: a just-in-time compiler is judged compiled.
        await quiet(lines[0], server, plan, found)
    finally:
        gc.unfreeze()
        for line in lines:
            line.close()
        await asyncio.sleep(0.05)
    return found

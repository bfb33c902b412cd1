"""Part (b): the gateway beside two relays, all in front of one fake provider."""

import asyncio
import math
import resource
import time
from collections.abc import Callable

import uvloop

from bench import process
from bench.load import EVERY, SESSIONS, Plan, Visit, visit
from bench.process import Cores, Process, choose_cores, pinned
from bench.report import Verdict, median, table, verdicts, version
from bench.systems import (
    Direct,
    FastApiRelay,
    Gateway,
    NodeRelay,
    System,
    available,
    start_provider,
)

Visits = dict[str, list[Visit]]

VISIT_SECONDS = 60.0
DESCRIPTORS = 8192
FULL = Plan()
QUICK = Plan(idle=200, turns=30, ramp=0.5, settle=0.5, window=2.0, probing=0.7)


def _measure(system: System, provider: Process, cores: Cores, plan: Plan) -> Visit:
    server = system.start(provider, cores.server)
    try:
        with uvloop_runner() as runner:
            return runner.run(_bounded(system, server, provider, plan))
    except (OSError, TimeoutError):
        print(f"{system.name} failed; it printed: {server.printed() if server else '-'}")
        raise
    finally:
        if server:
            system.stop()


def uvloop_runner() -> asyncio.Runner:
    """Return a runner of its own loop for one visit."""
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


async def _bounded(system: System, server: Process | None, provider: Process, plan: Plan) -> Visit:
    async with asyncio.timeout(VISIT_SECONDS):
        return await visit(system, server, provider, plan)


def _rounds(systems: list[System], rounds: int, plan: Plan, cores: Cores) -> Visits:
    visits: Visits = {system.name: [] for system in systems}
    provider = start_provider(cores.others)
    try:
        with pinned(cores.others):
            for turn in range(rounds):
                for system in list(systems):
                    try:
                        visits[system.name].append(_measure(system, provider, cores, plan))
                    except process.NotStartedError as exc:
                        if turn:
                            raise
                        print(f"left out: {exc}")
                        systems.remove(system)
                        del visits[system.name]
    finally:
        provider.stop()
    return visits


def _of(visits: list[Visit], read: Callable[[Visit], float | None]) -> float | None:
    return median(value for one in visits if (value := read(one)) is not None)


def _over_direct(visits: Visits, name: str, read: Callable[[Visit], float]) -> float | None:
    """Return the median of what a system adds to the direct way, round by round."""
    if name not in visits:
        return None
    pairs = zip(visits[name], visits[Direct.name], strict=True)
    return median(read(one) - read(direct) for one, direct in pairs)


def _ratio(one: float | None, other: float | None) -> float | None:
    if one is None or other is None or not other or math.isinf(other):
        return None
    return one / other


def _text(value: float | None, scale: float, digits: int) -> str:
    if value is None:
        return "-"
    return "never" if math.isinf(value) else f"{value * scale:,.{digits}f}"


Row = tuple[str, Callable[[str], float | None], float, int]


def _rows(visits: Visits) -> list[Row]:
    def plain(read: Callable[[Visit], float | None]) -> Callable[[str], float | None]:
        return lambda name: _of(visits[name], read)

    def over(read: Callable[[Visit], float]) -> Callable[[str], float | None]:
        return lambda name: None if name == Direct.name else _over_direct(visits, name, read)

    return [
        ("server CPU per delivered chunk, us", plain(lambda one: one.chunk_cpu), 1e6, 1),
        ("delivered chunks per second", plain(lambda one: one.delivered), 1, 0),
        ("chunks per message", plain(lambda one: one.merged), 1, 2),
        ("server's core busy, %", plain(lambda one: one.busy), 100, 0),
        ("clients' and provider's core busy, %", plain(lambda one: one.clients_busy), 100, 0),
        ("first delta, quiet, us", plain(lambda one: one.first_delta), 1e6, 0),
        ("  over direct, us", over(lambda one: one.first_delta), 1e6, 0),
        ("first delta, under load, us", plain(lambda one: one.loaded_first_delta), 1e6, 0),
        ("  over direct, us", over(lambda one: one.loaded_first_delta), 1e6, 0),
        ("server CPU per turn of 3 chunks, us", plain(lambda one: one.turn_cpu), 1e6, 0),
        ("RSS per idle connection, KB", plain(lambda one: one.idle_bytes), 1 / 1000, 1),
    ]


def _print(visits: Visits) -> None:
    names = list(visits)
    rows: list[tuple[str, ...]] = []
    for label, value, scale, digits in _rows(visits):
        cells = []
        base = value(Gateway.name) if Gateway.name in visits else None
        for name in names:
            found = value(name)
            times = _ratio(found, base)
            beside = f" ({times:.2f}x)" if times is not None and name != Gateway.name else ""
            cells.append(_text(found, scale, digits) + beside)
        rows.append((label, *cells))
    table(("", *names), rows)


def _targets(visits: Visits) -> list[Verdict]:
    def cpu(name: str) -> float | None:
        return _of(visits.get(name, []), lambda one: one.chunk_cpu)

    def added(name: str) -> float | None:
        return _over_direct(visits, name, lambda one: one.first_delta)

    idle = _of(visits.get(Gateway.name, []), lambda one: one.idle_bytes)
    return [
        Verdict(
            what="server CPU per chunk, times the FastAPI + SDK relay's",
            target=0.2,
            measured=_ratio(cpu(Gateway.name), cpu(FastApiRelay.name)),
        ),
        Verdict(
            what="server CPU per chunk, times the Node ws relay's",
            target=1.0,
            measured=_ratio(cpu(Gateway.name), cpu(NodeRelay.name)),
            below=True,
        ),
        Verdict(
            what="first delta over direct, times the FastAPI + SDK relay's",
            target=1 / 3,
            measured=_ratio(added(Gateway.name), added(FastApiRelay.name)),
        ),
        Verdict(
            what="KB resident per idle authenticated connection",
            target=20,
            measured=None if idle is None else idle / 1000,
        ),
    ]


def _raise_descriptor_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def run(*, quick: bool, deflate: bool) -> None:
    """Measure and print part (b).

    Args:
        quick: one short round instead of three.
        deflate: let the clients offer permessage-deflate, as browsers do.
    """
    _raise_descriptor_limit()
    systems, missing = available(deflate=deflate)
    plan, rounds = (QUICK, 1) if quick else (FULL, 3)
    cores = choose_cores()
    print("== The gateway ==")
    print(", ".join(map(version, ("fastapi", "uvicorn", "websockets", "openai"))))
    pinning = (
        f"server on core {cores.server}, clients and provider on core {cores.others}"
        if cores.server is not None
        else "no pinning: too few cores"
    )
    print(
        f"{SESSIONS} sessions, {1000 // EVERY} chunks/s each, chunks of 16 characters in "
        f"function-call mode; {pinning};\n{rounds} interleaved round(s) of fresh servers, medians; "
        f"permessage-deflate {'offered as browsers do' if deflate else 'not offered'}."
    )
    for line in missing:
        print(f"left out: {line}")
    began = time.monotonic()
    visits = _rounds(systems, rounds, plan, cores)
    print(f"took {time.monotonic() - began:.0f} s; in brackets: times makoto's\n")
    _print(visits)
    verdicts(_targets(visits))
    if Gateway.name not in visits:
        raise SystemExit("the gateway itself could not be measured")

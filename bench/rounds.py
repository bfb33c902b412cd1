"""Visits to several systems in turns, so that a busy moment of the machine falls on all alike."""

import asyncio
import resource
from collections.abc import Callable

import uvloop

from bench import process
from bench.load import Plan, Visit, visit
from bench.process import Cores, Process, pinned
from bench.report import median
from bench.systems import System, start_provider

Visits = dict[str, list[Visit]]

VISIT_SECONDS = 60.0
DESCRIPTORS = 8192
FULL = Plan()
QUICK = Plan(idle=200, turns=30, ramp=0.5, settle=0.5, window=2.0, probing=0.7)


def raise_descriptor_limit() -> None:
    """Let this process and the servers it starts open thousands of sockets, where that is allowed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


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


def in_turns(systems: list[System], rounds: int, plan: Plan, cores: Cores) -> Visits:
    """Visit all systems, round after round, each freshly started.

    Args:
        systems: one that cannot be started in the first round is said to be left out, and removed.
    """
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


def median_of(visits: list[Visit], read: Callable[[Visit], float | None]) -> float | None:
    """Return the median of what is read from each visit; None where there is nothing."""
    return median(value for one in visits if (value := read(one)) is not None)

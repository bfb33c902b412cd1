"""Whatever happens, in any order: what the handlers promise holds, in one process and in many.

PROMISES_TIMES=20 tries twenty times as much; PROMISES_SEED=7 begins elsewhere.
"""

import os
from contextlib import AsyncExitStack
from dataclasses import replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.errors import Flaky
from hypothesis.stateful import run_state_machine_as_test

from storage.repositories import SharedStore
from storage.sqlite.store import open_store
from tests.engines.processes import Engine
from tests.promises.machine import BrokenPromiseError, OpenWorld, PromiseMachine, in_world, profile
from tests.promises.memory import Backend, MemoryStore
from tests.promises.patient_time import engines_waited_for
from tests.promises.worlds import ManyProcesses, OneProcess
from tests.storage.dynamodb.stores import new_tables

PATIENCE_S = 0.03
"""Real seconds of silence after which a virtual clock beside an engine jumps."""

SEED = int(os.environ.get("PROMISES_SEED", "1"))


async def one_process(stack: AsyncExitStack) -> OneProcess:
    backend = Backend(clock=lambda: 0.0)

    async def open_store() -> MemoryStore:
        backend.end_leases()
        return MemoryStore(backend)

    return OneProcess(open_store)


async def many_processes(stack: AsyncExitStack) -> ManyProcesses:
    backend = Backend(clock=lambda: 0.0)

    async def open_store() -> MemoryStore:
        return MemoryStore(backend)

    return ManyProcesses(open_store)


def run(
    machine: type[PromiseMachine],
    *,
    examples: int,
    steps: int,
    shrink: bool = True,
    first_seed: int = SEED,
) -> None:
    run_state_machine_as_test(
        seed(first_seed)(machine),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=False,
            print_blob=True,
            database=None,
            report_multiple_bugs=False,
            phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )


def run_on_an_engine(open_world: OpenWorld, *, examples: int) -> None:
    """Begin elsewhere when Hypothesis complains: threads and sockets do not do the same twice."""
    machine = in_world(open_world, patience_s=PATIENCE_S)
    seeds = count(SEED * 1_000)
    while machine.lived < profile(examples):
        try:
            with engines_waited_for():
                run(machine, examples=profile(examples), steps=40, first_seed=next(seeds))
        except Flaky as exc:
            if machine.broken:
                raise BrokenPromiseError(machine.broken) from exc


@pytest.mark.parametrize("world", [one_process, many_processes], ids=lambda each: each.__name__)
def test_in_memory(world: Any) -> None:
    run(in_world(world), examples=profile(40), steps=50)


def test_on_sqlite() -> None:
    async def world(stack: AsyncExitStack) -> OneProcess:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        return OneProcess(lambda: open_store(folder))

    run_on_an_engine(world, examples=12)


def test_on_dynamodb(dynoxide: Engine) -> None:
    async def world(stack: AsyncExitStack) -> ManyProcesses:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        tables = await stack.enter_async_context(new_tables(dynoxide.url, folder))

        async def open_one_more() -> SharedStore:
            return replace(tables, clock=made.clock).store()  # type: ignore[arg-type]

        made = ManyProcesses(open_one_more)
        return made

    run_on_an_engine(world, examples=16)

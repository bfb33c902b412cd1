"""What runs beside the sockets for as long as the server does."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from unittest.mock import patch

import pytest

from gateway.hosts.local import background
from gateway.hosts.local.background import LONGEST_WAIT_S, RAN_WELL_S, run_beside
from gateway.hosts.local.clocks import Clocks
from gateway.hosts.local.limits import HostLimits
from tests.gateway.hosts.local_host import local_host
from tests.gateway.runs.virtual_time import run_virtually


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "FIRST_WAIT_S", 0.001)


@pytest.mark.usefixtures("soon")
async def test_what_breaks_is_logged_and_begins_anew_until_the_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun, stopped = asyncio.Event(), asyncio.Event()
    faults = [ZeroDivisionError(), KeyError("x")]

    async def work() -> None:
        if faults:
            raise faults.pop()
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async with AsyncExitStack() as stack:
        run_beside(stack, work)
        async with asyncio.timeout(5):
            await begun.wait()
    assert stopped.is_set()
    traces = [record for record in caplog.records if record.exc_info]
    assert [record.message for record in traces] == ["background work broke"] * 2


def waits_after(ran_s: list[float], *, chance: float) -> list[float]:
    """Return how long work is left alone that breaks each time after so many seconds."""
    waits: list[float] = []
    runs = iter(ran_s)

    async def main() -> None:
        clock = asyncio.get_running_loop().time
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        broke_at = clock()

        async def work() -> None:
            nonlocal broke_at
            waits.append(clock() - broke_at)
            ran = next(runs, None)
            if ran is None:
                ended.set_result(None)
                return
            await asyncio.sleep(ran)
            broke_at = clock()
            raise ZeroDivisionError

        async with AsyncExitStack() as stack:
            run_beside(stack, work, chance=lambda: chance)
            await ended

    run_virtually(main)
    return [round(wait, 3) for wait in waits[1:]]


def test_what_goes_on_breaking_is_left_alone_for_longer_each_time_up_to_a_bound() -> None:
    waits = waits_after([0.0] * 9, chance=1.0)
    assert waits == [1, 2, 4, 8, 16, 32, LONGEST_WAIT_S, LONGEST_WAIT_S, LONGEST_WAIT_S]


def test_the_wait_is_anything_from_half_of_that() -> None:
    assert waits_after([0.0] * 3, chance=0.0) == [0.5, 1, 2]
    assert waits_after([0.0] * 3, chance=0.5) == [0.75, 1.5, 3]


def test_what_ran_well_for_a_while_begins_anew_soon() -> None:
    ran_s = [0.0, 0.0, RAN_WELL_S - 1, RAN_WELL_S, 0.0]
    assert waits_after(ran_s, chance=1.0) == [1, 2, 4, 1, 2]


@pytest.mark.usefixtures("soon")
async def test_sockets_are_closed_in_time_after_a_look_at_them_has_failed(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sweep, failed = Clocks.sweep, asyncio.Event()

    def fail_once(clocks: Clocks) -> None:
        if not failed.is_set():
            failed.set()
            raise RuntimeError
        sweep(clocks)

    limits = HostLimits(idle_s=0.1, sweep_s=0.01)
    with patch.object(Clocks, "sweep", fail_once):
        async with local_host(folder, limits=limits) as host:
            await failed.wait()
            async with host.client() as client:
                assert (await client.closed())[0] == 4408
    assert "background work broke" in caplog.messages

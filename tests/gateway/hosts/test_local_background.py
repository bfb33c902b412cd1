"""What runs beside the sockets for as long as the server does."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from unittest.mock import patch

import pytest

from gateway.hosts.local import server
from gateway.hosts.local.clocks import Clocks
from gateway.hosts.local.limits import HostLimits
from gateway.hosts.local.server import run_beside
from tests.gateway.hosts.local_host import local_host


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "RESTART_S", 0.001)


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

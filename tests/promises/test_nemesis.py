"""A bad day of the real server, short; `make chaos SECONDS=600` is a longer one."""

import os
from pathlib import Path

import pytest

from tests.promises.nemesis import bad_day

SECONDS = float(os.environ.get("PROMISES_SECONDS", "12"))


@pytest.mark.timeout(SECONDS + 105)
async def test_a_bad_day_breaks_no_promise(tmp_path: Path) -> None:
    report = await bad_day(tmp_path / "data", seconds=SECONDS, clients=100, seed=1)
    assert not report.found, report
    assert report.turns > 50, report
    assert sum(count for kind, count in report.faults.items() if kind.startswith("server")) >= 3

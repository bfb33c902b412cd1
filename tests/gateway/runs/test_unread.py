"""Runs that nobody reads: when they are stopped, and what keeps them going."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from gateway.runs.live_run import LiveRun
from gateway.runs.live_runs import LiveRuns
from gateway.runs.unread import end_unread
from tests.gateway.runs.fakes import ANNA, Surroundings, a_run

AFTER_S = 60.0
EVERY_S = 1.0


class Watched:
    """Runs that are looked after; `stopped` names those whose generation was stopped."""

    def __init__(self) -> None:
        self.around = Surroundings()
        self.live = LiveRuns(lambda owner, run: self.around.make(run, owner))
        self.stopped: list[str] = []

    def queue(self, run_id: str = "run-1") -> LiveRun:
        return self.live.open(ANNA, a_run(run_id))

    def begin(self, live: LiveRun) -> LiveRun:
        live.stopped_by(lambda: self.stopped.append(live.run.run_id))
        return live


@pytest.fixture
def after_s() -> float:
    return AFTER_S


@pytest.fixture
async def watched(after_s: float) -> AsyncIterator[Watched]:
    made = Watched()
    task = asyncio.create_task(end_unread(made.live, after_s=after_s, every_s=EVERY_S))
    yield made
    task.cancel()
    await asyncio.wait({task})


async def test_a_run_without_readers_is_stopped_when_its_time_is_over(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    live = watched.begin(watched.queue())
    await asyncio.sleep(AFTER_S - EVERY_S)
    assert watched.stopped == []
    await asyncio.sleep(2 * EVERY_S)
    assert watched.stopped == ["run-1"]
    assert not live.cancelled
    await asyncio.sleep(AFTER_S)
    assert watched.stopped == ["run-1"]
    assert [record.message for record in caplog.records] == ["unread run ended"]


async def test_a_run_that_is_read_goes_on(watched: Watched) -> None:
    live = watched.begin(watched.queue())
    live.feed.follow("c1", after=0)
    await asyncio.sleep(3 * AFTER_S)
    assert watched.stopped == []


async def test_a_reader_who_comes_back_in_time_keeps_it_going(watched: Watched) -> None:
    live = watched.begin(watched.queue())
    for _ in range(5):
        await asyncio.sleep(AFTER_S - 2 * EVERY_S)
        live.feed.follow("c1", after=0)
        live.feed.unfollow("c1")  # between two looks
    assert watched.stopped == []
    await asyncio.sleep(AFTER_S + EVERY_S)
    assert watched.stopped == ["run-1"]


async def test_the_time_begins_when_the_last_reader_leaves(watched: Watched) -> None:
    live = watched.begin(watched.queue())
    live.feed.follow("c1", after=0)
    live.feed.follow("c2", after=0)
    await asyncio.sleep(AFTER_S)
    live.feed.unfollow("c1")
    await asyncio.sleep(2 * AFTER_S)
    live.feed.unfollow("c2")
    await asyncio.sleep(AFTER_S - 2 * EVERY_S)
    assert watched.stopped == []
    await asyncio.sleep(3 * EVERY_S)
    assert watched.stopped == ["run-1"]


async def test_who_is_no_reader_and_leaves_changes_nothing(watched: Watched) -> None:
    live = watched.begin(watched.queue())
    await asyncio.sleep(AFTER_S - EVERY_S)
    live.feed.unfollow("c9")
    await asyncio.sleep(2 * EVERY_S)
    assert watched.stopped == ["run-1"]


async def test_a_run_that_waits_has_all_its_time_when_it_begins(watched: Watched) -> None:
    live = watched.queue()
    live.feed.follow("c1", after=0)
    live.feed.unfollow("c1")
    await asyncio.sleep(3 * AFTER_S)
    watched.begin(live)
    await asyncio.sleep(AFTER_S - EVERY_S)
    assert watched.stopped == []
    await asyncio.sleep(2 * EVERY_S)
    assert watched.stopped == ["run-1"]


async def test_a_run_that_is_ending_is_left_alone(watched: Watched) -> None:
    live = watched.begin(watched.queue())
    live.stopped_by(None)
    await asyncio.sleep(2 * AFTER_S)
    assert watched.stopped == []


async def test_each_run_has_its_own_time(watched: Watched) -> None:
    watched.begin(watched.queue("run-1"))
    await asyncio.sleep(AFTER_S / 2)
    watched.begin(watched.queue("run-2")).feed.follow("c1", after=0)
    watched.begin(watched.queue("run-3"))
    await asyncio.sleep(AFTER_S / 2 + EVERY_S)
    assert watched.stopped == ["run-1"]
    await asyncio.sleep(AFTER_S)
    assert watched.stopped == ["run-1", "run-3"]


@pytest.mark.parametrize("after_s", [0.0])
async def test_with_no_bound_nothing_is_stopped(watched: Watched) -> None:
    watched.begin(watched.queue())
    await asyncio.sleep(3 * AFTER_S)
    assert watched.stopped == []

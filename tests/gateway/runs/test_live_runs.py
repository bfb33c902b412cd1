"""The runs of this process."""

import asyncio
from dataclasses import replace

import pytest

from gateway.runs.live_runs import LiveRuns
from tests.gateway.runs.fakes import ANNA, BEN, Surroundings, a_run


@pytest.fixture
def around() -> Surroundings:
    return Surroundings()


@pytest.fixture
def live(around: Surroundings) -> LiveRuns:
    return LiveRuns(lambda owner, run: around.make(run, owner))


async def test_a_run_is_made_live_once(live: LiveRuns) -> None:
    first = live.open(ANNA, a_run())
    assert live.open(ANNA, a_run()) is first
    assert live.all() == [first]


async def test_a_run_is_found_by_its_owner_alone(live: LiveRuns) -> None:
    run = live.open(ANNA, a_run())
    assert live.find(ANNA, "run-1") is run
    assert live.find(BEN, "run-1") is None
    assert live.find(ANNA, "run-2") is None


async def test_the_runs_of_a_session_are_those_of_its_owner(live: LiveRuns) -> None:
    first = live.open(ANNA, a_run("run-1"))
    live.open(ANNA, replace(a_run("run-2"), session_id="session-2"))
    live.open(BEN, a_run("run-3"))
    last = live.open(ANNA, a_run("run-4"))
    assert live.of_session(ANNA, "session-1") == [first, last]


async def test_the_runs_of_a_forgotten_session_are_found_no_more(live: LiveRuns) -> None:
    first, last = live.open(ANNA, a_run("run-1")), live.open(ANNA, a_run("run-2"))
    other = live.open(BEN, a_run("run-3"))
    assert live.forget(ANNA, "session-1") == [first, last]
    assert live.all() == [other]
    assert live.forgets == 1


async def test_runs_are_counted_per_owner_until_they_retire(live: LiveRuns) -> None:
    runs = [live.open(ANNA, a_run(f"run-{number}")) for number in range(3)]
    live.open(BEN, a_run("run-9"))
    assert (live.count(ANNA), live.count(BEN)) == (3, 1)
    live.retire(runs[0], linger_s=10)
    assert live.count(ANNA) == 2
    for run in runs[1:]:
        live.retire(run, linger_s=10)
    assert live.count(ANNA) == 0


async def test_a_run_counts_from_before_it_is_accepted(live: LiveRuns) -> None:
    with live.accepting(ANNA, "run-1"), live.accepting(ANNA, "run-1"):
        assert (live.count(ANNA), live.count(BEN)) == (1, 0)
        assert live.counts(ANNA, "run-1")
        run = live.open(ANNA, a_run("run-1"))
    assert live.count(ANNA) == 1
    live.retire(run, linger_s=10)
    assert not live.counts(ANNA, "run-1")
    with pytest.raises(ZeroDivisionError), live.accepting(ANNA, "run-2"):
        raise ZeroDivisionError
    assert live.count(ANNA) == 0


async def test_a_retired_run_lingers(live: LiveRuns) -> None:
    run = live.open(ANNA, a_run())
    live.retire(run, linger_s=10)
    await asyncio.sleep(9.9)
    assert live.find(ANNA, "run-1") is run
    await asyncio.sleep(0.2)
    assert live.find(ANNA, "run-1") is None
    assert live.all() == []


async def test_a_run_that_took_the_id_of_a_dropped_one_stays(live: LiveRuns) -> None:
    old = live.open(ANNA, a_run())
    live.retire(old, linger_s=10)
    live.drop(old)
    new = live.open(ANNA, a_run())
    await asyncio.sleep(11)
    assert live.find(ANNA, "run-1") is new

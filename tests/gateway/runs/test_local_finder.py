"""What may be replayed: a live run, a queued one, an ended one; what may not."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.runs.found import Expired, Readable, Untended
from gateway.runs.live_runs import LiveRuns
from gateway.runs.local_finder import LocalFinder
from gateway.runs.replay import Replayer
from gateway.wire.errors import NotFoundError
from gateway.wire.events import Done, content_delta
from storage.records import LogEntry, Owner, Run
from tests.gateway.runs.fakes import ANNA, BEN, NOW, Surroundings, a_run, at, text_of

DONE = Done(reason="stop", message_id="reply-of-run-1", saved=True).encode()


@dataclass
class Runs:
    """Stands for a store of which only the run rows and the log are needed."""

    around: Surroundings
    rows: dict[tuple[Owner, str], Run] = field(default_factory=dict)
    meanwhile: Any = None

    def of(self, owner: Owner) -> Any:
        async def get(run_id: str) -> Run | None:
            if self.meanwhile is not None:
                self.meanwhile()
            return self.rows.get((owner, run_id))

        return SimpleNamespace(runs=SimpleNamespace(get=get), log=self.around.log)

    def keep(self, **changes: Any) -> Run:
        run = a_run(**changes)
        self.rows[ANNA, run.run_id] = run
        return run


@pytest.fixture
def around() -> Surroundings:
    return Surroundings(at_once=True)


@pytest.fixture
def live(around: Surroundings) -> LiveRuns:
    return LiveRuns(lambda owner, run: around.make(run, owner))


@pytest.fixture
def runs(around: Surroundings) -> Runs:
    return Runs(around)


@pytest.fixture
def finder(runs: Runs, live: LiveRuns, around: Surroundings) -> LocalFinder:
    return LocalFinder(
        store=runs,  # type: ignore[arg-type] # only what `Runs` has is used
        live=live,
        replayer=Replayer(
            store=runs,  # type: ignore[arg-type] # only what `Runs` has is used
            transport=around.transport,
            spill=around.spill,
            clock=lambda: NOW,
        ),
    )


def entry(first: int, *events: bytes) -> LogEntry:
    return LogEntry(
        run_id="run-1", first=first, last=first + len(events) - 1, body=b"\n".join(events)
    )


async def test_a_live_run_is_followed_where_it_is_written(
    finder: LocalFinder, live: LiveRuns
) -> None:
    run = live.open(ANNA, a_run())
    run.emit([content_delta("a"), content_delta("b")])
    await run.settle()
    run.emit([content_delta("not kept yet")])
    found = await finder.find(ANNA, "run-1", at("c1"), after=0)
    assert found == Readable(feed=run.feed, session_id="session-1", state="running", last_seq=2)


async def test_a_live_run_without_an_event_waits(finder: LocalFinder, live: LiveRuns) -> None:
    live.open(ANNA, a_run())
    found = await finder.find(ANNA, "run-1", at("c1"), after=0)
    assert isinstance(found, Readable)
    assert (found.state, found.last_seq) == ("queued", 0)


async def test_an_ended_run_that_lingers_is_told_as_ended(
    finder: LocalFinder, live: LiveRuns
) -> None:
    run = live.open(ANNA, a_run())
    run.end([DONE], saved=True)
    found = await finder.find(ANNA, "run-1", at("c1"), after=0)
    assert isinstance(found, Readable)
    assert (found.state, found.last_seq, found.feed) == ("ended", 1, run.feed)


async def test_a_queued_run_of_before_a_restart_becomes_live(
    finder: LocalFinder, live: LiveRuns, runs: Runs
) -> None:
    runs.keep(state="queued")
    found = await finder.find(ANNA, "run-1", at("c1"), after=0)
    made = live.find(ANNA, "run-1")
    assert made is not None
    assert found == Readable(feed=made.feed, session_id="session-1", state="queued", last_seq=0)


async def test_a_queued_run_whose_session_may_be_gone_does_not_become_live(
    finder: LocalFinder, live: LiveRuns, runs: Runs
) -> None:
    run = runs.keep(state="queued")
    runs.meanwhile = lambda: live.forget(ANNA, run.session_id)
    found = await finder.find(ANNA, "run-1", at("c1"), after=0)
    assert found == Untended(run=run)
    assert live.all() == []
    assert live.count(ANNA) == 0


async def test_a_run_that_becomes_live_while_the_store_is_asked_is_found(
    finder: LocalFinder, live: LiveRuns, runs: Runs
) -> None:
    runs.keep(state="running")
    runs.meanwhile = lambda: live.open(ANNA, a_run())
    assert isinstance(await finder.find(ANNA, "run-1", at("c1"), after=0), Readable)


async def test_an_ended_run_is_replayed_from_its_log(
    finder: LocalFinder, runs: Runs, around: Surroundings
) -> None:
    runs.keep(state="ended", last_seq=4)
    around.log.kept += [
        entry(1, content_delta("春"), content_delta("です")),
        entry(3, content_delta("。"), DONE),
    ]
    found = await finder.find(ANNA, "run-1", at("c1"), after=0)
    assert isinstance(found, Readable)
    assert (found.state, found.last_seq, found.feed.complete) == ("ended", 4, True)
    found.feed.follow("c1", after=1)
    assert [number for number, _ in around.events("c1")] == [2, 3, 4]
    assert text_of(around.events("c1")) == "です。"


async def test_a_spilled_event_is_replayed_with_a_fresh_url(
    finder: LocalFinder, live: LiveRuns, runs: Runs, around: Surroundings
) -> None:
    run = live.open(ANNA, a_run())
    run.emit([content_delta("春" * 4_000), content_delta("after")])
    await run.settle()
    live.drop(run)
    runs.keep(state="ended", last_seq=2)
    found = await finder.find(ANNA, "run-1", at("c1"), after=0)
    assert isinstance(found, Readable)
    found.feed.follow("c1", after=0)
    assert [frame["type"] for frame in around.transport.answers("c1")] == ["payload", "events"]
    assert text_of(around.events("c1")) == "春" * 4_000 + "after"


async def test_two_resumes_of_an_ended_run_do_not_meet(
    finder: LocalFinder, runs: Runs, around: Surroundings
) -> None:
    runs.keep(state="ended", last_seq=1)
    around.log.kept.append(entry(1, DONE))
    for connection in ("c1", "c2"):
        found = await finder.find(ANNA, "run-1", at("c1"), after=0)
        assert isinstance(found, Readable)
        found.feed.follow(connection, after=0)
    assert around.events("c1") == around.events("c2") != []


@pytest.mark.parametrize(
    ("changes", "logged"),
    [
        ({"log_until": NOW}, 2),
        ({"log_until": NOW - 1}, 2),
        ({"last_seq": 3}, 2),
        ({}, 0),
    ],
    ids=["just expired", "expired", "log cut by a purge", "log gone"],
)
async def test_a_log_that_is_over_or_not_whole_is_not_replayed(
    finder: LocalFinder, runs: Runs, around: Surroundings, changes: dict[str, Any], logged: int
) -> None:
    run = runs.keep(**{"state": "ended", "last_seq": 2, **changes})
    if logged:
        around.log.kept.append(entry(1, content_delta("a"), DONE))
    assert await finder.find(ANNA, "run-1", at("c1"), after=0) == Expired(run=run)


@pytest.mark.parametrize("state", ["queued", "running", "ended"])
async def test_somebody_elses_run_does_not_exist(
    finder: LocalFinder, live: LiveRuns, runs: Runs, state: str
) -> None:
    runs.keep(state=state, last_seq=1)
    live.open(ANNA, a_run())
    with pytest.raises(NotFoundError):
        await finder.find(BEN, "run-1", at("c1"), after=0)
    with pytest.raises(NotFoundError):
        await finder.find(ANNA, "run-2", at("c1"), after=0)


async def test_a_claimed_run_that_is_not_here_is_said_to_be_elsewhere(
    finder: LocalFinder, runs: Runs
) -> None:
    run = runs.keep(state="running")
    assert await finder.find(ANNA, "run-1", at("c1"), after=0) == Untended(run=run)

"""The budget of posts in virtual time: never exceeded, shared fairly, used whole, harmless when it fails."""

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import Mapping
from itertools import pairwise

import pytest

from gateway.hosts.aws.post_budget import (
    ANSWER_S,
    BLIND_EVERY_S,
    BLIND_S,
    LATE_S,
    PLACES,
    SLACK_S,
    PostBudget,
    choose,
)
from storage.errors import StorageUnavailableError
from tests.gateway.hosts.aws.rates import most_in_a_second
from tests.gateway.runs.virtual_time import run_virtually

FLUSH_S = 0.1
POST_S = 0.03


@pytest.mark.parametrize(
    ("holders", "expected"),
    [
        ({}, 100),
        ({100: "b", 101: "b"}, 102),
        ({99: "a"}, 100),
        # Two tenants: after one's own slot comes one of the other's, but what is near is for all.
        ({90: "b", 104: "a"}, 100),
        ({90: "b", 100: "b", 101: "b", 104: "a"}, 106),
        ({90: "b", 100: "b", 101: "b", 104: "a", 106: "b"}, 107),
        ({90: "b", 91: "c", 100: "b", 101: "b", 104: "a"}, 107),
    ],
    ids=[
        "nobody else",
        "taken by others",
        "alone",
        "near",
        "not near",
        "not near and taken",
        "of three",
    ],
)
def test_a_tenant_asks_for_the_first_free_slot_that_is_its_due(
    holders: Mapping[int, str], expected: int
) -> None:
    assert choose(holders, "a", earliest=100, near=2) == expected


def test_who_was_refused_passes_over_some_that_others_may_ask_for() -> None:
    assert choose({101: "b"}, "a", earliest=100, near=2, passing=2) == 103


class Timetable:
    """What the processes share, with the delay of a database."""

    def __init__(self, *, delay_s: float = 0.005) -> None:
        self.windows: defaultdict[str, dict[int, str]] = defaultdict(dict)
        self.delay_s = delay_s
        self.failing = False
        self.asked = 0

    async def take(
        self, window: str, place: int, *, holder: str, expires_at: float
    ) -> Mapping[int, str]:
        assert 0 <= place < PLACES
        assert expires_at > asyncio.get_running_loop().time()
        self.asked += 1
        await asyncio.sleep(self.delay_s / 2)
        if self.failing:
            raise StorageUnavailableError
        self.windows[window].setdefault(place, holder)
        seen = dict(self.windows[window])
        await asyncio.sleep(self.delay_s / 2)
        return seen


class World:
    """Processes of one run each, that post as often as they may."""

    def __init__(self, per_second: float, slots: Timetable | None = None) -> None:
        self.slots = slots or Timetable()
        self.per_second = per_second
        self.posts: list[tuple[float, str]] = []
        self._chances = random.Random(7)

    def budget(self) -> PostBudget:
        return PostBudget(
            self.slots,
            per_second=self.per_second,
            clock=asyncio.get_running_loop().time,
            chance=self._chances.random,
        )

    async def post_for(self, tenant: str, seconds: float, budget: PostBudget | None = None) -> None:
        loop = asyncio.get_running_loop()
        slot = (budget or self.budget()).share_of(tenant)
        until = loop.time() + seconds
        while loop.time() < until:
            flushed = loop.time()
            await slot()
            self.posts.append((loop.time(), tenant))
            await asyncio.sleep(max(POST_S, flushed + FLUSH_S - loop.time()))

    def most_in_a_second(self) -> int:
        return most_in_a_second(sorted(at for at, _ in self.posts))

    def per_second_of(self, tenant: str, *, since: float, seconds: float) -> float:
        return sum(at >= since for at, name in self.posts if name == tenant) / seconds


def test_the_budget_is_never_exceeded_and_used_whole() -> None:
    async def work() -> None:
        world = World(50)
        await asyncio.gather(*(world.post_for("a", 4) for _ in range(20)))
        assert world.most_in_a_second() <= 50
        assert len(world.posts) >= 0.9 * 4 * 50

    run_virtually(work)


@pytest.mark.parametrize(("per_second", "runs"), [(0.5, 5), (7, 20), (200, 30)])
def test_any_budget_is_kept(per_second: float, runs: int) -> None:
    async def work() -> None:
        world = World(per_second)
        await asyncio.gather(*(world.post_for("a", 3) for _ in range(runs)))
        assert world.most_in_a_second() <= max(1, per_second)

    run_virtually(work)


def test_one_run_of_a_tenant_has_its_share_beside_nineteen_of_another() -> None:
    """It wants 10 posts a second at most; in turn with all runs it would get 2.5."""

    async def work() -> None:
        world = World(50)
        start = asyncio.get_running_loop().time()
        await asyncio.gather(world.post_for("b", 6), *(world.post_for("a", 6) for _ in range(19)))
        few = world.per_second_of("b", since=start + 1, seconds=5)
        many = world.per_second_of("a", since=start + 1, seconds=5)
        assert few >= 6
        assert few + many >= 45  # what it leaves is used
        assert world.most_in_a_second() <= 50

    run_virtually(work)


def test_tenants_that_all_want_more_get_the_same() -> None:
    async def work() -> None:
        world = World(50)
        start = asyncio.get_running_loop().time()
        runs = {"a": 30, "b": 15, "c": 10}
        await asyncio.gather(
            *(world.post_for(name, 6) for name, count in runs.items() for _ in range(count))
        )
        rates = [world.per_second_of(name, since=start + 1, seconds=5) for name in runs]
        assert min(rates) >= 0.6 * max(rates)
        assert sum(rates) >= 45

    run_virtually(work)


def test_without_pressure_nobody_waits_and_a_post_costs_one_write() -> None:
    async def work() -> None:
        world = World(50)
        budget = world.budget()
        loop = asyncio.get_running_loop()
        waited = []
        for _ in range(20):
            began = loop.time()
            await budget.share_of("a")()
            waited.append(loop.time() - began)
            await asyncio.sleep(0.1)
        assert max(waited) <= 0.05
        assert max(waited[10:]) <= 1 / 50 + 3 * world.slots.delay_s
        assert world.slots.asked == 20

    run_virtually(work)


def test_a_slot_that_was_missed_is_not_used() -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        slots = Timetable(delay_s=0.2)  # the first is over when its reservation is known
        budget = PostBudget(slots, per_second=50, clock=loop.time, chance=lambda: 0.0)
        await budget.share_of("a")()
        assert slots.asked >= 2
        last = max(
            int(w.partition("#")[2]) * PLACES + p for w, t in slots.windows.items() for p in t
        )
        assert loop.time() - last * (1 + SLACK_S) / 50 <= LATE_S

    run_virtually(work)


# When slots cannot be taken


@pytest.mark.parametrize("hanging", [False, True], ids=["fails", "hangs"])
def test_without_a_timetable_a_process_posts_at_a_low_rate(
    hanging: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        world = World(50)
        world.slots.failing = True
        world.slots.delay_s = 60.0 if hanging else 0.005
        budget = world.budget()
        with caplog.at_level(logging.WARNING):
            await asyncio.gather(*(world.post_for("a", 4, budget) for _ in range(5)))
        times = sorted(at for at, _ in world.posts)
        assert len(times) >= 6
        assert all(later - earlier >= BLIND_EVERY_S - 1e-6 for earlier, later in pairwise(times))
        assert times[0] - 1_000 <= ANSWER_S + BLIND_EVERY_S
        assert len(caplog.records) == 1

    run_virtually(work)


def test_the_budget_holds_again_when_slots_can_be_taken() -> None:
    async def work() -> None:
        world = World(50)
        budget = world.budget()
        world.slots.failing = True
        await budget.share_of("a")()
        world.slots.failing = False
        await asyncio.sleep(BLIND_S)
        asked = world.slots.asked
        await budget.share_of("a")()
        assert world.slots.asked == asked + 1

    run_virtually(work)

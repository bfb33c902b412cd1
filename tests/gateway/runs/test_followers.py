"""Who follows what: readers of feeds, and subscribers of sessions."""

import asyncio
from dataclasses import replace

import pytest

from gateway.runs.feed import Feed
from gateway.runs.followers import BACKLOG_BYTES, SESSIONS_MAX, STALLED_S
from gateway.runs.live_run import LiveRun
from gateway.runs.live_runs import LiveRuns
from gateway.wire.errors import CloseCode
from gateway.wire.events import content_delta
from tests.gateway.runs.fakes import ANNA, BEN, FakeTransport, Surroundings, a_run
from tests.gateway.runs.virtual_time import idle


@pytest.fixture
def around() -> Surroundings:
    return Surroundings()


@pytest.fixture
def live(around: Surroundings) -> LiveRuns:
    return LiveRuns(lambda owner, run: around.make(run, owner))


async def test_a_connection_follows_many_runs_and_leaves_them_all(
    live: LiveRuns, around: Surroundings
) -> None:
    around.log.at_once = True
    first, second = live.open(ANNA, a_run("run-1")), live.open(ANNA, a_run("run-2"))
    live.followers.follow(first.feed, "c1", after=0)
    live.followers.follow(second.feed, "c1", after=0)
    live.followers.follow(second.feed, "c2", after=0)
    live.followers.leave("c1")
    assert not first.feed.follows("c1")
    assert not second.feed.follows("c1")
    assert second.feed.follows("c2")
    live.followers.leave("c1")


async def test_leaving_stops_no_run(live: LiveRuns, around: Surroundings) -> None:
    around.log.at_once = True
    run = live.open(ANNA, a_run())
    live.followers.follow(run.feed, "c1", after=0)
    live.followers.leave("c1")
    run.emit([content_delta("a")])
    await run.settle()
    assert run.feed.kept == 1
    assert not run.cancelled


async def test_an_ended_run_that_is_resumed_twice_has_one_reader(
    live: LiveRuns, around: Surroundings
) -> None:
    transport = around.transport
    transport.full.add("c1")
    in_flight = []
    for _ in range(3):
        feed = Feed(run_id="run-1", owner=ANNA, transport=transport, spill=around.spill)
        feed.events.extend([content_delta("x" * 6_000)] * 2)  # two frames
        feed.advance(2, complete=True)
        live.followers.follow(feed, "c1", after=0)
        in_flight.append(transport.waiting.pop("c1"))
    transport.full.clear()
    for future in in_flight:
        future.set_result(None)
    await idle()
    came = [frame["first_seq"] for frame in transport.answers("c1")]
    assert came == [1, 1, 1, 2]  # the last one asked for goes on, alone


async def test_complete_feeds_are_not_remembered_for_a_connection(live: LiveRuns) -> None:
    for number in range(100):
        run = live.open(ANNA, a_run(f"run-{number}"))
        live.followers.follow(run.feed, "c1", after=0)
        run.feed.advance(0, complete=True)
    assert len(live.followers._feeds["c1"]) == 1


def answer(live: LiveRuns, run_id: str, size: int) -> LiveRun:
    """Have a run answered at once with so many bytes of text."""
    run = live.open(ANNA, a_run(run_id))
    run.feed.events += [content_delta("x" * 8_000) for _ in range(size // 8_000)]
    run.feed.advance(len(run.feed.events), complete=True)
    live.retire(run, linger_s=10)
    return run


class StalledTransport(FakeTransport):
    """To connections that are full, a frame of each of many feeds is in flight, for ever."""

    def post(self, connection_id: str, frame: bytes) -> asyncio.Future[None] | None:
        pending = super().post(connection_id, frame)
        self.waiting.pop(connection_id, None)
        return pending


async def test_who_leaves_answer_after_answer_unread_is_closed(
    live: LiveRuns, around: Surroundings
) -> None:
    around.transport = StalledTransport()
    for phone in ("stuck", "phone"):
        live.followers.subscribe(ANNA, "session-1", phone)
    around.transport.full.add("stuck")
    feeds = []
    for number in range(6):
        assert around.transport.closed == []
        feeds.append(answer(live, f"run-{number}", BACKLOG_BYTES // 3).feed)
        await asyncio.sleep(STALLED_S)
    assert around.transport.closed == [("stuck", CloseCode.RATE, "too much is unread")]
    assert not any(feed.follows("stuck") for feed in feeds)
    assert all(feed.follows("phone") for feed in feeds)
    answer(live, "run-6", 8_000)
    await idle()
    assert len(around.transport.closed) == 1


async def test_one_answer_may_be_as_long_as_it_likes(live: LiveRuns, around: Surroundings) -> None:
    live.followers.subscribe(ANNA, "session-1", "slow")
    around.transport.full.add("slow")
    answer(live, "run-1", 2 * BACKLOG_BYTES)
    follows = live.open(ANNA, a_run("run-2")).feed.follows("slow")
    await idle()
    assert not around.transport.closed
    assert follows


async def test_who_leaves_many_short_answers_unread_is_closed(
    live: LiveRuns, around: Surroundings
) -> None:
    around.transport = StalledTransport()
    live.followers.subscribe(ANNA, "session-1", "stuck")
    around.transport.full.add("stuck")
    feeds = [answer(live, f"run-{number}", 8_000).feed for number in range(BACKLOG_BYTES // 8_000)]
    await asyncio.sleep(STALLED_S)
    feeds += [answer(live, f"last-{number}", 8_000).feed for number in range(2)]
    await idle()
    assert not around.transport.closed, "what came just now may be taken yet"
    await asyncio.sleep(STALLED_S)
    live.open(ANNA, a_run("one-more"))
    await idle()
    assert len(around.transport.closed) == 1
    assert not any(feed.follows("stuck") for feed in feeds)


class SlowTransport(FakeTransport):
    """Takes one frame of each reader in `every_s` seconds, and so goes on for ever."""

    every_s = STALLED_S / 4

    def post(self, connection_id: str, frame: bytes) -> asyncio.Future[None] | None:
        super().post(connection_id, frame)
        return asyncio.ensure_future(asyncio.sleep(self.every_s))


async def test_who_reads_a_burst_of_long_answers_slowly_is_not_closed(
    live: LiveRuns, around: Surroundings
) -> None:
    around.transport = SlowTransport()
    feeds = [answer(live, f"run-{number}", BACKLOG_BYTES // 2).feed for number in range(8)]
    for feed in feeds:
        live.followers.follow(feed, "slow", after=0)
        await asyncio.sleep(STALLED_S / 2)
    assert sum(feed.is_ahead_of("slow") for feed in feeds) == 8
    live.followers.follow(live.open(ANNA, a_run("one-more")).feed, "slow", after=0)
    for feed in feeds:
        while feed.is_ahead_of("slow"):
            await feed.delivered()
    assert len(around.transport.frames["slow"]) == sum(len(feed.events) for feed in feeds)
    assert not around.transport.closed


@pytest.mark.parametrize("resumed", [True, False])
async def test_what_was_read_of_an_answer_counts_no_more(
    live: LiveRuns, around: Surroundings, resumed: bool
) -> None:
    """Whether it was read on this connection, or on one before."""
    around.transport = StalledTransport()
    for number in range(4):
        feed = answer(live, f"run-{number}", BACKLOG_BYTES).feed
        last = len(feed.events) - 1
        if resumed:
            around.transport.full.add("slow")
            live.followers.follow(feed, "slow", after=last)
        else:
            around.transport.full.clear()
            feed.advance(last)
            live.followers.follow(feed, "slow", after=0)
            around.transport.full.add("slow")
            feed.advance(last + 1, complete=True)
        assert feed.is_ahead_of("slow")
        await asyncio.sleep(STALLED_S)
    live.followers.follow(live.open(ANNA, a_run("one-more")).feed, "slow", after=0)
    await idle()
    assert not around.transport.closed


async def test_what_was_read_late_counts_no_more(live: LiveRuns, around: Surroundings) -> None:
    live.followers.subscribe(ANNA, "session-1", "slow")
    for number in range(5):
        around.transport.full.add("slow")
        feed = answer(live, f"run-{number}", BACKLOG_BYTES).feed
        around.transport.full.clear()
        around.transport.drain("slow")
        await idle()
        assert not feed.is_ahead_of("slow")
    assert not around.transport.closed


async def test_who_leaves_lets_go_of_what_it_has_not_read(
    live: LiveRuns, around: Surroundings
) -> None:
    live.followers.subscribe(ANNA, "session-1", "slow")
    around.transport.full.add("slow")
    feed = answer(live, "run-1", BACKLOG_BYTES).feed
    live.open(ANNA, a_run("run-2"))
    live.followers.leave("slow")
    assert not feed.follows("slow")


# Following a session


async def test_a_subscriber_reads_every_later_run_of_its_session(
    live: LiveRuns, around: Surroundings
) -> None:
    around.log.at_once = True
    assert live.followers.subscribe(ANNA, "session-1", "phone")
    live.open(BEN, a_run("run-2")).emit([content_delta("not for her")])
    live.open(ANNA, replace(a_run("run-3"), session_id="session-2"))
    live.open(ANNA, a_run("run-1"))
    assert [each.run.run_id for each in live.all() if each.feed.follows("phone")] == ["run-1"]
    live.followers.unsubscribe(ANNA, "session-1", "phone")
    assert not live.open(ANNA, a_run("run-4")).feed.follows("phone")


async def test_who_leaves_follows_no_session(live: LiveRuns) -> None:
    live.followers.subscribe(ANNA, "session-1", "phone")
    live.followers.subscribe(ANNA, "session-1", "tablet")
    live.followers.leave("phone")
    run = live.open(ANNA, a_run("run-1"))
    assert run.feed.readers == ("tablet",)
    live.followers.leave("tablet")
    live.followers.unsubscribe(ANNA, "session-1", "tablet")
    assert not live.followers._subscribers
    assert not live.followers._subscribed


async def test_one_connection_follows_a_bounded_number_of_sessions(live: LiveRuns) -> None:
    for number in range(SESSIONS_MAX):
        assert live.followers.subscribe(ANNA, f"session-{number}", "phone")
    assert not live.followers.subscribe(ANNA, "one-more", "phone")
    assert live.followers.subscribe(ANNA, "session-0", "phone")


def test_a_connection_is_known_as_one_users(live: LiveRuns) -> None:
    """Its first user may not have become that after all: it says `hello` again, as another."""
    followers = live.followers
    followers.register(ANNA, "c1")
    followers.register(ANNA, "c2")
    followers.register(BEN, "c1")
    assert (followers.connections_of(ANNA), followers.connections_of(BEN)) == (("c2",), ("c1",))
    followers.leave("c1")
    followers.leave("c2")
    assert not followers.connections_of(ANNA)
    assert not followers.connections_of(BEN)

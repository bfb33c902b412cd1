"""A cursor of one connection: backpressure, gone connections, moving about, independence."""

import logging

import pytest

from gateway.runs.feed import Feed
from gateway.runs.transport import GoneError, UndeliveredError
from gateway.wire.events import content_delta
from gateway.wire.limits import FRAME_TARGET_BYTES
from storage.errors import StorageUnavailableError
from storage.records import BlobRef
from tests.gateway.runs.fakes import ANNA, Surroundings
from tests.gateway.runs.virtual_time import idle


class Fed(Surroundings):
    """A feed that the test fills without a log."""

    def __init__(self) -> None:
        super().__init__()
        self.feed = Feed(run_id="run-1", owner=ANNA, transport=self.transport, spill=self.spill)

    def grow(self, count: int = 1, size: int = 1) -> None:
        start = len(self.feed.events)
        self.feed.events += [
            content_delta(f"{number}." * size) for number in range(start + 1, start + count + 1)
        ]
        self.feed.advance(len(self.feed.events))

    def numbers(self, connection: str = "c1") -> list[int]:
        return [number for number, _ in self.events(connection)]


@pytest.fixture
def fed() -> Fed:
    return Fed()


def frames(fed: Fed, connection: str = "c1") -> int:
    return len(fed.transport.frames[connection])


# Following


async def test_a_reader_gets_what_is_there_and_then_what_comes(fed: Fed) -> None:
    fed.grow(3)
    fed.feed.follow("c1", after=0)
    fed.grow(2)
    assert fed.numbers() == [1, 2, 3, 4, 5]
    assert frames(fed) == 2


@pytest.mark.parametrize(("after", "first"), [(0, 1), (2, 3), (4, 5), (99, 5)])
async def test_a_reader_begins_where_it_asks_to(fed: Fed, after: int, first: int) -> None:
    fed.grow(4)
    fed.feed.follow("c1", after=after)
    fed.grow()
    assert fed.numbers() == list(range(first, 6))


async def test_an_empty_feed_sends_nothing(fed: Fed) -> None:
    fed.feed.follow("c1", after=0)
    assert frames(fed) == 0
    assert fed.feed.follows("c1")


async def test_following_again_moves_the_cursor(fed: Fed) -> None:
    fed.grow(4)
    fed.feed.follow("c1", after=3)
    fed.feed.follow("c1", after=1)
    assert fed.numbers() == [4, 2, 3, 4]


async def test_nothing_beyond_what_is_kept_is_sent(fed: Fed) -> None:
    fed.grow(2)
    fed.feed.events.append(content_delta("not kept"))
    fed.feed.follow("c1", after=0)
    assert fed.numbers() == [1, 2]


# Backpressure


async def test_one_frame_is_in_flight_to_a_full_connection(fed: Fed) -> None:
    fed.transport.full.add("c1")
    fed.feed.follow("c1", after=0)
    for _ in range(10):
        fed.grow()
    assert fed.numbers() == [1]
    fed.transport.drain("c1")
    await idle()
    assert fed.numbers() == list(range(1, 11))
    assert frames(fed) == 2


async def test_a_slow_reader_costs_a_cursor_and_frames_of_the_usual_size(fed: Fed) -> None:
    fed.transport.full.add("c1")
    fed.feed.follow("c1", after=0)
    fed.grow(200, size=100)
    while "c1" in fed.transport.waiting:
        fed.transport.drain("c1")
        await idle()
    assert fed.numbers() == list(range(1, 201))
    assert max(map(len, fed.transport.frames["c1"])) <= FRAME_TARGET_BYTES + 500


async def test_a_slow_reader_does_not_delay_another(fed: Fed) -> None:
    fed.transport.full.add("slow")
    fed.feed.follow("slow", after=0)
    fed.feed.follow("quick", after=0)
    for _ in range(5):
        fed.grow()
    assert fed.numbers("quick") == [1, 2, 3, 4, 5]
    assert fed.numbers("slow") == [1]


async def test_the_cursor_may_be_moved_while_a_frame_is_in_flight(fed: Fed) -> None:
    fed.transport.full.add("c1")
    fed.grow(3)
    fed.feed.follow("c1", after=0)
    fed.feed.follow("c1", after=1)
    assert fed.numbers() == [1, 2, 3]
    fed.transport.drain("c1")
    await idle()
    assert fed.numbers() == [1, 2, 3, 2, 3]


# Leaving


async def test_a_connection_that_is_gone_is_followed_no_more(fed: Fed) -> None:
    fed.feed.follow("c1", after=0)
    fed.feed.follow("c2", after=0)
    fed.transport.leave("c1")
    fed.grow(2)
    assert not fed.feed.follows("c1")
    assert fed.feed.gone == {"c1"}
    assert fed.numbers("c2") == [1, 2]


async def test_a_connection_that_goes_while_a_frame_is_in_flight(fed: Fed) -> None:
    fed.transport.full.add("c1")
    fed.grow()
    fed.feed.follow("c1", after=0)
    fed.transport.leave("c1")
    await idle()
    assert not fed.feed.follows("c1")
    assert fed.feed.gone == {"c1"}


async def test_who_is_not_reached_is_followed_no_more_and_is_not_gone(fed: Fed) -> None:
    fed.transport.full.add("c1")
    fed.grow()
    fed.feed.follow("c1", after=0)
    fed.transport.drain("c1", UndeliveredError())
    await idle()
    assert not fed.feed.follows("c1")
    assert not fed.feed.gone


async def test_an_unfollowed_reader_gets_nothing_more(fed: Fed) -> None:
    fed.transport.full.add("c1")
    fed.grow()
    fed.feed.follow("c1", after=0)
    fed.feed.unfollow("c1")
    fed.grow()
    fed.transport.drain("c1")
    await idle()
    assert fed.numbers() == [1]
    fed.feed.unfollow("c1")


async def test_the_end_of_an_old_reader_is_not_that_of_the_new_one(fed: Fed) -> None:
    fed.transport.full.add("c1")
    fed.grow()
    fed.feed.follow("c1", after=0)
    in_flight = fed.transport.waiting.pop("c1")
    fed.feed.unfollow("c1")
    fed.feed.follow("c1", after=0)
    in_flight.set_exception(GoneError())
    await idle()
    assert fed.feed.follows("c1")


async def test_a_frame_that_cannot_be_posted_is_logged_and_ends_its_reader(
    fed: Fed, caplog: pytest.LogCaptureFixture
) -> None:
    fed.transport.full.add("c1")
    fed.grow()
    fed.feed.follow("c1", after=0)
    with caplog.at_level(logging.ERROR):
        fed.transport.drain("c1", RuntimeError("unforeseen"))
        await idle()
    assert not fed.feed.follows("c1")
    assert not fed.feed.gone
    assert [record.message for record in caplog.records] == ["a frame could not be posted"]


async def test_a_gone_connection_is_not_logged(fed: Fed, caplog: pytest.LogCaptureFixture) -> None:
    fed.transport.full.add("c1")
    fed.grow()
    fed.feed.follow("c1", after=0)
    fed.transport.leave("c1")
    await idle()
    assert caplog.records == []


# Counting


async def test_a_payload_says_whether_its_event_could_be_logged(fed: Fed) -> None:
    fed.feed.events += [BlobRef(key=key, bytes=20_000, sha256="0" * 64) for key in ("a", "b")]
    fed.feed.volatile_after = 1
    fed.feed.advance(2)
    fed.feed.follow("c1", after=0)
    assert [frame.get("volatile") for frame in fed.transport.answers("c1")] == [None, True]


async def test_a_payload_that_cannot_be_signed_ends_its_reader(
    fed: Fed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise StorageUnavailableError

    fed.feed.follow("c1", after=0)
    monkeypatch.setattr(fed.blobs, "sign_download", refuse)
    fed.feed.events.append(BlobRef(key="k", bytes=20_000, sha256="0" * 64))
    fed.feed.advance(1)
    assert (fed.feed.readers, fed.feed.gone) == ((), set())
    fed.feed.follow("c2", after=1)
    fed.grow()
    assert (fed.numbers("c1"), fed.numbers("c2")) == ([], [2])


async def test_posted_frames_and_bytes_are_counted_over_all_readers(fed: Fed) -> None:
    fed.feed.follow("c1", after=0)
    fed.feed.follow("c2", after=0)
    fed.grow()
    assert fed.feed.frames_posted == 2
    assert fed.feed.bytes_posted == 2 * len(fed.transport.frames["c1"][0])

"""Posting over @connections: order, repeats, pauses, gone connections, closing. On a real HTTP server."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from gateway.hosts.aws import connections_api as client
from gateway.hosts.aws import transport as rules
from gateway.hosts.aws.connections_api import ConnectionsApi
from gateway.hosts.aws.transport import ConnectionsTransport, FrameRefusedError, UnreachableError
from gateway.runs.transport import GoneError, UndeliveredError
from storage.errors import StorageUnavailableError
from tests.engines.connections_api import (
    BAD_REQUEST,
    BROKEN,
    CREDENTIALS,
    FORBIDDEN,
    MESSAGE_BYTES,
    REGION,
    TOO_MANY,
    connections_api,
)
from tests.engines.connections_api import ConnectionsApi as FakeApi
from tests.engines.fault_proxy import Answer, Fault

ID = "L0SM9cOFvHcCIhw="


class Posting:
    """A transport, and who was told of gone connections."""

    def __init__(self, api: FakeApi, **options: object) -> None:
        self.gone: list[str] = []
        self.row_stays = False
        self.client = ConnectionsApi(url=api.url, region=REGION, credentials=CREDENTIALS)
        self.transport = ConnectionsTransport(self.client, on_gone=self._on_gone, **options)  # type: ignore[arg-type]

    async def _on_gone(self, connection_id: str) -> None:
        self.gone.append(connection_id)
        if self.row_stays:
            raise StorageUnavailableError

    async def aclose(self) -> None:
        await self.transport.settle(within_s=0)
        await self.client.aclose()


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with connections_api() as api:
        yield api


@pytest.fixture
async def posting(api: FakeApi) -> AsyncIterator[Posting]:
    async with opened(api) as posting:
        yield posting


@asynccontextmanager
async def opened(api: FakeApi, **options: object) -> AsyncIterator[Posting]:
    posting = Posting(api, **options)
    try:
        yield posting
    finally:
        await posting.aclose()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test wait for seconds."""
    monkeypatch.setattr(client, "ATTEMPT_S", 0.25)
    monkeypatch.setattr(rules, "FAULT_PAUSE_S", 0.01)


# Posting


async def test_a_frame_arrives_as_it_is_and_signed(api: FakeApi, posting: Posting) -> None:
    frame = '{"text":"こんにちは 🌊"}'.encode()
    await posting.transport.post(ID, frame)
    assert api.arrived(ID) == [frame]
    assert api.statuses() == [200]


async def test_a_wrong_key_is_seen(api: FakeApi, quick: None) -> None:
    """The server's check of signatures can fail."""
    wrong = ConnectionsApi(
        url=api.url,
        region="eu-west-1",
        credentials=CREDENTIALS,
    )
    assert (await wrong.post(ID, b"x")).status == 403
    await wrong.aclose()


async def test_the_largest_frame_arrives(api: FakeApi, posting: Posting) -> None:
    await posting.transport.post(ID, b"x" * MESSAGE_BYTES)
    assert api.statuses() == [200]


async def test_posts_to_one_connection_go_one_after_the_other_in_their_order(
    api: FakeApi, posting: Posting
) -> None:
    api.delay_s = 0.01
    frames = [b"%d" % number for number in range(20)]
    await asyncio.gather(*(posting.transport.post(ID, frame) for frame in frames))
    assert api.arrived(ID) == frames
    assert not api.overlapping
    assert api.sockets == 1


async def test_several_senders_on_one_connection_take_turns(api: FakeApi, posting: Posting) -> None:
    async def send(name: str) -> None:
        for number in range(5):
            await posting.transport.post(ID, f"{name}{number}".encode())

    await asyncio.gather(send("a"), send("b"), send("c"))
    arrived = [frame.decode() for frame in api.arrived(ID)]
    assert [name[0] for name in arrived] == ["a", "b", "c"] * 5
    assert not api.overlapping


async def test_a_slow_connection_delays_no_other(api: FakeApi, posting: Posting) -> None:
    api.fail(Fault.HANG, connection_id="slow")
    slow = posting.transport.post("slow", b"x")
    await posting.transport.post("quick", b"y")
    assert api.arrived("quick") == [b"y"]
    assert not slow.done()


async def test_a_cancelled_post_lets_the_next_one_go(api: FakeApi, posting: Posting) -> None:
    api.fail(Fault.HANG)
    first = posting.transport.post(ID, b"1")
    second = posting.transport.post(ID, b"2")
    third = posting.transport.post(ID, b"3")
    while not api.requests:
        await asyncio.sleep(0.005)
    first.cancel()
    second.cancel()
    await third
    assert api.arrived(ID) == [b"3"]


# Faults


@pytest.mark.parametrize(
    ("fault", "copies"),
    [
        (Fault.CUT, 1),
        (Fault.HANG, 1),
        (BROKEN, 1),
        (FORBIDDEN, 1),
        (Answer(status=502), 1),
        (Fault.LOSE_REPLY, 2),
        (Fault.HANG_AFTER, 2),
    ],
    ids=["cut", "hang", "500", "403", "502", "lost reply", "late reply"],
)
async def test_after_a_fault_the_same_frame_is_posted_again(
    api: FakeApi, posting: Posting, quick: None, fault: Fault | Answer, copies: int
) -> None:
    """The client drops the second copy by its number."""
    api.fail(fault)
    await posting.transport.post(ID, b"1")
    await posting.transport.post(ID, b"2")
    assert api.arrived(ID) == [b"1"] * copies + [b"2"]


async def test_a_post_that_never_gets_through_ends_its_reader_and_is_logged(
    api: FakeApi, posting: Posting, quick: None, caplog: pytest.LogCaptureFixture
) -> None:
    api.fail(BROKEN, times=100)
    with caplog.at_level(logging.ERROR), pytest.raises(UnreachableError) as raised:
        await posting.transport.post(ID, b"1")
    assert api.statuses() == [500] * rules.ATTEMPTS
    assert [record.message for record in caplog.records] == ["a frame could not be posted"]
    assert isinstance(raised.value, UndeliveredError)
    assert not posting.gone


@pytest.mark.parametrize("answer", [BAD_REQUEST, Answer(status=404)], ids=["400", "404"])
async def test_what_no_repeat_would_change_is_not_repeated(
    api: FakeApi, posting: Posting, answer: Answer
) -> None:
    api.fail(answer, times=2)
    with pytest.raises(FrameRefusedError) as raised:
        await posting.transport.post(ID, b"1")
    assert isinstance(raised.value, UndeliveredError)
    assert len(api.requests) == 1


async def test_a_frame_that_is_too_large_ends_its_reader_and_is_logged(
    api: FakeApi, posting: Posting, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR), pytest.raises(FrameRefusedError):
        await posting.transport.post(ID, b"x" * (MESSAGE_BYTES + 1))
    assert api.statuses() == [413]
    assert [getattr(record, "bytes", 0) for record in caplog.records] == [MESSAGE_BYTES + 1]


async def test_connections_that_were_cut_while_frozen_cost_one_attempt(
    api: FakeApi, posting: Posting
) -> None:
    """However many were kept: the repeat goes on a new one."""
    await asyncio.gather(*(posting.transport.post(f"c{number}", b"1") for number in range(8)))
    api.drop_idle_connections()
    for number in range(8):
        await posting.transport.post(f"c{number}", b"2")
        assert api.arrived(f"c{number}") == [b"1", b"2"]


async def test_the_repeat_goes_on_a_new_connection(api: FakeApi, posting: Posting) -> None:
    """Of those that are kept, all may be broken without anybody having noticed."""
    await asyncio.gather(posting.transport.post("a", b"1"), posting.transport.post("b", b"1"))
    api.fail(Fault.CUT)
    await posting.transport.post("a", b"2")
    assert api.sockets == 3


async def test_an_error_that_nobody_foresaw_is_logged(
    posting: Posting, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(posting.client, "post", None)
    posting.transport.post(ID, b"1")
    await posting.transport.settle(within_s=5)
    assert [record.message for record in caplog.records] == ["posting broke"]


# 429


async def test_each_429_widens_the_gap_and_each_success_halves_it(api: FakeApi) -> None:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    api.fail(TOO_MANY, times=3)
    async with opened(api, chance=lambda: 1.0, pause=pause) as posting:
        for number in range(4):
            await posting.transport.post(ID, b"%d" % number)
    # After each 429, then after the posts that followed: none after the last one.
    assert pauses == [0.1, 0.2, 0.4, 0.2, 0.1, 0.0]
    assert api.arrived(ID) == [b"0", b"1", b"2", b"3"]


async def test_the_gap_is_bounded_and_spread(api: FakeApi) -> None:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    api.fail(TOO_MANY, times=8)
    async with opened(api, chance=lambda: 0.0, pause=pause) as posting:
        await posting.transport.post(ID, b"x")
    assert pauses[:8] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 1.6, 1.6]


async def test_a_connection_that_takes_nothing_is_given_up(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "GIVE_UP_S", 0.5)
    api.fail(TOO_MANY, times=100)
    async with opened(api) as posting:
        with pytest.raises(UnreachableError, match="429 LimitExceededException"):
            await posting.transport.post(ID, b"1")
    assert 3 <= len(api.requests) <= 7


# Gone


async def test_a_gone_connection_is_told_once(api: FakeApi, posting: Posting) -> None:
    api.gone.add(ID)
    posts = [posting.transport.post(ID, b"%d" % number) for number in range(3)]
    results = await asyncio.gather(*posts, return_exceptions=True)
    assert [type(result) for result in results] == [GoneError] * 3
    await posting.transport.settle(within_s=5)
    assert posting.gone == [ID]
    assert api.statuses() == [410]
    with pytest.raises(GoneError):
        posting.transport.post(ID, b"4")


async def test_a_row_that_cannot_be_removed_is_left_to_expire(
    api: FakeApi, posting: Posting, caplog: pytest.LogCaptureFixture
) -> None:
    posting.row_stays = True
    api.gone.add(ID)
    with pytest.raises(GoneError):
        await posting.transport.post(ID, b"1")
    await posting.transport.settle(within_s=5)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


# Closing


async def test_closing_follows_what_was_posted(api: FakeApi, posting: Posting) -> None:
    api.delay_s = 0.02
    fatal = posting.transport.post(ID, b'{"type":"error","fatal":true}')
    await posting.transport.close(ID, 4401, "auth.expired")
    assert fatal.done()
    assert [request.method for request in api.requests] == ["POST", "DELETE"]
    assert api.gone == {ID}
    with pytest.raises(GoneError):
        posting.transport.post(ID, b"more")


async def test_closing_a_closed_connection_is_harmless(api: FakeApi, posting: Posting) -> None:
    api.gone.add(ID)
    await posting.transport.close(ID, 1000, "")
    await posting.transport.close(ID, 1000, "")
    assert api.statuses() == [410]


async def test_a_connection_that_cannot_be_closed_is_logged(
    api: FakeApi, posting: Posting, quick: None, caplog: pytest.LogCaptureFixture
) -> None:
    api.fail(BROKEN, times=100)
    await posting.transport.close(ID, 1000, "")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert len(api.requests) == rules.CLOSE_ATTEMPTS


# Settling


async def test_settling_waits_for_what_is_under_way(api: FakeApi, posting: Posting) -> None:
    api.delay_s = 0.05
    for number in range(3):
        posting.transport.post(ID, b"%d" % number)
    await posting.transport.settle(within_s=5)
    assert len(api.arrived(ID)) == 3


async def test_settling_leaves_nothing_behind(api: FakeApi, posting: Posting) -> None:
    api.fail(Fault.HANG, times=2)
    posts = [posting.transport.post(name, b"x") for name in ("a", "a", "b")]
    await posting.transport.settle(within_s=0.05)
    assert all(post.cancelled() for post in posts)
    with pytest.raises(UndeliveredError):
        posting.transport.post("c", b"x")

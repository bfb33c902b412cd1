"""A generation and the processes around it: what each beat says, hears and does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.identity.principal import AUTH_GRACE_S
from gateway.runs.beat import BEAT_EVERY_S, LEASE_S, Beat
from gateway.runs.identities import Identities
from gateway.runs.transport import UndeliveredError
from gateway.wire.events import content_delta
from storage.errors import NotRunOwnerError, StorageError, StorageUnavailableError
from storage.records import Connection, Run, RunReader
from tests.gateway.runs.fakes import NOW, Surroundings, a_run, at, text_of
from tests.gateway.runs.virtual_time import idle

A_BEAT = BEAT_EVERY_S * 1.1
"""Surely one more beat has come."""


@dataclass
class Head:
    """What the processes share of one run."""

    run: Run | None = field(
        default_factory=lambda: a_run(state="running", claimed_by="claim-1", lease_until=NOW)
    )
    said: list[tuple[float, int]] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    connections: dict[str, Connection] = field(default_factory=dict)
    unsubscribed: list[str] = field(default_factory=list)
    failing: StorageError | None = None
    subscribers: list[RunReader] = field(default_factory=list)
    beat_takes_s: float = 0.0
    look_up_takes_s: float = 0.0

    async def beat(
        self, run_id: str, *, claimed_by: str, lease_until: float, last_seq: int
    ) -> Run | None:
        if self.failing is not None:
            raise self.failing
        self.said.append((lease_until, last_seq))
        as_it_was = self.run
        await asyncio.sleep(self.beat_takes_s)
        return as_it_was

    async def of(self, session_id: str, *, now: float) -> list[RunReader]:
        return self.subscribers

    async def join(self, run_id: str, reader: RunReader, *, now: float) -> Run | None:
        self.read(*self.readers, reader)
        return self.run

    async def leave(self, run_id: str, connection_id: str, *, nonce: str) -> None:
        self.left.append(connection_id)
        mine = connection_id, nonce
        self.read(*(each for each in self.readers if (each.connection_id, each.nonce) != mine))

    async def get(self, connection_id: str) -> Connection | None:
        await asyncio.sleep(self.look_up_takes_s)
        return self.connections.get(connection_id)

    async def remove(self, session_id: str, connection_id: str) -> None:
        if self.failing is not None:
            raise self.failing
        self.unsubscribed.append(connection_id)

    @property
    def readers(self) -> tuple[RunReader, ...]:
        return self.run.readers if self.run else ()

    def read(self, *readers: RunReader) -> None:
        assert self.run is not None
        self.run = replace(self.run, readers=readers)


def reader(
    connection_id: str, nonce: str = "1", *, after: int = 0, until: float = NOW + 900
) -> RunReader:
    return RunReader(connection_id=connection_id, after=after, nonce=nonce, auth_expires_at=until)


@dataclass
class House:
    head: Head
    around: Surroundings
    now: float = NOW
    unread_run_s: float = 0.0

    def beat(self) -> Beat:
        its: Any = SimpleNamespace(runs=self.head, subscribers=self.head)
        connections: Any = self.head
        return Beat(
            its=its,
            live=self.around.live,
            identities=Identities(connections, clock=lambda: self.now),
            clock=lambda: self.now,
            unread_run_s=self.unread_run_s,
        )

    def say(self, text: str) -> None:
        self.around.live.emit([content_delta(text)])

    def text(self, connection_id: str) -> str:
        return text_of(self.around.events(connection_id))


@pytest.fixture
def house() -> House:
    return House(Head(), Surroundings(at_once=True))


@asynccontextmanager
async def beating(house: House) -> AsyncIterator[Beat]:
    beat = house.beat()
    task = asyncio.create_task(beat.run())
    yield beat
    task.cancel()
    await asyncio.wait({task})


async def test_it_keeps_the_lease_and_says_how_far_the_log_is(house: House) -> None:
    async with beating(house):
        house.say("a")
        await asyncio.sleep(1.01)
        assert house.head.said == [(NOW + LEASE_S, 1)] * 4


async def test_a_new_reader_gets_what_it_lacks_and_the_rest(house: House) -> None:
    async with beating(house):
        house.say("a")
        house.say("b")
        house.head.read(reader("c1", after=1))
        await asyncio.sleep(A_BEAT)
        house.say("c")
        await asyncio.sleep(3 * A_BEAT)  # the same nonce again moves nothing
        assert house.text("c1") == "bc"


async def test_joining_again_starts_where_it_asks(house: House) -> None:
    async with beating(house):
        house.say("a")
        house.head.read(reader("c1"))
        await asyncio.sleep(A_BEAT)
        house.head.read(reader("c1", nonce="2"))
        await asyncio.sleep(A_BEAT)
        assert house.text("c1") == "aa"  # the client drops what it has


async def test_a_reader_that_left_gets_nothing_more(house: House) -> None:
    async with beating(house):
        house.head.read(reader("c1"), reader("c2"))
        await asyncio.sleep(A_BEAT)
        house.head.read(reader("c2"))
        await asyncio.sleep(A_BEAT)
        house.say("a")
        await idle()
        assert (house.text("c1"), house.text("c2")) == ("", "a")


async def test_a_reader_that_is_gone_is_taken_out_once(house: House) -> None:
    async with beating(house):
        house.head.read(reader("c1"), reader("c2"))
        await asyncio.sleep(A_BEAT)
        house.around.transport.leave("c1")
        house.say("a")
        await asyncio.sleep(5 * A_BEAT)
        assert house.head.left == house.head.unsubscribed == ["c1"]
        assert house.text("c2") == "a"


async def test_who_is_gone_is_told_of_until_it_is_known(house: House) -> None:
    async with beating(house):
        house.head.read(reader("c1"))
        await asyncio.sleep(A_BEAT)
        house.around.transport.leave("c1")
        house.head.failing = StorageUnavailableError()
        house.say("a")
        await asyncio.sleep(3 * A_BEAT)
        assert house.head.left == house.head.unsubscribed == []
        house.head.failing = None
        await asyncio.sleep(2 * A_BEAT)
        assert house.head.left == house.head.unsubscribed == ["c1"]


async def test_a_reader_that_is_not_reached_goes_on_following_the_session(house: House) -> None:
    async with beating(house):
        house.around.transport.full.add("c1")
        house.head.read(reader("c1"))
        await asyncio.sleep(A_BEAT)
        house.say("a")
        await idle()
        house.around.transport.full.clear()
        house.around.transport.drain("c1", UndeliveredError())
        await asyncio.sleep(2 * A_BEAT)
        assert (house.head.left, house.head.unsubscribed) == (["c1"], [])
        house.head.read(reader("c1", nonce="2"))
        await asyncio.sleep(A_BEAT)
        assert house.text("c1") == "aa"


async def test_who_joins_again_before_it_is_taken_out_stays(house: House) -> None:
    async with beating(house):
        house.head.read(reader("c1"))
        await asyncio.sleep(A_BEAT)
        house.around.transport.full.add("c1")
        house.say("a")
        await idle()
        house.around.transport.full.clear()
        beats = len(house.head.said)
        beat = house.head.beat

        async def join_after(*args: Any, **kwargs: Any) -> Run | None:
            said = await beat(*args, **kwargs)
            house.head.read(reader("c1", nonce="2"))  # HEAD was read a moment before
            return said

        house.head.beat = join_after  # type: ignore[method-assign] # for one beat
        house.around.transport.drain("c1", UndeliveredError())
        while len(house.head.said) == beats:
            await asyncio.sleep(BEAT_EVERY_S)
        await asyncio.sleep(A_BEAT)
        assert house.text("c1") == "aa"


async def test_a_reader_whose_identity_is_over_gets_nothing_more(house: House) -> None:
    async with beating(house):
        house.head.read(reader("c1", until=NOW + 5))
        await asyncio.sleep(A_BEAT)
        house.now = NOW + 5 + AUTH_GRACE_S - 0.1
        await asyncio.sleep(A_BEAT)
        house.say("a")
        await idle()
        house.now += 0.2
        await asyncio.sleep(A_BEAT)
        house.say("b")
        await idle()
        assert house.text("c1") == "a"


async def test_a_reader_whose_identity_was_renewed_gets_the_rest(house: House) -> None:
    async with beating(house):
        house.head.read(reader("c1", until=NOW + 5))
        await asyncio.sleep(A_BEAT)
        house.say("a")
        await idle()
        house.head.connections["c1"] = at("c1", auth_expires_at=NOW + 900)
        house.now = NOW + 5 + AUTH_GRACE_S
        await asyncio.sleep(2 * A_BEAT)
        house.say("b")
        await idle()
        assert house.text("c1") == "ab"


async def test_a_beat_that_is_overtaken_lets_nobody_go(house: House) -> None:
    house.say("a")
    house.head.beat_takes_s = 1.0
    house.head.subscribers = [reader("c1")]
    async with beating(house) as beat:
        await asyncio.sleep(A_BEAT)
        await beat.welcome_subscribers()  # while a beat is on its way that knows no reader
        await asyncio.sleep(3)
        house.say("b")
        await idle()
        assert house.text("c1") == "ab"


async def test_who_joins_while_another_is_looked_up_costs_nobody_its_place(house: House) -> None:
    house.say("a")
    house.head.read(reader("c1", until=NOW + 5))
    async with beating(house) as beat:
        await asyncio.sleep(A_BEAT)
        house.head.connections["c1"] = at("c1", auth_expires_at=NOW + 900)
        house.head.look_up_takes_s = 1.0
        house.now = NOW + 5 + AUTH_GRACE_S
        await asyncio.sleep(BEAT_EVERY_S)
        house.head.subscribers = [reader("c2")]
        await beat.welcome_subscribers()  # while a beat asks for the record of the first
        await asyncio.sleep(3)
        house.say("b")
        await idle()
        assert (house.text("c1"), house.text("c2")) == ("ab", "ab")


async def test_a_cancel_stops_the_generation_once(house: House) -> None:
    stopped: list[bool] = []
    house.around.live.stopped_by(lambda: stopped.append(True))
    async with beating(house):
        assert house.head.run is not None
        house.head.run = replace(house.head.run, cancel_at=NOW)
        await asyncio.sleep(5 * A_BEAT)
    assert stopped == [True]
    assert house.around.live.cancelled


async def test_a_run_that_nobody_reads_is_stopped_and_not_cancelled(house: House) -> None:
    stopped: list[bool] = []
    house.unread_run_s = 6.0
    house.head.read(reader("c1"))
    house.around.live.stopped_by(lambda: stopped.append(True))
    async with beating(house):
        await asyncio.sleep(10)
        house.head.read()
        await asyncio.sleep(5)
        house.head.read(reader("c2"))  # who comes back in time
        await asyncio.sleep(2)
        assert stopped == []
        house.head.read()
        await asyncio.sleep(7)
    assert stopped == [True]
    assert not house.around.live.cancelled


async def test_while_head_tells_nothing_no_run_counts_as_unread(house: House) -> None:
    stopped: list[bool] = []
    house.unread_run_s = 6.0
    house.around.live.stopped_by(lambda: stopped.append(True))
    house.head.failing = StorageUnavailableError()
    async with beating(house):
        await asyncio.sleep(10)
        house.head.failing = None
        house.head.read(reader("c1"))  # joined meanwhile
        await asyncio.sleep(10)
    assert stopped == []


async def test_who_is_the_owner_no_more_posts_nothing_more(house: House) -> None:
    stopped: list[bool] = []
    house.around.live.stopped_by(lambda: stopped.append(True))
    house.head.failing = NotRunOwnerError()
    async with asyncio.timeout(1):
        await house.beat().run()
    house.say("a")
    assert (stopped, house.around.live.lost) == ([True], True)
    assert not house.around.live.cancelled


async def test_a_forgotten_run_is_stopped(house: House) -> None:
    house.head.run = None
    async with asyncio.timeout(1):
        await house.beat().run()
    assert house.around.live.forgotten


async def test_a_beat_that_is_refused_is_followed_by_others(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    house.head.failing = StorageUnavailableError()
    async with beating(house):
        await asyncio.sleep(4 * A_BEAT)
        house.head.failing = None
        house.head.read(reader("c1"))
        await asyncio.sleep(A_BEAT)
        house.say("a")
        await idle()
        assert house.text("c1") == "a"
    assert [record.message for record in caplog.records] == ["beat refused"]

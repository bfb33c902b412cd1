"""Whose identity holds: what readers said as they joined, and what their records say since."""

import asyncio
from dataclasses import dataclass, field

import pytest

from gateway.identity.principal import AUTH_GRACE_S
from gateway.runs.identities import ASK_AGAIN_S, Identities
from storage.errors import StorageUnavailableError
from storage.records import Connection, RunReader
from tests.gateway.runs.fakes import NOW, at
from tests.gateway.runs.virtual_time import idle

UNTIL = NOW + 100
OVER = UNTIL + AUTH_GRACE_S


@dataclass
class House:
    """Connection records that count how often they are read."""

    records: dict[str, Connection] = field(default_factory=dict)
    now: float = NOW
    reads: int = 0
    gate: asyncio.Event | None = None
    failing: bool = False

    def __post_init__(self) -> None:
        self.identities = Identities(self, clock=lambda: self.now)

    async def get(self, connection_id: str) -> Connection | None:
        self.reads += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.failing:
            raise StorageUnavailableError("told to")
        return self.records.get(connection_id)

    async def save(self, connection: Connection) -> None:
        self.records[connection.connection_id] = connection

    async def remove(self, connection_id: str) -> None:
        self.records.pop(connection_id, None)

    async def holds(self, connection_id: str = "c1") -> bool:
        reader = RunReader(connection_id=connection_id, after=0, nonce="1", auth_expires_at=UNTIL)
        holding = await self.identities.holding([reader])
        assert holding in ([], [reader])
        return bool(holding)


@pytest.fixture
def house() -> House:
    return House(records={"c1": at("c1", auth_expires_at=UNTIL)})


async def test_an_identity_holds_until_its_grace_is_over_without_a_look(house: House) -> None:
    assert await house.holds()
    house.now = OVER - 0.1
    assert await house.holds()
    assert house.reads == 0


async def test_one_that_is_over_is_looked_at_again_now_and_then(house: House) -> None:
    house.now = OVER
    for _ in range(3):
        assert not await house.holds()
    assert house.reads == 1
    await house.save(at("c1", auth_expires_at=OVER + 900))
    house.now += ASK_AGAIN_S
    assert await house.holds()
    assert house.reads == 2


async def test_one_that_was_renewed_holds_and_is_read_once_in_its_life(house: House) -> None:
    await house.save(at("c1", auth_expires_at=UNTIL + 900))
    for seconds in range(0, 900, 10):
        house.now = OVER + seconds
        assert await house.holds()
    assert house.reads == 1
    house.now = OVER + 900
    assert not await house.holds()
    await house.save(at("c1", auth_expires_at=UNTIL + 1800))
    house.now += ASK_AGAIN_S
    assert await house.holds()


async def test_a_connection_that_is_closed_has_none(house: House) -> None:
    await house.remove("c1")
    house.now = OVER
    assert not await house.holds()


async def test_nobody_is_let_in_because_the_records_cannot_be_read(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    await house.save(at("c1", auth_expires_at=UNTIL + 900))
    house.failing = True
    house.now = OVER
    assert not await house.holds("c1")
    assert not await house.holds("c2")
    house.failing = False
    assert not await house.holds("c1")
    assert house.reads == 1, "a beat waits for each read"
    assert [record.message for record in caplog.records] == ["a renewal cannot be looked up"]
    house.now += ASK_AGAIN_S
    assert await house.holds()


async def test_who_is_being_looked_up_is_left_out_by_nobody(house: House) -> None:
    await house.save(at("c1", auth_expires_at=OVER + 900))
    house.now, house.gate = OVER, asyncio.Event()
    asking = [asyncio.create_task(house.holds()) for _ in range(3)]
    await idle()
    house.gate.set()
    assert await asyncio.gather(*asking) == [True, True, True]
    assert house.reads == 1

"""What a reply costs: every item of the hot path is small, and no write is made twice."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from storage.keys import run_id
from storage.records import (
    MAX_READERS,
    Acceptance,
    LogEntry,
    Memory,
    Message,
    Owner,
    Run,
    RunReader,
)
from storage.repositories import SharedRepositories
from tests.engines.processes import Engine
from tests.storage.dynamodb.metered import Metered
from tests.storage.dynamodb.stores import Tables, new_tables
from tests.storage.samples import append, completion, send

# Ids as they really are: a tenant's name, a Cognito `sub`, ULIDs, a client's UUID, API Gateway's ids.
OWNER = Owner(tenant_id="makoto-demo", user_id="8f2e4c1a-93b7-4d55-a1f0-6c7d2e9b0f34")
SESSION_ID = "01jd8xk3v9q2m7r5t0w4y6z8ab"
SEND_ID = "5f0c8e9a-2b7d-4e61-9c3f-a1b2c3d4e5f6"
AT = 1_795_270_527.392642
CLAIM = "9f8e7d6c5b4a39281706f5e4d3c2b1a0"

TOKENS = 500
APPENDS = 50
BEATS = 20
BUDGET = 110
"""Write units of one such reply, from `send` to `done`."""


def reader(number: int = 0) -> RunReader:
    return RunReader(
        connection_id=f"L0SM9cOFvHcCIh{number}=",
        after=1234,
        nonce="01jd8xk3v9q2m7r5t0w4y6z8ac",
        auth_expires_at=1_795_274_127.0,
    )


def acceptance(*, new: bool) -> Acceptance:
    asked = send(SEND_ID, owner=OWNER, session_id=SESSION_ID, new=new, at=AT)
    run = replace(
        asked.run,
        run_id=run_id(OWNER, SEND_ID),
        message_id="01jd8xk3v9q2m7r5t0w4y6z8ad",
        reply_id="01jd8xk3v9q2m7r5t0w4y6z8ae",
    )
    assert asked.message is not None
    message = replace(asked.message, message_id=run.message_id, run_id=run.run_id)
    return replace(asked, run=run, message=message, reader=reader())


def slot(run: Run, number: int) -> LogEntry:
    """Ten tokens as one event of text."""
    text = "ten tokens of words that a model said right now... "
    body = f'{{"type":"content.delta","text":"{text}"}}'.encode()
    return LogEntry(run_id=run.run_id, first=number, last=number, body=body)


def end_of(run: Run) -> tuple[Message, Memory]:
    reply = Message(
        message_id=run.reply_id,
        session_id=run.session_id,
        role="assistant",
        content="ten tokens of words that a model said right now... " * (TOKENS // 10),
        created_at=AT + 5,
        run_id=run.run_id,
        reply_to=run.message_id,
        emotion="joy",
        category="talk",
        end="stop",
    )
    memory = Memory(
        memory_id="01jd8xk3v9q2m7r5t0w4y6z8af",
        value="likes cherry blossoms",
        created_at=AT + 5,
        session_id=run.session_id,
        message_id=run.reply_id,
    )
    return reply, memory


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    tables: Tables
    meter: Metered
    mine: SharedRepositories


@pytest.fixture
async def world(dynoxide: Engine, tmp_path: Path) -> AsyncIterator[World]:
    async with new_tables(dynoxide.url, tmp_path) as tables:
        meter = Metered(tables.client())
        store = tables.store(meter)
        try:
            yield World(tables=tables, meter=meter, mine=store.of(OWNER))
        finally:
            await store.aclose()


async def answer(world: World, asked: Acceptance) -> None:
    """Let a message be answered in 500 tokens within 5 seconds, from the accept to the end."""
    runs, log = world.mine.runs, world.mine.log
    await runs.accept(asked)
    run = await runs.claim(asked.run.run_id, claimed_by=CLAIM, lease_until=AT + 10.25)
    for number in range(1, APPENDS + 1):
        await append(log, slot(run, number), claimed_by=CLAIM)
        if number % (APPENDS / BEATS) < 1:
            await runs.beat(run.run_id, claimed_by=CLAIM, lease_until=AT + number, last_seq=number)
    end = completion(run, claimed_by=CLAIM, first=APPENDS + 1, at=AT + 5)
    reply, memory = end_of(run)
    await runs.finish(replace(end, reply=reply, memories=(memory,)))


async def test_a_reply_costs_no_more_than_its_budget_of_writes(world: World) -> None:
    await answer(world, acceptance(new=True))

    assert world.meter.calls["PutItem"] == APPENDS
    assert world.meter.calls["UpdateItem"] == BEATS + 1
    assert world.meter.calls["TransactWriteItems"] == 2
    assert world.meter.writes <= BUDGET
    assert world.meter.reads <= 4


async def test_a_reply_in_an_old_session_costs_no_more(world: World) -> None:
    opening = send("opening", owner=OWNER, session_id=SESSION_ID, new=True, at=AT - 60)
    await world.mine.runs.accept(opening)
    first = opening.run
    await world.mine.runs.claim(first.run_id, claimed_by=CLAIM, lease_until=AT)
    await world.mine.runs.finish(completion(first, claimed_by=CLAIM, at=AT - 50))
    before = world.meter.writes
    await answer(world, acceptance(new=False))

    assert world.meter.calls["TransactWriteItems"] == 4
    assert world.meter.writes - before <= BUDGET


async def test_a_beat_costs_one_unit_however_many_read(world: World) -> None:
    run = acceptance(new=True).run
    await world.mine.runs.accept(acceptance(new=True))
    await world.mine.runs.claim(run.run_id, claimed_by=CLAIM, lease_until=AT + 10.25)
    for number in range(1, MAX_READERS):
        await world.mine.runs.join(run.run_id, reader(number), now=AT)
    before = world.meter.writes
    await world.mine.runs.beat(run.run_id, claimed_by=CLAIM, lease_until=AT + 11.5, last_seq=9999)

    assert world.meter.writes - before == 1


async def test_a_full_entry_costs_what_it_weighs(world: World) -> None:
    run = acceptance(new=True).run
    await world.mine.runs.accept(acceptance(new=True))
    await world.mine.runs.claim(run.run_id, claimed_by=CLAIM, lease_until=AT + 10.25)
    before = world.meter.writes
    full = LogEntry(run_id=run.run_id, first=1, last=64, body=b"x" * 8192)
    await append(world.mine.log, full, claimed_by=CLAIM)

    assert world.meter.writes - before == 9

"""What the repositories make of a write that was done, whose answer got lost: success, and done once."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from storage.dynamodb import patience
from storage.errors import StorageUnavailableError
from storage.records import Accepted, Duplicate, Refused
from tests.engines.fault_proxy import FAIL, THROTTLE, Fault
from tests.engines.processes import Engine
from tests.storage.contract.test_contract_shared import reader
from tests.storage.dynamodb.stores import Faulty, faulty_store
from tests.storage.samples import (
    NOW,
    accept,
    append,
    completion,
    entry,
    finished,
    payload,
    regenerate,
    running,
    send,
)

LEASE = NOW + 10

LOST = pytest.mark.parametrize("lost", [Fault.LOSE_REPLY, Fault.HALF_REPLY], ids=["cut", "half"])
ATTEMPTS = 3


@pytest.fixture
async def faulty(engine: Engine, tmp_path: Path) -> AsyncIterator[Faulty]:
    async with faulty_store(engine, tmp_path) as faulty:
        yield faulty


@LOST
async def test_an_accept_is_accepted(faulty: Faulty, lost: Fault) -> None:
    faulty.proxy.fail("TransactWriteItems", lost)
    asked = send(new=True)

    assert await faulty.mine.runs.accept(asked) == Accepted(run=asked.run, ahead=())
    assert await faulty.mine.runs.accept(asked) == Duplicate(run=asked.run)
    assert len((await faulty.mine.messages.page("session-1", before=None, limit=5)).items) == 1


async def test_an_accept_into_a_session_is_accepted(faulty: Faulty) -> None:
    await finished(faulty.store, send(new=True))
    faulty.proxy.fail("TransactWriteItems", Fault.LOSE_REPLY)
    asked = replace(send("b"), reader=reader())
    outcome = await faulty.mine.runs.accept(asked)

    assert outcome == Accepted(run=replace(asked.run, readers=(reader(),)), ahead=())


async def test_an_accept_that_queues_is_accepted_and_stands_once_in_line(faulty: Faulty) -> None:
    first = await running(faulty.store, send(new=True))
    faulty.proxy.fail("TransactWriteItems", Fault.LOSE_REPLY, times=2)
    asked = send("b", if_busy="queue")

    assert await faulty.mine.runs.accept(asked) == Accepted(run=asked.run, ahead=(first.run_id,))
    claimed = await faulty.mine.runs.finish(completion(first))
    assert claimed == asked.run
    await faulty.mine.runs.claim(asked.run.run_id, claimed_by="claim", lease_until=LEASE)
    assert await faulty.mine.runs.finish(completion(asked.run)) is None


async def test_an_accepted_regenerate_is_accepted(faulty: Faulty) -> None:
    answered = await finished(faulty.store, send(new=True))
    faulty.proxy.fail("TransactWriteItems", Fault.LOSE_REPLY)
    asked = regenerate("again", answered)

    assert await faulty.mine.runs.accept(asked) == Accepted(run=asked.run, ahead=())


async def test_an_accept_that_was_lost_for_good_is_a_duplicate_when_sent_again(
    faulty: Faulty,
) -> None:
    faulty.proxy.fail("TransactWriteItems", Fault.LOSE_REPLY, times=ATTEMPTS)
    asked = send(new=True)
    with pytest.raises(StorageUnavailableError):
        await faulty.mine.runs.accept(asked)

    assert await faulty.mine.runs.accept(asked) == Duplicate(run=asked.run)
    assert await faulty.mine.runs.accept(
        replace(asked, run=replace(asked.run, request_hash="f" * 64))
    ) == Refused(why="conflict")


@LOST
async def test_a_claim_is_ours(faulty: Faulty, lost: Fault) -> None:
    run = await accept(faulty.store, send(new=True))
    faulty.proxy.fail("UpdateItem", lost)

    claimed = await faulty.mine.runs.claim(run.run_id, claimed_by="me", lease_until=LEASE)
    assert (claimed.state, claimed.claimed_by) == ("running", "me")
    await append(faulty.mine.log, entry(run, 1), claimed_by="me")


async def test_a_take_over_is_ours(faulty: Faulty) -> None:
    run = await running(faulty.store, send(new=True), lease_until=LEASE)
    faulty.proxy.fail("UpdateItem", Fault.LOSE_REPLY)

    taken = await faulty.mine.runs.take_over(run.run_id, claimed_by="sealer", now=LEASE)
    assert taken.claimed_by == "sealer"


async def test_a_beat_a_join_a_leave_and_a_cancel_are_done(faulty: Faulty) -> None:
    run = await running(faulty.store, send(new=True))
    runs = faulty.mine.runs
    for _ in range(2):
        faulty.proxy.fail("UpdateItem", Fault.LOSE_REPLY)
        await runs.join(run.run_id, reader("c1"), now=NOW)
    faulty.proxy.fail("UpdateItem", Fault.LOSE_REPLY)
    cancelled = await runs.cancel(run.run_id, now=NOW + 1)
    assert cancelled is not None
    assert cancelled.cancel_at == NOW + 1
    faulty.proxy.fail("UpdateItem", Fault.LOSE_REPLY)
    beaten = await runs.beat(run.run_id, claimed_by="claim", lease_until=LEASE + 1, last_seq=2)

    assert beaten == replace(cancelled, lease_until=LEASE + 1, last_seq=2)
    faulty.proxy.fail("UpdateItem", Fault.LOSE_REPLY)
    await runs.leave(run.run_id, "c1", nonce="n1")
    assert await runs.get(run.run_id) == replace(beaten, readers=())


async def test_an_early_cancel_is_kept(faulty: Faulty) -> None:
    asked = send(new=True)
    faulty.proxy.fail("UpdateItem", Fault.LOSE_REPLY, times=2)
    assert await faulty.mine.runs.cancel(asked.run.run_id, now=NOW - 1) is None

    assert (await accept(faulty.store, asked)).cancel_at == NOW - 1


@LOST
async def test_an_entry_is_kept_once(faulty: Faulty, lost: Fault) -> None:
    run = await running(faulty.store, send(new=True))
    faulty.proxy.fail("PutItem", lost)
    await append(faulty.mine.log, entry(run, 1, 3))
    await append(faulty.mine.log, entry(run, 4))

    log = await faulty.mine.log.read(run.run_id, after=0)
    assert list(log) == [entry(run, 1, 3), entry(run, 4)]


async def test_an_entry_that_was_lost_for_good_is_kept_when_appended_again(
    faulty: Faulty,
) -> None:
    run = await running(faulty.store, send(new=True))
    faulty.proxy.fail("PutItem", Fault.LOSE_REPLY, times=ATTEMPTS)
    with pytest.raises(StorageUnavailableError):
        await append(faulty.mine.log, entry(run, 1))

    with pytest.raises(StorageUnavailableError):
        await append(faulty.mine.log, entry(run, 2))
    await append(faulty.mine.log, entry(run, 1))
    await append(faulty.mine.log, entry(run, 2))
    assert len(await faulty.mine.log.read(run.run_id, after=0)) == 2


async def test_entries_behind_one_that_is_not_kept_are_refused_in_order(faulty: Faulty) -> None:
    run = await running(faulty.store, send(new=True))
    faulty.proxy.fail("PutItem", FAIL, times=ATTEMPTS)
    verdicts: list[object] = []
    for number in (1, 2, 3):
        faulty.mine.log.append(entry(run, number), claimed_by="claim", acknowledge=verdicts.append)
    await faulty.mine.runs.finish(completion(run, first=1))

    assert [type(verdict) for verdict in verdicts] == [StorageUnavailableError] * 3
    assert [slot.first for slot in await faulty.mine.log.read(run.run_id, after=0)] == [1]


async def test_the_end_replaces_an_entry_that_nobody_was_shown(faulty: Faulty) -> None:
    """An entry that was never acknowledged was never posted: the end may take its slot."""
    run = await running(faulty.store, send(new=True))
    await append(faulty.mine.log, entry(run, 1))
    faulty.proxy.fail("PutItem", Fault.LOSE_REPLY, times=ATTEMPTS)
    with pytest.raises(StorageUnavailableError):
        await append(faulty.mine.log, entry(run, 2, 5))
    end = completion(run, first=2)
    await faulty.mine.runs.finish(end)

    log = await faulty.mine.log.read(run.run_id, after=0)
    assert list(log) == [entry(run, 1), end.terminal]


@LOST
async def test_the_end_is_stored_once(faulty: Faulty, lost: Fault) -> None:
    run = await running(faulty.store, send(new=True))
    waiting = await accept(faulty.store, send("waiting", if_busy="queue"))
    faulty.proxy.fail("TransactWriteItems", lost, times=2)
    end = completion(run, memories=("one",))

    assert await faulty.mine.runs.finish(end) == waiting
    assert await faulty.mine.runs.finish(end) == waiting
    assert len((await faulty.mine.memories.page(before=None, limit=5)).items) == 1


async def test_an_end_that_was_lost_for_good_is_found_when_stored_again(faulty: Faulty) -> None:
    run = await running(faulty.store, send(new=True))
    faulty.proxy.fail("TransactWriteItems", Fault.LOSE_REPLY, times=ATTEMPTS)
    end = completion(run, memories=("one",))
    with pytest.raises(StorageUnavailableError):
        await faulty.mine.runs.finish(end)

    assert await faulty.mine.runs.finish(end) is None
    ended = await faulty.mine.runs.get(run.run_id)
    assert ended is not None
    assert (ended.state, ended.end) == ("ended", "stop")
    assert len((await faulty.mine.memories.page(before=None, limit=5)).items) == 1


async def test_a_payload_a_title_and_a_forgotten_memory_are_done(faulty: Faulty) -> None:
    await finished(faulty.store, send(new=True), memories=("one",))
    faulty.proxy.fail("PutItem", Fault.LOSE_REPLY)
    await faulty.mine.payloads.reserve(payload())
    faulty.proxy.fail("UpdateItem", Fault.LOSE_REPLY)
    renamed = await faulty.mine.sessions.rename("session-1", "new")
    assert renamed is not None
    faulty.proxy.fail("DeleteItem", Fault.LOSE_REPLY)

    assert renamed.title == "new"
    assert await faulty.mine.payloads.get("payload-1") == payload()
    assert await faulty.mine.memories.forget("memory-send-1-0") is True


async def test_what_is_throttled_is_unavailable_and_leaves_nothing(faulty: Faulty) -> None:
    asked = send(new=True)
    faulty.proxy.fail("TransactWriteItems", THROTTLE, times=ATTEMPTS)
    with pytest.raises(StorageUnavailableError):
        await faulty.mine.runs.accept(asked)

    assert await faulty.mine.runs.get(asked.run.run_id) is None
    assert await faulty.mine.runs.accept(asked) == Accepted(run=asked.run, ahead=())


async def test_verbs_of_several_requests_are_bounded_as_a_whole(
    faulty: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await running(faulty.store, send(new=True))
    monkeypatch.setattr(patience, "WITHIN_S", 0.2)
    faulty.proxy.fail("TransactWriteItems", Fault.HANG, times=9)

    async with asyncio.timeout(1.5):  # less than one request may take
        with pytest.raises(StorageUnavailableError):
            await faulty.mine.runs.accept(send("b", session_id="two", new=True))
        with pytest.raises(StorageUnavailableError):
            await faulty.mine.runs.finish(completion(run))


async def test_an_answer_comes_within_five_seconds_or_not_at_all(faulty: Faulty) -> None:
    faulty.proxy.fail("TransactWriteItems", Fault.HANG, times=9)

    async with asyncio.timeout(5.5):
        with pytest.raises(StorageUnavailableError):
            await faulty.mine.runs.accept(send(new=True))

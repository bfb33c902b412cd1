import asyncio
from dataclasses import replace

import pytest

from storage.errors import LogSlotTakenError, NotRunOwnerError
from storage.records import Accepted
from storage.repositories import Store
from storage.ttl import TOMBSTONE
from tests.storage.contract.backends import Backend
from tests.storage.samples import (
    ANNA,
    BEN,
    NOW,
    accept,
    append,
    completion,
    entry,
    finished,
    regenerate,
    running,
    send,
)

LEASE = NOW + 10


async def test_a_claim_makes_a_queued_run_ours(store: Store) -> None:
    queued = await accept(store, send(new=True))
    run = await store.of(ANNA).runs.claim(queued.run_id, claimed_by="me", lease_until=LEASE)

    assert run == replace(queued, state="running", claimed_by="me", lease_until=LEASE)
    assert await store.of(ANNA).runs.get(run.run_id) == run


async def test_claiming_again_as_ourselves_is_fine(store: Store) -> None:
    run = await running(store, send(new=True))

    again = await store.of(ANNA).runs.claim(run.run_id, claimed_by="claim", lease_until=LEASE)
    assert again == run


async def test_twenty_claims_and_one_owner(store: Store) -> None:
    run = await accept(store, send(new=True))
    claims = await asyncio.gather(
        *(
            store.of(ANNA).runs.claim(run.run_id, claimed_by=f"claim-{n}", lease_until=LEASE)
            for n in range(20)
        ),
        return_exceptions=True,
    )

    assert sum(isinstance(claim, NotRunOwnerError) for claim in claims) == 19


async def test_an_ended_run_cannot_be_claimed(store: Store) -> None:
    run = await finished(store, send(new=True))

    with pytest.raises(NotRunOwnerError):
        await store.of(ANNA).runs.claim(run.run_id, claimed_by="claim", lease_until=LEASE)


async def test_an_unknown_run_cannot_be_claimed(store: Store) -> None:
    with pytest.raises(NotRunOwnerError):
        await store.of(ANNA).runs.claim("unknown", claimed_by="claim", lease_until=LEASE)


async def test_a_run_that_waits_cannot_be_claimed_before_its_turn(store: Store) -> None:
    runs = store.of(ANNA).runs
    first = await running(store, send("first", new=True))
    second = await accept(store, send("second", if_busy="queue"))
    third = await accept(store, send("third", if_busy="queue"))
    for waiting in (second, third):
        with pytest.raises(NotRunOwnerError):
            await runs.claim(waiting.run_id, claimed_by="me", lease_until=LEASE)

    assert await runs.finish(completion(first)) == second
    with pytest.raises(NotRunOwnerError):
        await runs.claim(third.run_id, claimed_by="me", lease_until=LEASE)
    claimed = await runs.claim(second.run_id, claimed_by="me", lease_until=LEASE)
    again = await runs.claim(second.run_id, claimed_by="me", lease_until=LEASE)
    assert claimed == again == replace(second, state="running", claimed_by="me", lease_until=LEASE)


async def test_a_run_that_waits_may_be_claimed_at_once_to_end_it(store: Store) -> None:
    runs = store.of(ANNA).runs
    first = await running(store, send("first", new=True))
    second = await accept(store, send("second", if_busy="queue"))
    third = await accept(store, send("third", if_busy="queue"))
    await runs.cancel(second.run_id, now=NOW + 1)
    await runs.claim(second.run_id, claimed_by="me", lease_until=LEASE)
    end = completion(second, claimed_by="me", content=None, end="cancelled")

    assert await runs.finish(end) is None
    assert await runs.finish(completion(first)) == third


async def test_live_runs_are_those_that_have_not_ended_oldest_first(store: Store) -> None:
    await finished(store, send("done", session_id="one", new=True))
    second = await running(store, send("b", session_id="two", new=True, at=NOW + 2))
    first = await accept(store, send("a", session_id="three", new=True, at=NOW + 1))
    third = await accept(store, send("c", session_id="two", if_busy="queue", at=NOW + 3))

    assert list(await store.of(ANNA).runs.live()) == [first, second, third]


async def test_a_cancel_is_remembered_with_its_first_time(store: Store) -> None:
    run = await running(store, send(new=True))
    await store.of(ANNA).runs.cancel(run.run_id, now=NOW + 1)
    again = await store.of(ANNA).runs.cancel(run.run_id, now=NOW + 2)

    assert again == replace(run, cancel_at=NOW + 1)


async def test_a_claim_shows_the_cancel_of_a_queued_run(store: Store) -> None:
    run = await accept(store, send(new=True))
    await store.of(ANNA).runs.cancel(run.run_id, now=NOW + 1)

    claimed = await store.of(ANNA).runs.claim(run.run_id, claimed_by="me", lease_until=LEASE)
    assert claimed.cancel_at == NOW + 1


async def test_a_cancel_that_overtakes_its_send_is_found_by_it(store: Store) -> None:
    acceptance = send(new=True, at=NOW + 5)
    runs = store.of(ANNA).runs

    assert await runs.cancel(acceptance.run.run_id, now=NOW) is None
    assert await runs.cancel(acceptance.run.run_id, now=NOW + 1) is None
    assert await runs.get(acceptance.run.run_id) is None
    outcome = await runs.accept(acceptance)
    assert isinstance(outcome, Accepted)
    assert outcome.run.cancel_at == NOW
    assert await runs.get(acceptance.run.run_id) == outcome.run


async def test_a_cancel_is_not_remembered_for_longer_than_its_time(store: Store) -> None:
    acceptance = send(new=True, at=NOW + TOMBSTONE)
    await store.of(ANNA).runs.cancel(acceptance.run.run_id, now=NOW)

    assert (await accept(store, acceptance)).cancel_at is None


async def test_a_cancel_that_comes_again_after_its_time_is_remembered_anew(store: Store) -> None:
    acceptance = send(new=True, at=NOW + TOMBSTONE + 5)
    for now in (NOW, NOW + TOMBSTONE, NOW + TOMBSTONE + 1):
        await store.of(ANNA).runs.cancel(acceptance.run.run_id, now=now)

    assert (await accept(store, acceptance)).cancel_at == NOW + TOMBSTONE


async def test_a_cancel_after_the_end_changes_nothing(store: Store) -> None:
    run = await finished(store, send(new=True))
    before = await store.of(ANNA).runs.get(run.run_id)

    assert await store.of(ANNA).runs.cancel(run.run_id, now=NOW + 9) == before


async def test_finish_stores_everything_of_the_end(store: Store) -> None:
    run = await running(store, send(new=True))
    await append(store.of(ANNA).log, entry(run, 1, 3))
    end = completion(run, first=4, memories=("likes cherry blossoms 🌸",))
    await store.of(ANNA).runs.finish(end)

    mine = store.of(ANNA)
    assert await mine.runs.get(run.run_id) == replace(
        run, state="ended", end="stop", last_seq=4, log_until=end.log_until
    )
    assert await mine.messages.get(run.reply_id) == end.reply
    assert (await mine.memories.page(before=None, limit=10)).items == end.memories
    stored = await mine.sessions.get("session-1")
    assert stored is not None
    assert (stored.active_run, stored.updated_at) == (None, end.finished_at)
    assert list(await store.of(ANNA).log.read(run.run_id, after=0)) == [
        entry(run, 1, 3),
        end.terminal,
    ]


async def test_finish_without_a_word_keeps_no_reply(store: Store) -> None:
    run = await finished(store, send(new=True), content=None)

    assert await store.of(ANNA).messages.get(run.reply_id) is None
    page = await store.of(ANNA).messages.page("session-1", before=None, limit=10)
    assert [message.message_id for message in page.items] == [run.message_id]


async def test_a_repeated_finish_changes_nothing(store: Store) -> None:
    run = await running(store, send(new=True))
    waiting = await accept(store, send("waiting", if_busy="queue"))
    end = completion(run, memories=("one",))

    assert await store.of(ANNA).runs.finish(end) == waiting
    assert await store.of(ANNA).runs.finish(end) == waiting
    assert len((await store.of(ANNA).memories.page(before=None, limit=10)).items) == 1


async def test_ten_finishes_at_once_store_one_end(store: Store) -> None:
    run = await running(store, send(new=True))
    await append(store.of(ANNA).log, entry(run, 1))
    end = completion(run, first=2, memories=("one",))
    await asyncio.gather(*(store.of(ANNA).runs.finish(end) for _ in range(10)))

    assert len((await store.of(ANNA).memories.page(before=None, limit=10)).items) == 1
    assert len(await store.of(ANNA).log.read(run.run_id, after=0)) == 2


async def test_only_the_owner_of_the_claim_finishes(store: Store) -> None:
    run = await running(store, send(new=True))

    with pytest.raises(NotRunOwnerError):
        await store.of(ANNA).runs.finish(completion(run, claimed_by="another"))
    assert await store.of(ANNA).runs.get(run.run_id) == run
    assert await store.of(ANNA).messages.get(run.reply_id) is None


async def test_a_queued_run_cannot_be_finished(store: Store) -> None:
    run = await accept(store, send(new=True))

    with pytest.raises(NotRunOwnerError):
        await store.of(ANNA).runs.finish(completion(run))


@pytest.mark.parametrize("first", [1, 3], ids=["taken", "beyond a gap"])
async def test_the_terminal_entry_takes_the_next_slot(store: Store, first: int) -> None:
    run = await running(store, send(new=True))
    await append(store.of(ANNA).log, entry(run, 1))

    with pytest.raises(LogSlotTakenError):
        await store.of(ANNA).runs.finish(completion(run, first=first))
    await store.of(ANNA).runs.finish(completion(run, first=2))


async def test_what_was_appended_just_before_the_end_belongs_to_the_log(store: Store) -> None:
    run = await running(store, send(new=True))
    verdicts: list[object] = []
    store.of(ANNA).log.append(entry(run, 1), claimed_by="claim", acknowledge=verdicts.append)
    await store.of(ANNA).runs.finish(completion(run, first=2))

    assert verdicts == [None]
    log = await store.of(ANNA).log.read(run.run_id, after=0)
    assert [slot.first for slot in log] == [1, 2]


async def test_a_live_lease_cannot_be_taken_over(store: Store) -> None:
    run = await running(store, send(new=True), lease_until=LEASE)

    with pytest.raises(NotRunOwnerError):
        await store.of(ANNA).runs.take_over(run.run_id, claimed_by="sealer", now=LEASE - 1)
    await append(store.of(ANNA).log, entry(run, 1))


async def test_a_dead_lease_is_taken_over_only_to_end_the_run(store: Store) -> None:
    run = await running(store, send(new=True), lease_until=LEASE)
    await append(store.of(ANNA).log, entry(run, 1))
    mine = store.of(ANNA)

    taken = await mine.runs.take_over(run.run_id, claimed_by="sealer", now=LEASE)
    assert (taken.state, taken.claimed_by) == ("running", "sealer")
    with pytest.raises(NotRunOwnerError):
        await append(store.of(ANNA).log, entry(run, 2), claimed_by="claim")
    with pytest.raises(NotRunOwnerError):
        await mine.runs.finish(completion(run, first=2, claimed_by="claim"))
    await mine.runs.finish(completion(run, first=2, claimed_by="sealer", end="interrupted"))
    ended = await mine.runs.get(run.run_id)
    assert ended is not None
    assert (ended.state, ended.end) == ("ended", "interrupted")


@pytest.mark.parametrize("make", [accept, finished], ids=["queued", "ended"])
async def test_only_a_running_run_is_taken_over(store: Store, make) -> None:
    run = await make(store, send(new=True))

    with pytest.raises(NotRunOwnerError):
        await store.of(ANNA).runs.take_over(run.run_id, claimed_by="sealer", now=LEASE)


async def test_a_regenerated_reply_replaces_the_older_in_the_history(store: Store) -> None:
    first = await finished(store, send(new=True))
    second = await finished(store, regenerate("again", first, at=NOW + 2), at=NOW + 3)
    third = await finished(store, regenerate("once more", first, at=NOW + 4), at=NOW + 5)
    mine = store.of(ANNA)

    page = await mine.messages.page("session-1", before=None, limit=10)
    assert [each.message_id for each in page.items] == [third.reply_id, first.message_id]
    assert await mine.messages.get(first.reply_id) is not None
    assert await mine.messages.get(second.reply_id) is not None


async def test_a_regenerate_without_a_word_leaves_the_older_reply(store: Store) -> None:
    first = await finished(store, send(new=True))
    await finished(store, regenerate("again", first, at=NOW + 2), at=NOW + 3, content=None)

    page = await store.of(ANNA).messages.page("session-1", before=None, limit=10)
    assert [each.message_id for each in page.items] == [first.reply_id, first.message_id]


async def test_what_a_run_has_cost_is_stored_once_and_outlives_its_session(
    backend: Backend[Store], store: Store
) -> None:
    run = await running(store, send(new=True))
    end = completion(run)
    await store.of(ANNA).runs.finish(end)
    await store.of(ANNA).runs.finish(end)
    assert await backend.usage(ANNA) == [end.usage]
    assert await backend.usage(BEN) == []

    await store.of(ANNA).sessions.forget("session-1", now=NOW)
    assert await backend.usage(ANNA) == [end.usage]


async def test_a_run_that_has_cost_nothing_has_no_usage(
    backend: Backend[Store], store: Store
) -> None:
    run = await running(store, send(new=True))
    await store.of(ANNA).runs.finish(replace(completion(run), usage=None))

    assert await backend.usage(ANNA) == []

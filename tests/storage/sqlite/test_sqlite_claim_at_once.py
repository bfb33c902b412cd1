"""An accept that claims: one transaction where a host generates replies itself."""

from dataclasses import replace

import pytest

from storage.errors import NotRunOwnerError
from storage.records import Accepted, Claim, Context, Duplicate
from storage.sqlite.store import SqliteStore
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

CLAIM = Claim(claimed_by="claim", lease_until=NOW + 10, history_bytes=1000, memories_bytes=1000)


async def test_the_run_is_claimed_and_its_context_read(store: SqliteStore) -> None:
    await finished(store, send("a", new=True, content="一"), content="one", memories=("tea",))
    asked = replace(send("b", content="二"), claim=CLAIM)

    outcome = await store.of(ANNA).runs.accept(asked)

    assert isinstance(outcome, Accepted)
    assert outcome.run == await store.of(ANNA).runs.get(asked.run.run_id)
    assert (outcome.run.state, outcome.run.claimed_by) == ("running", "claim")
    its = store.of(ANNA)
    assert outcome.context == Context(
        character="sakura",
        asked=asked.message,
        earlier=await its.messages.turns_before(asked.run.message_id, max_bytes=1000),
        memories=await its.memories.newest(max_bytes=1000),
    )
    assert [message.content for message in outcome.context.earlier] == ["一", "one"]


async def test_the_context_holds_what_fits_and_is_the_owners(store: SqliteStore) -> None:
    await finished(store, send("a", new=True, content="一"), content="one", memories=("m1", "m2"))
    await finished(store, send("b", content="二" * 40), content="too long")
    await finished(store, send("c", content="三"), content="three")
    other = send("x", owner=BEN, new=True, content="not hers")
    await finished(store, other, owner=BEN, memories=("his",))
    claim = replace(CLAIM, history_bytes=20, memories_bytes=2)
    outcome = await store.of(ANNA).runs.accept(replace(send("d", content="四"), claim=claim))
    assert isinstance(outcome, Accepted)

    mine = store.of(ANNA)
    context = outcome.context
    assert context is not None
    assert context.character == "sakura"
    assert context.asked == await mine.messages.get("question-d")
    assert list(context.earlier) == list(
        await mine.messages.turns_before("question-d", max_bytes=20)
    )
    assert [message.content for message in context.earlier] == ["三", "three"]
    assert [memory.value for memory in context.memories] == ["m2"]


async def test_a_regenerate_is_answered_from_what_came_before_its_question(
    store: SqliteStore,
) -> None:
    await finished(store, send("a", new=True, content="一"), content="one")
    second = await finished(store, send("b", content="二"), content="two")
    outcome = await store.of(ANNA).runs.accept(replace(regenerate("again", second), claim=CLAIM))
    assert isinstance(outcome, Accepted)

    assert outcome.context is not None
    assert outcome.context.asked.message_id == second.message_id
    assert [message.content for message in outcome.context.earlier] == ["一", "one"]


async def test_its_log_can_be_written_at_once_by_the_claim_alone(store: SqliteStore) -> None:
    outcome = await store.of(ANNA).runs.accept(replace(send(new=True), claim=CLAIM))
    assert isinstance(outcome, Accepted)

    with pytest.raises(NotRunOwnerError):
        await append(store.of(ANNA).log, entry(outcome.run, 1), claimed_by="another")
    await append(store.of(ANNA).log, entry(outcome.run, 1))
    assert await store.of(ANNA).runs.finish(completion(outcome.run, first=2)) is None


async def test_claiming_it_again_as_ourselves_is_fine(store: SqliteStore) -> None:
    outcome = await store.of(ANNA).runs.accept(replace(send(new=True), claim=CLAIM))
    assert isinstance(outcome, Accepted)
    run = outcome.run
    again = await store.of(ANNA).runs.claim(run.run_id, claimed_by="claim", lease_until=NOW + 10)
    assert again == run


async def test_a_run_behind_another_waits_unclaimed(store: SqliteStore) -> None:
    first = await running(store, send(new=True))
    outcome = await store.of(ANNA).runs.accept(replace(send("b", if_busy="queue"), claim=CLAIM))

    assert isinstance(outcome, Accepted)
    assert (outcome.ahead, outcome.context) == ((first.run_id,), None)
    assert (outcome.run.state, outcome.run.claimed_by) == ("queued", None)


async def test_a_run_that_was_cancelled_before_is_not_claimed(store: SqliteStore) -> None:
    asked = replace(send(new=True), claim=CLAIM)
    await store.of(ANNA).runs.cancel(asked.run.run_id, now=NOW - 1)

    outcome = await store.of(ANNA).runs.accept(asked)
    assert isinstance(outcome, Accepted)
    assert (outcome.run.state, outcome.run.cancel_at) == ("queued", NOW - 1)


async def test_a_duplicate_changes_no_claim(store: SqliteStore) -> None:
    await accept(store, send(new=True))
    again = await store.of(ANNA).runs.accept(replace(send(new=True), claim=CLAIM))
    assert isinstance(again, Duplicate)
    assert again.run.state == "queued"

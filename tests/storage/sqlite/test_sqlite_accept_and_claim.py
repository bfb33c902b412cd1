"""An accept that claims its run at once, and reads what the reply is written from."""

from dataclasses import replace

import pytest

from storage.errors import NotRunOwnerError
from storage.records import Acceptance, Accepted, Claim, Duplicate
from storage.sqlite.store import SqliteStore
from tests.storage.samples import (
    ANNA,
    BEN,
    NOW,
    append,
    completion,
    entry,
    finished,
    regenerate,
    running,
    send,
)

CLAIM = Claim(claimed_by="claim", lease_until=NOW + 10, history_bytes=100, memories_bytes=100)


def claiming(acceptance: Acceptance, claim: Claim = CLAIM) -> Acceptance:
    return replace(acceptance, claim=claim)


async def accepted(store: SqliteStore, acceptance: Acceptance) -> Accepted:
    outcome = await store.of(ANNA).runs.accept(acceptance)
    assert isinstance(outcome, Accepted)
    return outcome


async def test_the_run_is_ours_to_write_when_accept_returns(store: SqliteStore) -> None:
    outcome = await accepted(store, claiming(send(new=True)))
    run = outcome.run

    assert (run.state, run.claimed_by, run.lease_until) == ("running", "claim", NOW + 10)
    assert await store.of(ANNA).runs.get(run.run_id) == run
    await append(store.log, entry(run, 1))
    await store.of(ANNA).runs.finish(completion(run, first=2))
    with pytest.raises(NotRunOwnerError):
        await store.of(ANNA).runs.claim(run.run_id, claimed_by="other", lease_until=NOW + 10)


async def test_the_context_is_what_the_repositories_would_return(store: SqliteStore) -> None:
    await finished(store, send("a", new=True, content="一"), content="one", memories=("m1", "m2"))
    await finished(store, send("b", content="二" * 40), content="too long")
    await finished(store, send("c", content="三"), content="three")
    other = send("x", owner=BEN, new=True, content="not hers")
    await finished(store, other, owner=BEN, memories=("his",))
    claim = replace(CLAIM, history_bytes=20, memories_bytes=2)
    outcome = await accepted(store, claiming(send("d", content="四"), claim))

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
    outcome = await accepted(store, claiming(regenerate("again", second)))

    assert outcome.context is not None
    assert outcome.context.asked.message_id == second.message_id
    assert [message.content for message in outcome.context.earlier] == ["一", "one"]


async def test_a_run_behind_another_stays_queued(store: SqliteStore) -> None:
    first = await running(store, send("a", new=True))
    outcome = await accepted(store, claiming(send("b", if_busy="queue")))

    assert (outcome.run.state, outcome.context) == ("queued", None)
    assert outcome.ahead == (first.run_id,)
    with pytest.raises(NotRunOwnerError):
        await append(store.log, entry(outcome.run, 1))


async def test_a_run_that_is_cancelled_already_stays_queued(store: SqliteStore) -> None:
    acceptance = claiming(send(new=True))
    await store.of(ANNA).runs.cancel(acceptance.run.run_id, now=NOW)
    outcome = await accepted(store, acceptance)

    assert (outcome.run.state, outcome.run.cancel_at) == ("queued", NOW)
    assert outcome.context is None


async def test_a_duplicate_claims_nothing(store: SqliteStore) -> None:
    run = (await accepted(store, claiming(send(new=True)))).run
    claim = replace(CLAIM, claimed_by="other")

    assert await store.of(ANNA).runs.accept(claiming(send(new=True), claim)) == Duplicate(run=run)
    await append(store.log, entry(run, 1))

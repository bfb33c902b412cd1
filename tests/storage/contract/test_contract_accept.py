import asyncio
from dataclasses import replace

import pytest

from storage.records import MAX_QUEUED_RUNS, Accepted, Duplicate, Refused
from storage.repositories import Store
from tests.storage.samples import (
    ANNA,
    GREETING,
    NOW,
    accept,
    completion,
    finished,
    regenerate,
    running,
    send,
)


async def test_the_turn_is_there_when_accept_returns(store: Store) -> None:
    acceptance = send(new=True)
    outcome = await store.of(ANNA).runs.accept(acceptance)

    assert outcome == Accepted(run=acceptance.run, ahead=())
    mine = store.of(ANNA)
    assert await mine.runs.get(acceptance.run.run_id) == acceptance.run
    assert await mine.messages.get(acceptance.run.message_id) == acceptance.message
    stored = await mine.sessions.get("session-1")
    assert stored is not None
    assert (stored.title, stored.character) == (GREETING, "sakura")
    assert stored.active_run == acceptance.run.run_id


async def test_the_same_request_twice_is_stored_once(store: Store) -> None:
    run = await accept(store, send(new=True))
    again = await store.of(ANNA).runs.accept(send(new=True, session_id="another", at=NOW + 5))

    assert again == Duplicate(run=run)
    assert await store.of(ANNA).sessions.get("another") is None


async def test_twenty_tasks_accept_the_same_request_and_one_stores_it(store: Store) -> None:
    sends = [send(new=True, session_id=f"session-{number}") for number in range(20)]
    outcomes = await asyncio.gather(*(store.of(ANNA).runs.accept(each) for each in sends))

    accepted = [outcome for outcome in outcomes if isinstance(outcome, Accepted)]
    assert len(accepted) == 1
    assert outcomes.count(Duplicate(run=accepted[0].run)) == 19
    assert len((await store.of(ANNA).sessions.page(before=None, limit=50)).items) == 1


async def test_a_duplicate_of_an_ended_run_shows_how_it_ended(store: Store) -> None:
    await finished(store, send(new=True))
    outcome = await store.of(ANNA).runs.accept(send(new=True))

    assert isinstance(outcome, Duplicate)
    assert (outcome.run.state, outcome.run.end, outcome.run.last_seq) == ("ended", "stop", 1)


async def test_the_same_id_with_other_content_is_a_conflict(store: Store) -> None:
    await accept(store, send(new=True))
    outcome = await store.of(ANNA).runs.accept(send(request_hash="c" * 64))

    assert outcome == Refused(why="conflict")


async def test_a_session_that_does_not_exist_is_not_found(store: Store) -> None:
    acceptance = send(session_id="nowhere")

    assert await store.of(ANNA).runs.accept(acceptance) == Refused(why="not_found")
    assert await store.of(ANNA).messages.get(acceptance.run.message_id) is None


@pytest.mark.parametrize("state", ["queued", "running"])
async def test_a_busy_session_rejects(store: Store, state: str) -> None:
    make = accept if state == "queued" else running
    await make(store, send(new=True))
    second = send("send-2")

    assert await store.of(ANNA).runs.accept(second) == Refused(why="busy")
    assert await store.of(ANNA).runs.get(second.run.run_id) is None
    assert await store.of(ANNA).messages.get(second.run.message_id) is None


async def test_a_session_is_free_again_when_its_run_has_ended(store: Store) -> None:
    await finished(store, send(new=True))

    assert isinstance(await store.of(ANNA).runs.accept(send("send-2")), Accepted)


@pytest.mark.parametrize("if_busy", ["queue", "cancel"])
async def test_a_busy_session_queues_and_says_what_is_ahead(store: Store, if_busy: str) -> None:
    first = await running(store, send(new=True))
    second = await store.of(ANNA).runs.accept(send("send-2", if_busy=if_busy))
    third = await store.of(ANNA).runs.accept(send("send-3", if_busy=if_busy))

    assert isinstance(second, Accepted)
    assert isinstance(third, Accepted)
    assert second.ahead == (first.run_id,)
    assert third.ahead == (first.run_id, second.run.run_id)


async def test_a_full_queue_is_busy(store: Store) -> None:
    await running(store, send(new=True))
    for number in range(MAX_QUEUED_RUNS):
        await accept(store, send(f"waiting-{number}", if_busy="queue"))

    outcome = await store.of(ANNA).runs.accept(send("one-more", if_busy="queue"))
    assert outcome == Refused(why="busy")


async def test_finish_returns_the_queued_runs_one_by_one_in_order(store: Store) -> None:
    runs = store.of(ANNA).runs
    run = await running(store, send(new=True))
    waiting = [await accept(store, send(f"waiting-{n}", if_busy="queue")) for n in (1, 2)]

    following = []
    while run is not None:
        after = await runs.finish(completion(run))
        following.append(after)
        run = after and await runs.claim(after.run_id, claimed_by="claim", lease_until=NOW + 10)

    assert following == [*waiting, None]


async def test_other_sessions_are_not_busy(store: Store) -> None:
    await running(store, send(new=True))

    outcome = await store.of(ANNA).runs.accept(send("send-2", session_id="two", new=True))
    assert isinstance(outcome, Accepted)
    assert outcome.ahead == ()


async def test_a_regenerate_stores_a_run_and_no_message(store: Store) -> None:
    answered = await finished(store, send(new=True))
    run = await accept(store, regenerate("again", answered))

    assert run.kind == "regenerate"
    assert run.message_id == answered.message_id
    page = await store.of(ANNA).messages.page("session-1", before=None, limit=10)
    assert [message.message_id for message in page.items] == ["reply-send-1", "question-send-1"]


@pytest.mark.parametrize("message_id", ["nothing", "reply-send-1"], ids=["unknown", "a reply"])
async def test_a_regenerate_of_what_is_no_question_is_not_found(
    store: Store, message_id: str
) -> None:
    answered = await finished(store, send(new=True))
    outcome = await store.of(ANNA).runs.accept(
        regenerate("again", replace(answered, message_id=message_id))
    )

    assert outcome == Refused(why="not_found")


async def test_a_regenerate_in_another_session_than_its_question_is_not_found(
    store: Store,
) -> None:
    answered = await finished(store, send("a", session_id="one", new=True))
    await finished(store, send("b", session_id="two", new=True))
    outcome = await store.of(ANNA).runs.accept(
        regenerate("again", replace(answered, session_id="two"))
    )

    assert outcome == Refused(why="not_found")


async def test_a_clock_that_steps_back_takes_no_session_back(store: Store) -> None:
    await finished(store, send("a", new=True, at=NOW), at=NOW + 9)
    await finished(store, send("b", at=NOW + 2), at=NOW + 3)

    stored = await store.of(ANNA).sessions.get("session-1")
    assert stored is not None
    assert stored.updated_at == NOW + 9


async def test_accepting_moves_the_session_to_the_front(store: Store) -> None:
    await finished(store, send("a", session_id="one", new=True, at=NOW), at=NOW + 1)
    await finished(store, send("b", session_id="two", new=True, at=NOW + 2), at=NOW + 3)
    await accept(store, send("c", session_id="one", at=NOW + 4))

    page = await store.of(ANNA).sessions.page(before=None, limit=10)
    assert [(each.session_id, each.updated_at) for each in page.items] == [
        ("one", NOW + 4),
        ("two", NOW + 3),
    ]

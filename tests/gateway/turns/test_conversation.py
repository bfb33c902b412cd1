"""The commands about runs: accepted once, answered whatever happens, stopped when asked."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from gateway.runs.transport import GoneError
from gateway.tenants.tier import Tier
from gateway.wire.commands import Cancel, Regenerate, Resume, Send, Subscribe
from gateway.wire.errors import (
    BadRequestError,
    BusyError,
    NotFoundError,
    RateLimitedError,
    StorageUnavailableError,
)
from gateway.wire.events import content_delta
from storage import errors as storage_errors
from storage.keys import run_id
from streaming.parts import FieldDelta
from tests.gateway.runs.fakes import ANNA, BEN, at
from tests.gateway.turns.exchange import TIER, Exchange, reply


def a_send(send_id: str = "s1", content: str = "Hi", **fields: Any) -> Send:
    return Send.model_validate({"type": "send", "id": send_id, "content": content, **fields})


async def resume(
    chat: Exchange, run: str, after: int = 0, connection: str = "c2", owner: Any = ANNA
) -> Any:
    return await chat.following.resume(
        owner,
        at(connection),
        Resume(type="resume", run_id=run, after=after),
        chat.post(connection),
    )


async def cancel(chat: Exchange, *, owner: Any = ANNA, **named: str) -> None:
    await chat.conversation.cancel(owner, Cancel(type="cancel", **named))


async def regenerate(
    chat: Exchange, message_id: str, command_id: str = "g1", connection: str = "c1"
) -> None:
    await chat.conversation.regenerate(
        ANNA,
        TIER,
        at(connection),
        Regenerate(type="regenerate", id=command_id, message_id=message_id),
        chat.post(connection),
    )


def answers(chat: Exchange, kind: str, connection: str = "c1") -> list[dict[str, Any]]:
    return [each for each in chat.transport.answers(connection) if each["type"] == kind]


# Sending


async def test_accepted_comes_before_the_events(chat: Exchange) -> None:
    accepted = await chat.talk("Hi", id="s1")
    assert accepted == {
        "type": "accepted",
        "id": "s1",
        "run_id": run_id(ANNA, "s1"),
        "session_id": accepted["session_id"],
        "message_id": accepted["message_id"],
    }
    assert chat.transport.answers("c1")[0] == accepted


async def test_a_connection_that_is_gone_before_accepted_does_not_stop_the_answer(
    chat: Exchange,
) -> None:
    chat.transport.gone.add("c1")
    command = a_send()
    await chat.conversation.send(ANNA, TIER, at("c1"), command, chat.post("c1"))
    await chat.settle()
    assert (await chat.row(run_id(ANNA, "s1"))).end == "stop"


async def test_a_slow_connection_does_not_delay_the_model(chat: Exchange) -> None:
    chat.transport.full.add("c1")
    sending = asyncio.create_task(
        chat.conversation.send(ANNA, TIER, at("c1"), a_send(), chat.post("c1"))
    )
    async with asyncio.timeout(5):
        await chat.model.asked.wait()
    await chat.settle()
    assert not sending.done()
    chat.transport.full.clear()
    chat.transport.drain("c1")
    await sending
    assert chat.done(run_id(ANNA, "s1"))["reason"] == "stop"


@pytest.mark.parametrize(
    "fields",
    [{"character": "nobody"}, {"character": "makoto", "session_id": "s"}],
    ids=["unknown", "in a session that has begun"],
)
async def test_a_character_that_cannot_be_chosen(chat: Exchange, fields: dict[str, str]) -> None:
    with pytest.raises(BadRequestError, match="character"):
        await chat.conversation.send(ANNA, TIER, at("c1"), a_send(**fields), chat.post())
    assert chat.store.calls == []


# The same again


async def test_a_duplicate_gets_the_same_run_and_asks_no_model(chat: Exchange) -> None:
    first = await chat.talk("Hi", id="s1")
    again = await chat.talk("Hi", id="s1", connection="c2")
    assert again == {**first, "duplicate": True}
    assert chat.events(first["run_id"], "c2") == chat.events(first["run_id"], "c1")
    assert len(chat.model.requests) == 1


async def test_a_duplicate_on_the_connection_that_follows_repeats_no_event(
    chat: Exchange,
) -> None:
    chat.model.scripts = [[[FieldDelta("content", "One")], asyncio.Event()]]
    first = await chat.send("Hi", id="s1")
    async with asyncio.timeout(5):
        while chat.text(first["run_id"]) != "One":
            await asyncio.sleep(0.001)
    await chat.send("Hi", id="s1")
    numbers = [
        number
        for frame in answers(chat, "events")
        for number in range(frame["first_seq"], frame["last_seq"] + 1)
    ]
    assert numbers == [1, 2]


async def test_the_same_message_at_the_same_instant_is_answered_once(chat: Exchange) -> None:
    connections = [f"c{number}" for number in range(1, 6)]
    await asyncio.gather(
        *(
            chat.conversation.send(ANNA, TIER, at(name), a_send(), chat.post(name))
            for name in connections
        )
    )
    await chat.settle()
    told = [answers(chat, "accepted", name)[0] for name in connections]
    assert len({each["run_id"] for each in told}) == 1
    assert [each.get("duplicate") for each in told].count(None) == 1
    assert len(chat.model.requests) == 1
    for name in connections:
        assert chat.done(told[0]["run_id"], name)["reason"] == "stop"


@pytest.mark.parametrize("seconds", [0, 11], ids=["at once", "after the lease"])
async def test_an_accept_that_seemed_to_fail_is_answered_when_it_is_sent_again(
    chat: Exchange, seconds: float
) -> None:
    chat.store.lose("runs.accept")
    with pytest.raises(storage_errors.StorageUnavailableError):
        await chat.send("Hi", id="s1")
    chat.now += seconds
    accepted = await chat.talk("Hi", id="s1")
    assert accepted["duplicate"]
    assert chat.done(accepted["run_id"])["reason"] == "stop"
    assert (await chat.row(accepted["run_id"])).end == "stop"
    assert len(chat.model.requests) == 1


async def test_an_accept_whose_caller_left_is_answered_when_it_is_sent_again(
    chat: Exchange,
) -> None:
    chat.store.lose("runs.accept", error=asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        await chat.send("Hi", id="s1")
    accepted = await chat.talk("Hi", id="s1")
    assert chat.done(accepted["run_id"])["reason"] == "stop"


async def test_what_was_begun_under_such_a_claim_is_begun_only_once(chat: Exchange) -> None:
    chat.model.scripts = [[[FieldDelta("content", "One")], asyncio.Event()]]
    chat.store.lose("runs.accept")
    with pytest.raises(storage_errors.StorageUnavailableError):
        await chat.send("Hi", id="s1")
    run = (await chat.send("Hi", id="s1"))["run_id"]
    await chat.model.asked.wait()
    chat.starter.tasks[run].cancel()
    await asyncio.wait({chat.starter.tasks[run]})
    live = chat.live.find(ANNA, run)
    assert live is not None
    chat.live.drop(live)
    chat.now += 11
    await chat.send("Hi", id="s1", connection="c2")
    assert chat.done(run, "c2")["reason"] == "interrupted"
    assert len(chat.model.requests) == 1


async def test_an_accept_that_seemed_to_fail_does_not_block_its_session(chat: Exchange) -> None:
    session = (await chat.talk("first", id="s1"))["session_id"]
    chat.store.lose("runs.accept")
    with pytest.raises(storage_errors.StorageUnavailableError):
        await chat.send("second", id="s2", session_id=session)
    chat.now += 11
    with pytest.raises(BusyError):
        await chat.send("third", id="s3", session_id=session)
    await chat.settle()
    assert (await chat.row(run_id(ANNA, "s2"))).end == "stop"
    assert chat.done((await chat.talk("third", id="s3", session_id=session))["run_id"])


@pytest.mark.parametrize("command", ["send", "regenerate"])
async def test_who_finds_a_session_busy_gets_a_run_going_that_nobody_generates(
    chat: Exchange, command: str
) -> None:
    asking: Coroutine[Any, Any, object]
    first = await chat.talk("first", id="s1")
    chat.starter.holding = True
    await chat.send("second", id="s2", session_id=first["session_id"])
    chat.starter.holding = False
    if command == "send":
        asking = chat.send("third", id="s3", session_id=first["session_id"])
    else:
        asking = regenerate(chat, first["message_id"])
    with pytest.raises(BusyError):
        await asking
    await chat.settle()
    assert chat.done(run_id(ANNA, "s2"))["reason"] == "stop"


async def test_a_queued_message_gets_a_lost_one_ahead_of_it_going(chat: Exchange) -> None:
    session = (await chat.talk("first", id="s1"))["session_id"]
    chat.store.lose("runs.accept")
    with pytest.raises(storage_errors.StorageUnavailableError):
        await chat.send("second", id="s2", session_id=session)
    chat.now += 11
    await chat.talk("third", id="s3", session_id=session, if_busy="queue")
    assert (await chat.row(run_id(ANNA, "s2"))).end == "stop"
    assert chat.done(run_id(ANNA, "s3"))["reason"] == "stop"


# A busy session


async def busy(chat: Exchange) -> tuple[str, asyncio.Event]:
    """Return a session whose first answer goes on until the event is set."""
    more = asyncio.Event()
    chat.model.scripts = [[[FieldDelta("content", "One")], more, *reply()]]
    session = (await chat.send("first", id="s1"))["session_id"]
    await chat.model.asked.wait()
    return session, more


async def test_a_busy_session_refuses(chat: Exchange) -> None:
    session, _ = await busy(chat)
    with pytest.raises(BusyError):
        await chat.send("second", id="s2", session_id=session)


async def test_queued_messages_are_answered_in_their_order(chat: Exchange) -> None:
    session, more = await busy(chat)
    for number in (2, 3, 4):
        await chat.send(f"m{number}", id=f"s{number}", session_id=session, if_busy="queue")
    assert len(chat.model.requests) == 1
    more.set()
    await chat.settle()
    asked = [each.messages[-1].content for each in chat.model.requests]
    assert asked == ["first", "m2", "m3", "m4"]
    assert chat.starter.started == [run_id(ANNA, f"s{number}") for number in (1, 2, 3, 4)]
    for number in (1, 2, 3, 4):
        assert chat.done(run_id(ANNA, f"s{number}"))["reason"] == "stop"


async def test_a_clock_that_is_set_back_starts_no_second_answer(chat: Exchange) -> None:
    session, more = await busy(chat)
    chat.now -= 0.2
    await chat.send("second", id="s2", session_id=session, if_busy="queue")
    assert chat.starter.started == [run_id(ANNA, "s1")]
    more.set()
    await chat.settle()
    assert [each.messages[-1].content for each in chat.model.requests] == ["first", "second"]
    assert [each.content for each in chat.model.requests[1].messages[1:3]] == ["first", "OneHello."]


async def test_the_queue_has_an_end(chat: Exchange) -> None:
    session, _ = await busy(chat)
    for number in range(2, 6):
        await chat.send("m", id=f"s{number}", session_id=session, if_busy="queue")
    with pytest.raises(BusyError):
        await chat.send("m", id="s6", session_id=session, if_busy="queue")


async def test_cancel_stops_what_is_ahead(chat: Exchange) -> None:
    session, _ = await busy(chat)
    await chat.send("second", id="s2", session_id=session, if_busy="queue")
    await chat.talk("third", id="s3", session_id=session, if_busy="cancel")
    reasons = [chat.done(run_id(ANNA, f"s{number}"))["reason"] for number in (1, 2, 3)]
    assert reasons == ["cancelled", "cancelled", "stop"]
    assert [each.messages[-1].content for each in chat.model.requests] == ["first", "third"]


async def test_what_is_ahead_stops_however_slow_the_connection_is(chat: Exchange) -> None:
    session, _ = await busy(chat)
    chat.transport.full.add("c2")
    command = a_send("s2", session_id=session, if_busy="cancel")
    sending = asyncio.create_task(
        chat.conversation.send(ANNA, TIER, at("c2"), command, chat.post("c2"))
    )
    async with asyncio.timeout(5):
        while run_id(ANNA, "s2") not in chat.starter.started:
            await asyncio.sleep(0.001)
    await chat.settle()
    assert chat.done(run_id(ANNA, "s1"))["reason"] == "cancelled"
    assert not sending.done()
    chat.transport.full.clear()
    chat.transport.drain("c2")
    await sending
    assert next(each["type"] for each in chat.transport.answers("c2")) == "accepted"
    assert chat.done(run_id(ANNA, "s2"), "c2")["reason"] == "stop"


@pytest.mark.parametrize("if_busy", ["queue", "cancel"])
async def test_accepted_comes_before_what_a_subscriber_reads_of_it(
    chat: Exchange, if_busy: str
) -> None:
    session, more = await busy(chat)
    await chat.following.subscribe(
        ANNA, at("c2"), Subscribe(type="subscribe", session_id=session), chat.post("c2")
    )
    more.set()  # the active run ends about now
    command = a_send("s2", session_id=session, if_busy=if_busy)
    await chat.conversation.send(ANNA, TIER, at("c2"), command, chat.post("c2"))
    await chat.settle()
    its = [
        each["type"]
        for each in chat.transport.answers("c2")
        if each.get("run_id") == run_id(ANNA, "s2")
    ]
    assert its[0] == "accepted"
    assert chat.done(run_id(ANNA, "s2"), "c2")["reason"] == "stop"


@pytest.mark.parametrize("if_busy", ["queue", "cancel"])
async def test_a_store_that_refuses_then_does_not_undo_the_acceptance(
    chat: Exchange, if_busy: str
) -> None:
    session, more = await busy(chat)
    chat.store.refuse("sessions.get")
    await chat.send("second", id="s2", session_id=session, if_busy=if_busy)
    assert [each["type"] for each in chat.transport.answers("c1") if each.get("id") == "s2"] == [
        "accepted"
    ]
    more.set()
    await chat.settle()
    assert chat.done(run_id(ANNA, "s2"))["reason"] == "stop"


async def test_what_is_ahead_stops_also_when_the_connection_is_gone(chat: Exchange) -> None:
    session, _ = await busy(chat)
    chat.transport.gone.add("c2")
    command = a_send("s2", session_id=session, if_busy="cancel")
    await chat.conversation.send(ANNA, TIER, at("c2"), command, chat.post("c2"))
    await chat.settle()
    assert chat.done(run_id(ANNA, "s1"))["reason"] == "cancelled"
    assert (await chat.row(run_id(ANNA, "s2"))).end == "stop"


async def test_what_cannot_be_stopped_does_not_undo_the_acceptance(chat: Exchange) -> None:
    session, _ = await busy(chat)
    chat.store.refuse("runs.cancel")
    await chat.talk("second", id="s2", session_id=session, if_busy="cancel")
    answers = [a["type"] for a in chat.transport.answers("c1") if a.get("id") == "s2"]
    assert answers == ["accepted"]
    reasons = [chat.done(run_id(ANNA, f"s{number}"))["reason"] for number in (1, 2)]
    assert reasons == ["cancelled", "stop"]  # the process could still stop it itself


# Too much at once


async def test_a_user_has_so_many_answers_at_a_time(chat: Exchange) -> None:
    chat.model.scripts = [[asyncio.Event()] for _ in range(2)]
    tier = Tier(live_runs=2)
    for number in (1, 2):
        await chat.conversation.send(ANNA, tier, at("c1"), a_send(f"s{number}"), chat.post())
    with pytest.raises(RateLimitedError):
        await chat.conversation.send(ANNA, tier, at("c1"), a_send("s3"), chat.post())
    await chat.conversation.send(BEN, tier, at("c9"), a_send("s3"), chat.post("c9"))
    await chat.conversation.send(ANNA, tier, at("c1"), a_send("s2"), chat.post())
    assert answers(chat, "accepted")[-1]["duplicate"]


async def test_so_many_answers_at_a_time_also_when_they_are_asked_for_at_once(
    chat: Exchange,
) -> None:
    chat.model.scripts = [[asyncio.Event()] for _ in range(3)]
    tier, names = Tier(live_runs=3), [f"c{number}" for number in range(20)]
    outcomes = await asyncio.gather(
        *(
            chat.conversation.send(ANNA, tier, at(name), a_send(f"s-{name}"), chat.post(name))
            for name in names
        ),
        return_exceptions=True,
    )
    assert [isinstance(each, RateLimitedError) for each in outcomes].count(True) == 17
    assert [each for name in names for each in answers(chat, "accepted", name)][3:] == []
    assert len(await chat.store.inner.of(ANNA).runs.live()) == 3


async def test_the_same_message_at_the_same_instant_takes_one_place(chat: Exchange) -> None:
    chat.model.scripts = [[asyncio.Event()]]
    names = [f"c{number}" for number in range(5)]
    await asyncio.gather(
        *(
            chat.conversation.send(ANNA, Tier(live_runs=1), at(name), a_send(), chat.post(name))
            for name in names
        )
    )
    assert chat.live.count(ANNA) == 1
    told = [answers(chat, "accepted", name)[0] for name in names]
    assert [each.get("duplicate") for each in told].count(None) == 1


@pytest.mark.parametrize("end", ["answered", "not stored", "refused", "forgotten"])
async def test_a_place_is_free_again_however_it_was_left(chat: Exchange, end: str) -> None:
    session = (await chat.talk("Hi", id="s0"))["session_id"]
    if end == "answered":
        await chat.talk("Hi", id="s1")
    elif end == "not stored":
        chat.store.refuse("runs.accept")
        with pytest.raises(storage_errors.StorageUnavailableError):
            await chat.send("Hi", id="s1")
    elif end == "refused":
        with pytest.raises(NotFoundError):
            await chat.send("Hi", id="s1", session_id="none")
    else:
        chat.model.scripts = [[asyncio.Event()]]
        for name in ("s1", "s2"):
            await chat.send("Hi", id=name, session_id=session, if_busy="queue")
        assert chat.live.count(ANNA) == 2
        await forget(chat, session)
        await chat.settle()
    assert chat.live.count(ANNA) == 0


async def test_a_refused_message_is_not_stored(chat: Exchange) -> None:
    with pytest.raises(RateLimitedError):
        await chat.conversation.send(ANNA, Tier(live_runs=0), at("c1"), a_send(), chat.post())
    assert await chat.store.inner.of(ANNA).runs.get(run_id(ANNA, "s1")) is None


# Cancelling


@pytest.mark.parametrize("by", ["id", "run_id"])
async def test_a_run_is_cancelled_by_either_name(chat: Exchange, by: str) -> None:
    await busy(chat)
    await cancel(chat, **{by: "s1" if by == "id" else run_id(ANNA, "s1")})
    await chat.settle()
    assert chat.done(run_id(ANNA, "s1"))["reason"] == "cancelled"
    assert chat.model.closed == 1


async def test_a_cancel_that_overtakes_its_send(chat: Exchange) -> None:
    await cancel(chat, id="s1")
    accepted = await chat.talk("Hi", id="s1")
    assert chat.done(accepted["run_id"])["reason"] == "cancelled"
    assert chat.model.requests == []
    assert await chat.history(accepted["session_id"]) == [("user", "Hi")]


@pytest.mark.parametrize("first", ["send", "cancel"])
async def test_a_cancel_at_the_same_instant_as_its_send(chat: Exchange, first: str) -> None:
    chat.model.scripts = [[asyncio.Event()]]
    both = [chat.send("Hi", id="s1"), cancel(chat, id="s1")]
    await asyncio.gather(*(both if first == "send" else reversed(both)))
    await chat.settle()
    assert chat.done(run_id(ANNA, "s1"))["reason"] == "cancelled"


async def test_a_cancel_while_the_message_is_being_accepted(chat: Exchange) -> None:
    chat.store.gates["runs.accept"] = asyncio.Event()
    sending = asyncio.create_task(chat.send("Hi", id="s1"))
    async with asyncio.timeout(5):
        while "runs.accept" not in chat.store.calls:
            await asyncio.sleep(0.001)
    await cancel(chat, id="s1")
    chat.store.gates["runs.accept"].set()
    accepted = await sending
    await chat.settle()
    assert chat.done(accepted["run_id"])["reason"] == "cancelled"
    assert chat.model.requests == []


async def test_a_queued_run_that_is_cancelled_ends_at_once(chat: Exchange) -> None:
    session, more = await busy(chat)
    await chat.send("second", id="s2", session_id=session, if_busy="queue")
    await cancel(chat, id="s2")
    async with asyncio.timeout(5):
        while not chat.events(run_id(ANNA, "s2"))[-1:] or (
            chat.events(run_id(ANNA, "s2"))[-1]["type"] != "done"
        ):
            await asyncio.sleep(0.001)
    assert chat.done(run_id(ANNA, "s2"))["reason"] == "cancelled"
    more.set()
    await chat.settle()
    assert chat.done(run_id(ANNA, "s1"))["reason"] == "stop"


async def test_cancelling_twice_or_too_late_is_harmless(chat: Exchange) -> None:
    accepted = await chat.talk("Hi", id="s1")
    for _ in range(2):
        await cancel(chat, run_id=accepted["run_id"])
    assert (await chat.row(accepted["run_id"])).end == "stop"
    assert (await chat.row(accepted["run_id"])).cancel_at is None


async def test_an_unknown_or_foreign_run_cannot_be_cancelled(chat: Exchange) -> None:
    await busy(chat)
    with pytest.raises(NotFoundError):
        await cancel(chat, run_id="none")
    with pytest.raises(NotFoundError):
        await cancel(chat, owner=BEN, run_id=run_id(ANNA, "s1"))
    await cancel(chat, owner=BEN, id="s1")
    live = chat.live.find(ANNA, run_id(ANNA, "s1"))
    assert live is not None
    assert not live.cancelled


@pytest.mark.parametrize("by", ["id", "run_id"])
async def test_a_cancel_works_though_the_storage_refuses(chat: Exchange, by: str) -> None:
    await busy(chat)
    chat.store.refuse("runs.get")
    chat.store.refuse("runs.cancel")
    run = run_id(ANNA, "s1")
    with pytest.raises(storage_errors.StorageUnavailableError):
        await cancel(chat, **{by: "s1" if by == "id" else run})
    await chat.settle()
    assert chat.done(run)["reason"] == "cancelled"


async def test_a_cancel_works_though_the_storage_hangs(chat: Exchange) -> None:
    await busy(chat)
    chat.store.gates["runs.get"] = asyncio.Event()
    chat.store.gates["runs.cancel"] = asyncio.Event()
    run = run_id(ANNA, "s1")
    stopping = asyncio.create_task(cancel(chat, run_id=run))
    async with asyncio.timeout(5):
        while chat.model.closed == 0:
            await asyncio.sleep(0.001)
    for gate in chat.store.gates.values():
        gate.set()
    await stopping


# Resuming


async def test_a_resumed_run_goes_on_live(chat: Exchange) -> None:
    _, more = await busy(chat)
    run = run_id(ANNA, "s1")
    async with asyncio.timeout(5):
        while chat.text(run) != "One":
            await asyncio.sleep(0.001)
    assert await resume(chat, run, after=1) is None
    assert chat.transport.answers("c2")[0] == {
        "type": "resumed",
        "run_id": run,
        "state": "running",
        "last_seq": 2,
    }
    more.set()
    await chat.settle()
    frames = answers(chat, "events", "c2")
    assert frames[0]["first_seq"] == 2
    assert frames[-1]["events"][-1]["type"] == "done"


async def test_two_resumes_are_harmless(chat: Exchange) -> None:
    accepted = await chat.talk()
    for _ in range(2):
        await resume(chat, accepted["run_id"])
    assert chat.events(accepted["run_id"], "c2") == chat.events(accepted["run_id"])


async def test_an_ended_run_is_resumed_from_its_log(chat: Exchange) -> None:
    accepted = await chat.talk()
    live = chat.live.find(ANNA, accepted["run_id"])
    assert live is not None
    chat.live.drop(live)
    await resume(chat, accepted["run_id"])
    assert answers(chat, "resumed", "c2")[0]["state"] == "ended"
    assert chat.events(accepted["run_id"], "c2") == chat.events(accepted["run_id"])


async def test_an_expired_log_is_told_with_its_run(chat: Exchange) -> None:
    accepted = await chat.talk()
    live = chat.live.find(ANNA, accepted["run_id"])
    assert live is not None
    chat.live.drop(live)
    chat.now += 2 * 86_400
    expired = await resume(chat, accepted["run_id"])
    assert expired.run.run_id == accepted["run_id"]
    assert chat.transport.answers("c2") == []


async def test_somebody_elses_run_cannot_be_resumed(chat: Exchange) -> None:
    accepted = await chat.talk()
    with pytest.raises(NotFoundError):
        await resume(chat, accepted["run_id"], owner=BEN)


async def test_a_queued_run_that_nobody_started_is_started_by_a_resume(chat: Exchange) -> None:
    chat.starter.holding = True
    accepted = await chat.send()
    live = chat.live.find(ANNA, accepted["run_id"])
    assert live is not None
    chat.live.drop(live)  # as after a restart
    chat.starter.holding = False
    await resume(chat, accepted["run_id"])
    await chat.settle()
    assert chat.done(accepted["run_id"], "c2")["reason"] == "stop"


async def test_a_queued_run_behind_another_is_not_started_by_a_resume(chat: Exchange) -> None:
    session, more = await busy(chat)
    await chat.send("second", id="s2", session_id=session, if_busy="queue")
    await resume(chat, run_id(ANNA, "s2"))
    assert chat.starter.started == [run_id(ANNA, "s1")]
    more.set()
    await chat.settle()
    assert chat.done(run_id(ANNA, "s2"), "c2")["reason"] == "stop"


async def test_a_run_whose_generation_died_is_sealed_once_its_lease_is_over(
    chat: Exchange,
) -> None:
    await busy(chat)
    run = run_id(ANNA, "s1")
    async with asyncio.timeout(5):
        while chat.text(run) != "One":
            await asyncio.sleep(0.001)
    chat.starter.tasks[run].cancel()
    await asyncio.wait({chat.starter.tasks[run]})
    live = chat.live.find(ANNA, run)
    assert live is not None
    chat.live.drop(live)
    with pytest.raises(StorageUnavailableError):
        await resume(chat, run)
    chat.now += 11
    await resume(chat, run)
    assert chat.done(run, "c2")["reason"] == "interrupted"
    assert chat.text(run, "c2") == "One"


# Regenerating


async def test_an_answer_is_written_again(chat: Exchange) -> None:
    chat.model.scripts = [reply("First."), reply("Second.")]
    accepted = await chat.talk("Hi", id="s1")
    await regenerate(chat, accepted["message_id"])
    await chat.settle()
    again = run_id(ANNA, "g1")
    assert chat.text(again) == "Second."
    assert answers(chat, "accepted")[-1]["message_id"] == accepted["message_id"]
    assert await chat.history(accepted["session_id"]) == [("user", "Hi"), ("assistant", "Second.")]
    assert [each.content for each in chat.model.requests[1].messages[1:]] == ["Hi"]


# Forgetting


async def forget(chat: Exchange, session: str) -> None:
    async def delete() -> str:
        if not await chat.store.of(ANNA).sessions.forget(session, now=chat.now):
            raise NotFoundError
        return "deleted"

    assert await chat.conversation.forget(ANNA, session, delete) == "deleted"


async def test_a_running_answer_of_a_forgotten_session_ends(chat: Exchange) -> None:
    session, _ = await busy(chat)
    run = run_id(ANNA, "s1")
    async with asyncio.timeout(5):
        while chat.text(run) != "One":
            await asyncio.sleep(0.001)
    await forget(chat, session)
    await chat.settle()
    done = chat.done(run)
    assert (done["reason"], done["saved"]) == ("cancelled", False)
    assert chat.model.closed == 1
    assert chat.live.find(ANNA, run) is None
    assert await chat.store.inner.of(ANNA).runs.get(run) is None


async def test_an_answer_that_ends_while_its_session_is_being_forgotten_has_an_end(
    chat: Exchange,
) -> None:
    """The store has forgotten it, and its readers' process is not told yet."""
    session, more = await busy(chat)
    run = run_id(ANNA, "s1")

    async def delete() -> None:
        assert await chat.store.inner.of(ANNA).sessions.forget(session, now=chat.now)
        more.set()
        async with asyncio.timeout(5):
            while not chat.events(run) or chat.events(run)[-1]["type"] != "done":
                await asyncio.sleep(0.001)

    await chat.conversation.forget(ANNA, session, delete)
    await chat.settle()
    done = chat.done(run)
    assert (done["reason"], done["saved"]) == ("cancelled", False)
    assert chat.live.count(ANNA) == 0


async def test_what_a_forget_has_left_that_seemed_to_fail_ends_with_the_next(
    chat: Exchange,
) -> None:
    session, _ = await busy(chat)
    for number in (2, 3):
        await chat.send("m", id=f"s{number}", session_id=session, if_busy="queue")
    chat.store.lose("sessions.forget")
    with pytest.raises(storage_errors.StorageUnavailableError):
        await forget(chat, session)
    [running, *_] = chat.live.all()
    running.emit([content_delta("more")])  # its log is gone: it learns that it was ended
    await chat.settle()
    assert chat.live.count(ANNA) == 2
    with pytest.raises(NotFoundError):
        await forget(chat, session)
    await chat.settle()
    assert chat.live.count(ANNA) == 0
    for number in (2, 3):
        assert chat.done(run_id(ANNA, f"s{number}"))["reason"] == "cancelled"


async def test_queued_answers_of_a_forgotten_session_end(chat: Exchange) -> None:
    session, _ = await busy(chat)
    for number in (2, 3):
        await chat.send("m", id=f"s{number}", session_id=session, if_busy="queue")
    await forget(chat, session)
    await chat.settle()
    for number in (1, 2, 3):
        run = run_id(ANNA, f"s{number}")
        assert chat.done(run)["reason"] == "cancelled"
        assert chat.events(run)[0]["type"] == "started"
    assert len(chat.model.requests) == 1


async def test_a_resume_that_a_forget_overtakes_leaves_nothing_behind(chat: Exchange) -> None:
    session, _ = await busy(chat)
    await chat.send("second", id="s2", session_id=session, if_busy="queue")
    waiting = run_id(ANNA, "s2")
    live = chat.live.find(ANNA, waiting)
    assert live is not None
    chat.live.retire(live, linger_s=0)  # as if its accept had seemed to fail
    chat.live.drop(live)
    told = chat.store.told_gates["runs.get"] = asyncio.Event()
    before = len(chat.store.calls)
    resuming = asyncio.create_task(resume(chat, waiting))
    async with asyncio.timeout(5):
        while "runs.get" not in chat.store.calls[before:]:
            await asyncio.sleep(0.001)
    await forget(chat, session)
    told.set()
    await resuming
    await chat.settle()
    assert chat.done(waiting, "c2")["reason"] == "cancelled"
    assert chat.live.count(ANNA) == 0


async def test_nothing_is_stopped_where_a_session_cannot_be_forgotten(chat: Exchange) -> None:
    session, _ = await busy(chat)

    async def refuse() -> None:
        raise storage_errors.StorageUnavailableError

    with pytest.raises(storage_errors.StorageUnavailableError):
        await chat.conversation.forget(ANNA, session, refuse)
    [live] = chat.live.all()
    assert not live.cancelled
    await cancel(chat, id="s1")
    await chat.settle()


async def test_a_message_of_a_forgotten_session_is_not_answered_again(chat: Exchange) -> None:
    session = (await chat.talk("Hi", id="s1"))["session_id"]
    await forget(chat, session)
    chat.now += 1
    with pytest.raises(NotFoundError):
        await chat.talk("Hi", id="s1", connection="c2")
    assert len(chat.model.requests) == 1


# What the commands do not swallow


async def test_a_gone_connection_is_told_to_the_caller_of_resume(chat: Exchange) -> None:
    accepted = await chat.talk()
    chat.transport.gone.add("c2")
    with pytest.raises(GoneError):
        await resume(chat, accepted["run_id"])


async def test_cancelling_the_handler_is_not_swallowed(chat: Exchange) -> None:
    async def never(_: bytes) -> None:
        await asyncio.Event().wait()

    sending = asyncio.create_task(chat.conversation.send(ANNA, TIER, at("c1"), a_send(), never))
    await chat.model.asked.wait()
    sending.cancel()
    await asyncio.wait({sending})
    assert sending.cancelled()
    await chat.settle()
    assert (await chat.row(run_id(ANNA, "s1"))).end == "stop"

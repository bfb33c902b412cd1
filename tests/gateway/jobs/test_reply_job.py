"""A reply that another process generates: begun once, stopped, joined and served from anywhere."""

import asyncio
from collections.abc import Callable

import pytest

from gateway.hosts.aws.transport import UnreachableError
from gateway.jobs import serve
from gateway.jobs.reply import RunUnfinishedError
from gateway.runs import beat
from gateway.runs.beat import LEASE_S
from gateway.wire.errors import BusyError, NotFoundError, RateLimitedError
from storage.dynamodb.forget import Forgetting
from storage.dynamodb.runs import DynamoRuns
from storage.dynamodb.table import DataTable
from storage.errors import StorageUnavailableError
from storage.records import MAX_READERS
from streaming.parts import FieldDelta
from tests.gateway.jobs.deployment import Deployment
from tests.gateway.runs.fakes import ANNA, at
from tests.gateway.turns import exchange
from tests.gateway.turns.exchange import Step


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.005)


def held(aws: Deployment, *texts: str) -> asyncio.Event:
    """Let the model say these texts, then wait for the event, then go on as usual."""
    gate = asyncio.Event()
    said: list[Step] = [[FieldDelta("content", text)] for text in texts]
    aws.model.scripts.append([*said, gate, *exchange.reply(" End.")])
    return gate


async def test_a_turn_over_three_processes(aws: Deployment) -> None:
    accepted = await aws.send()
    run_id = accepted["run_id"]
    assert aws.invocations.asked == [(ANNA, run_id)]
    await aws.carry_out()
    assert aws.text(run_id) == "Hello."
    assert (aws.done(run_id)["reason"], aws.done(run_id)["saved"]) == ("stop", True)
    assert (await aws.run(run_id)).state == "ended"
    aws.clock.now += 1  # messages of one session are in the order of their time
    again = await aws.send("s2", "And now?", session_id=accepted["session_id"])
    await aws.carry_out()
    assert [m.content for m in aws.model.requests[1].messages[1:]] == ["Hi", "Hello.", "And now?"]
    assert aws.text(again["run_id"]) == "Hello."


async def test_an_invocation_that_is_repeated_begins_nothing(aws: Deployment) -> None:
    gate = held(aws, "One")
    run_id = (await aws.send())["run_id"]
    asked = aws.invocations.asked * 3
    running = aws.carrying_out()
    await until(lambda: aws.text(run_id) == "One")
    aws.invocations.asked += asked
    await aws.carry_out()
    gate.set()
    await running
    aws.invocations.asked += asked
    await aws.carry_out()
    assert len(aws.model.requests) == 1
    assert aws.text(run_id) == "One End."
    assert aws.done(run_id)["reason"] == "stop"


async def test_two_invocations_at_the_same_instant_begin_one(aws: Deployment) -> None:
    run_id = (await aws.send())["run_id"]
    aws.invocations.asked *= 2
    await asyncio.gather(aws.carrying_out(), aws.carrying_out())
    assert len(aws.model.requests) == 1
    assert aws.done(run_id)["reason"] == "stop"


async def test_the_same_send_again_is_the_same_run(aws: Deployment) -> None:
    gate = held(aws, "One")
    first = await aws.send()
    running = aws.carrying_out()
    await until(lambda: aws.text(first["run_id"]) == "One")
    again = await aws.send(here="c2")
    assert again == {**first, "duplicate": True}
    await until(lambda: aws.text(first["run_id"], "c2") == "One")
    gate.set()
    await running
    assert aws.text(first["run_id"], "c2") == aws.text(first["run_id"]) == "One End."
    late = await aws.send(here="c3")
    assert late["duplicate"]
    await until(lambda: aws.text(first["run_id"], "c3") == "One End.")
    assert len(aws.model.requests) == 1


async def test_sending_twice_at_the_same_instant(aws: Deployment) -> None:
    both = await asyncio.gather(aws.send(here="c1"), aws.send(here="c2"))
    assert both[0]["run_id"] == both[1]["run_id"]
    assert sorted(bool(each.get("duplicate")) for each in both) == [False, True]
    await aws.carry_out()
    await until(lambda: aws.text(both[0]["run_id"], "c2") == "Hello.")
    assert len(aws.model.requests) == 1


async def test_a_cancel_in_another_process_stops_the_model_within_a_second(aws: Deployment) -> None:
    held(aws, "One")
    run_id = (await aws.send())["run_id"]
    running = aws.carrying_out()
    await until(lambda: aws.text(run_id) == "One")
    async with asyncio.timeout(1):
        await aws.cancel(run_id)
        await until(lambda: aws.model.closed == 1)
    await running
    assert aws.text(run_id) == "One"
    assert aws.done(run_id)["reason"] == "cancelled"


async def test_a_cancel_before_it_begins_asks_no_model(aws: Deployment) -> None:
    run_id = (await aws.send())["run_id"]
    await aws.cancel(run_id)
    await aws.carry_out()
    assert aws.model.requests == []
    assert aws.done(run_id)["reason"] == "cancelled"


async def test_a_queued_turn_is_cancelled_without_waiting_for_its_place(aws: Deployment) -> None:
    gate = held(aws, "One")
    first = await aws.send()
    running = aws.carrying_out()
    await until(lambda: aws.text(first["run_id"]) == "One")
    second = await aws.send("s2", session_id=first["session_id"], if_busy="queue")
    aws.invocations.asked.clear()  # its session's first run was looked after again, maybe
    await aws.cancel(second["run_id"])
    assert aws.invocations.asked == [(ANNA, second["run_id"])]
    await aws.carry_out()
    assert aws.done(second["run_id"])["reason"] == "cancelled"
    gate.set()
    await running
    assert aws.done(first["run_id"])["reason"] == "stop"
    assert len(aws.model.requests) == 1


async def test_a_queued_turn_follows(aws: Deployment) -> None:
    gate = held(aws, "One")
    first = await aws.send()
    running = aws.carrying_out()
    await until(lambda: aws.text(first["run_id"]) == "One")
    with pytest.raises(BusyError):
        await aws.send("s2", session_id=first["session_id"])
    second = await aws.send("s2", session_id=first["session_id"], if_busy="queue")
    gate.set()
    await running
    assert aws.text(second["run_id"]) == "Hello."


async def test_another_connection_joins_where_it_stands(aws: Deployment) -> None:
    gate = held(aws, "One", " two")
    run_id = (await aws.send())["run_id"]
    running = aws.carrying_out()
    await until(lambda: aws.text(run_id) == "One two")
    resumed = await aws.resume(run_id, here="c2")
    assert (resumed["type"], resumed["state"]) == ("resumed", "running")
    await until(lambda: aws.text(run_id, "c2") == "One two")
    aws.transport.leave("c1")
    gate.set()
    await running
    assert aws.text(run_id, "c2") == "One two End."
    assert aws.done(run_id, "c2")["reason"] == "stop"


async def test_a_connection_that_is_gone_reads_no_more(aws: Deployment) -> None:
    gates = asyncio.Event(), asyncio.Event()
    said: list[Step] = [[FieldDelta("content", "One")], gates[0], [FieldDelta("content", " two")]]
    aws.model.scripts.append([*said, gates[1], *exchange.reply(" End.")])
    run_id = (await aws.send())["run_id"]
    running = aws.carrying_out()
    await until(lambda: aws.text(run_id) == "One")
    await aws.resume(run_id, here="c2")
    aws.transport.leave("c1")
    gates[0].set()
    async with asyncio.timeout(5):
        while [each.connection_id for each in (await aws.run(run_id)).readers] != ["c2"]:
            await asyncio.sleep(0.05)
    gates[1].set()
    await running
    assert aws.done(run_id, "c2")["reason"] == "stop"


@pytest.mark.parametrize("read", [False, True], ids=["nobody reads it", "another reads it"])
async def test_an_unread_answer_is_ended_if_that_is_set(aws: Deployment, read: bool) -> None:
    aws.unread_run_s = 0.5
    gates = asyncio.Event(), asyncio.Event()
    said: list[Step] = [[FieldDelta("content", "One")], gates[0], [FieldDelta("content", " two")]]
    aws.model.scripts.append([*said, gates[1], *exchange.reply(" End.")])
    run_id = (await aws.send())["run_id"]
    running = aws.carrying_out()
    await until(lambda: aws.text(run_id) == "One")
    if read:
        await aws.resume(run_id, here="c2")
        await until(lambda: aws.text(run_id, "c2") == "One")
    aws.transport.leave("c1")
    gates[0].set()  # its next frame finds it gone
    if read:
        await asyncio.sleep(2 * aws.unread_run_s)
        gates[1].set()
    async with asyncio.timeout(5):
        await running
    if not read:
        await aws.resume(run_id, here="c2")
    *_, usage, done = aws.events(run_id, "c2")
    assert aws.model.closed == 1
    assert aws.text(run_id, "c2") == ("One two End." if read else "One two")
    assert (done["reason"], done["saved"]) == ("stop" if read else "interrupted", True)
    assert usage.get("estimated", False) is not read
    assert await aws.stored_usage(run_id) == {"estimated": False, **usage}


async def test_who_joins_before_it_begins_is_served_from_the_start(aws: Deployment) -> None:
    run_id = (await aws.send())["run_id"]
    assert (await aws.resume(run_id, here="c2"))["state"] == "queued"
    await aws.carry_out()
    assert aws.text(run_id, "c2") == aws.text(run_id) == "Hello."


async def test_an_ended_run_is_replayed_by_who_was_asked(aws: Deployment) -> None:
    run_id = (await aws.send())["run_id"]
    await aws.carry_out()
    resumed = await aws.resume(run_id, here="c9")
    assert resumed["state"] == "ended"
    assert aws.events(run_id, "c9") == aws.events(run_id)


async def test_another_persons_run_is_not_found(aws: Deployment) -> None:
    await aws.send()
    with pytest.raises(NotFoundError):
        await aws.resume("a" * 26, here="c1")


async def test_too_many_readers_are_refused(aws: Deployment) -> None:
    gate = held(aws, "One")
    run_id = (await aws.send())["run_id"]
    running = aws.carrying_out()
    await until(lambda: aws.text(run_id) == "One")
    for number in range(MAX_READERS - 1):
        await aws.resume(run_id, here=f"more-{number}")
    with pytest.raises(RateLimitedError):
        await aws.resume(run_id, here="too-many")
    gate.set()
    await running


async def test_who_sends_again_is_answered_though_too_many_read(aws: Deployment) -> None:
    gate = held(aws, "One")
    accepted = await aws.send()
    running = aws.carrying_out()
    await until(lambda: aws.text(accepted["run_id"]) == "One")
    for number in range(MAX_READERS - 1):
        await aws.resume(accepted["run_id"], here=f"more-{number}")
    assert await aws.send(here="too-many") == {**accepted, "duplicate": True}
    gate.set()
    await running
    assert aws.events(accepted["run_id"], "too-many") == []


async def test_connections_that_broke_while_a_run_waited_keep_no_other_out(aws: Deployment) -> None:
    accepted = await aws.send(here="broken-0")
    for here in (*(f"broken-{number}" for number in range(1, MAX_READERS + 1)), "c1"):
        aws.clock.now += 1
        assert await aws.send(here=here) == {**accepted, "duplicate": True}
        if here != "c1":
            aws.transport.gone.add(here)
    await aws.carry_out()
    assert aws.text(accepted["run_id"]) == "Hello."


async def test_who_is_refused_as_a_reader_follows_no_later_answer_either(aws: Deployment) -> None:
    gate = held(aws, "One")
    accepted = await aws.send()
    session_id = accepted["session_id"]
    running = aws.carrying_out()
    await until(lambda: aws.text(accepted["run_id"]) == "One")
    phones = [f"phone {number}" for number in range(MAX_READERS - 1)]
    for phone in phones:
        await aws.subscribe(session_id, here=phone)
    with pytest.raises(RateLimitedError):
        await aws.subscribe(session_id, here="too many")
    gate.set()
    await running
    aws.clock.now += 1
    run_id = (await aws.send("s2", session_id=session_id))["run_id"]
    await aws.carry_out()
    assert aws.events(run_id, "too many") == []
    assert [aws.events(run_id, phone) for phone in phones] == [aws.events(run_id)] * len(phones)


async def test_a_run_whose_process_died_is_sealed_by_who_asks_for_it(aws: Deployment) -> None:
    held(aws, "One")
    accepted = await aws.send()
    run_id = accepted["run_id"]
    running = aws.carrying_out()
    await until(lambda: aws.text(run_id) == "One")
    running.cancel()
    await asyncio.wait({running})
    aws.clock.now += LEASE_S + 1
    resumed = await aws.resume(run_id, here="c2")
    assert resumed["state"] == "ended"
    assert aws.text(run_id, "c2") == "One"
    assert aws.done(run_id, "c2")["reason"] == "interrupted"
    await aws.send("s2", session_id=accepted["session_id"])  # the session is free again


async def test_an_invocation_that_was_lost_is_made_up_for(aws: Deployment) -> None:
    run_id = (await aws.send())["run_id"]
    aws.invocations.asked.clear()
    await aws.resume(run_id, here="c1")
    assert aws.invocations.asked == []  # it may still come
    aws.clock.now += 6
    await aws.resume(run_id, here="c1")
    assert aws.invocations.asked == [(ANNA, run_id)]
    await aws.carry_out()
    assert aws.text(run_id) == "Hello."


async def test_the_end_of_the_invocation_keeps_what_was_said(aws: Deployment) -> None:
    held(aws, "One")
    run_id = (await aws.send())["run_id"]
    async with asyncio.timeout(5):
        await aws.carry_out(life_s=0.5)
    assert aws.text(run_id) == "One"
    assert aws.done(run_id)["reason"] == "interrupted"
    assert aws.done(run_id)["saved"] is True


async def test_an_invocation_that_begins_too_late_fails(aws: Deployment) -> None:
    run_id = (await aws.send())["run_id"]
    with pytest.raises(RunUnfinishedError):
        await aws.carry_out(life_s=0)
    assert (await aws.run(run_id)).state == "queued"


async def test_a_run_that_broke_is_stored_all_the_same(
    aws: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.turns.generate.outcome_of", None)
    run_id = (await aws.send())["run_id"]
    await aws.carry_out()
    assert aws.done(run_id)["reason"] == "error"
    assert aws.done(run_id)["saved"] is False
    run = await aws.run(run_id)
    assert (run.state, run.end) == ("ended", "error")


async def test_a_run_that_broke_and_cannot_be_stored_fails_its_invocation(
    aws: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def break_down(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(DynamoRuns, "finish", break_down)
    run_id = (await aws.send())["run_id"]
    with pytest.raises(RunUnfinishedError):
        await aws.carry_out()
    assert aws.done(run_id)["reason"] == "error"
    assert aws.done(run_id)["saved"] is False


async def test_a_reader_that_takes_nothing_is_left_behind(
    aws: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "SERVE_S", 0.2)
    gate = held(aws, "One")
    run_id = (await aws.send())["run_id"]
    running = aws.carrying_out()
    await until(lambda: aws.text(run_id) == "One")
    aws.transport.full.add("c1")
    gate.set()
    async with asyncio.timeout(5):
        await running
    assert (await aws.run(run_id)).end == "stop"


async def test_the_next_answer_waits_for_no_reader_of_this_one(aws: Deployment) -> None:
    gate = held(aws, "One")
    first = await aws.send(here="slow")
    running = aws.carrying_out()
    await until(lambda: aws.text(first["run_id"], "slow") == "One")
    aws.clock.now += 1
    second = await aws.send("s2", session_id=first["session_id"], if_busy="queue")
    assert aws.invocations.asked == []
    aws.transport.full.add("slow")
    gate.set()
    async with asyncio.timeout(serve.SERVE_S / 2):
        while not aws.invocations.asked:
            await asyncio.sleep(0.02)
    aws.transport.full.clear()
    aws.transport.drain("slow")
    await running
    assert aws.text(second["run_id"]) == "Hello."


async def test_the_next_answer_comes_though_nobody_can_be_served(
    aws: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = held(aws, "One")
    first = await aws.send()
    running = aws.carrying_out()
    await until(lambda: aws.text(first["run_id"]) == "One")
    aws.clock.now += 1
    second = await aws.send("s2", session_id=first["session_id"], if_busy="queue")

    async def refuse(*_: object) -> None:
        raise StorageUnavailableError("told to")

    with monkeypatch.context() as broken:
        broken.setattr(DynamoRuns, "get", refuse)
        gate.set()
        with pytest.raises(StorageUnavailableError):
            await running
    assert (await aws.run(first["run_id"])).state == "ended"
    assert aws.invocations.asked == [(ANNA, second["run_id"])]


# Following a session


async def test_a_subscriber_gets_every_later_answer(aws: Deployment) -> None:
    accepted = await aws.send()
    await aws.carry_out()
    session_id = accepted["session_id"]
    assert await aws.subscribe(session_id, here="phone") == {
        "type": "subscribed",
        "session_id": session_id,
        "runs": [],
    }
    aws.clock.now += 1
    run_id = (await aws.send("s2", session_id=session_id))["run_id"]
    await aws.carry_out()
    assert aws.events(run_id, "phone") == aws.events(run_id)
    await aws.unsubscribe(session_id, here="phone")
    aws.clock.now += 1
    run_id = (await aws.send("s3", session_id=session_id))["run_id"]
    await aws.carry_out()
    assert (aws.events(run_id, "phone"), aws.text(run_id)) == ([], "Hello.")


async def test_subscribers_get_an_answer_that_is_over_before_they_are_found(
    aws: Deployment,
) -> None:
    accepted = await aws.send()
    await aws.carry_out()
    phones = [f"phone {number}" for number in range(5)]
    for phone in phones:
        await aws.subscribe(accepted["session_id"], here=phone)
    aws.clock.now += 1
    run_id = (await aws.send("s2", session_id=accepted["session_id"]))["run_id"]
    await aws.cancel(run_id)
    await aws.carry_out()
    assert aws.done(run_id)["reason"] == "cancelled"
    assert [aws.events(run_id, phone) for phone in phones] == [aws.events(run_id)] * 5


async def test_a_subscriber_is_told_of_what_waits_and_gets_that_too(aws: Deployment) -> None:
    session_id = (first := await aws.send())["session_id"]
    run_ids = [first["run_id"]]
    for number in (2, 3):
        aws.clock.now += 1
        waiting = await aws.send(f"s{number}", session_id=session_id, if_busy="queue")
        run_ids.append(waiting["run_id"])
    await aws.send("s4", "Elsewhere")
    subscribed = await aws.subscribe(session_id, here="phone")
    assert [run["run_id"] for run in subscribed["runs"]] == run_ids
    await aws.unsubscribe(session_id, here="phone")
    await aws.carry_out()
    for run_id in run_ids:
        assert aws.events(run_id, "phone") == aws.events(run_id) != []


async def test_a_subscriber_gets_what_is_under_way_from_its_start(aws: Deployment) -> None:
    gate = held(aws, "One")
    accepted = await aws.send()
    run_id = accepted["run_id"]
    running = aws.carrying_out()
    await until(lambda: aws.text(run_id) == "One")
    subscribed = await aws.subscribe(accepted["session_id"], here="phone")
    assert [run["run_id"] for run in subscribed["runs"]] == [run_id]
    await until(lambda: aws.text(run_id, "phone") == "One")
    gate.set()
    await running
    assert aws.events(run_id, "phone") == aws.events(run_id)


async def test_a_subscriber_that_is_gone_is_forgotten(aws: Deployment) -> None:
    gates = asyncio.Event(), asyncio.Event()
    accepted = await aws.send()
    await aws.carry_out()
    session_id = accepted["session_id"]
    await aws.subscribe(session_id, here="phone")
    aws.transport.leave("phone")
    said: list[Step] = [[FieldDelta("content", "One")], gates[0], [FieldDelta("content", " two")]]
    aws.model.scripts.append([*said, gates[1], *exchange.reply(" End.")])
    aws.clock.now += 1
    await aws.send("s2", session_id=session_id)
    running = aws.carrying_out()
    gates[0].set()
    store = aws.process().store.of(ANNA)
    async with asyncio.timeout(5):
        while await store.subscribers.of(session_id, now=aws.clock()):
            await asyncio.sleep(0.05)
    gates[1].set()
    await running


async def test_a_subscriber_that_was_not_reached_gets_the_next_answer(aws: Deployment) -> None:
    accepted = await aws.send()
    await aws.carry_out()
    session_id = accepted["session_id"]
    await aws.subscribe(session_id, here="phone")
    aws.clock.now += 1
    gate = held(aws, "One")
    aws.transport.full.add("phone")
    run_id = (await aws.send("s2", session_id=session_id))["run_id"]
    running = aws.carrying_out()
    await until(lambda: "phone" in aws.transport.waiting)
    aws.transport.full.clear()
    aws.transport.drain("phone", UnreachableError("429 LimitExceededException"))
    async with asyncio.timeout(5):
        while "phone" in {each.connection_id for each in (await aws.run(run_id)).readers}:
            await asyncio.sleep(0.05)
    gate.set()
    await running
    aws.clock.now += 1
    run_id = (await aws.send("s3", session_id=session_id))["run_id"]
    await aws.carry_out()
    assert aws.text(run_id, "phone") == "Hello."


async def test_who_renews_its_identity_goes_on_as_if_nothing_had_happened(aws: Deployment) -> None:
    accepted = await aws.send()
    await aws.carry_out()
    session_id, until_then = accepted["session_id"], at("phone").auth_expires_at
    store = aws.process().store
    for name in ("phone", "tablet"):
        await store.connections.save(at(name))
        await aws.subscribe(session_id, here=name)
    aws.clock.now = until_then - 1
    gate = held(aws, "One")
    run_id = (await aws.send("s2", session_id=session_id))["run_id"]
    running = aws.carrying_out()
    await until(lambda: aws.text(run_id, "phone") == aws.text(run_id, "tablet") == "One")
    await store.connections.save(at("phone", auth_expires_at=until_then + 3600))  # as `auth` does
    aws.clock.now = until_then + 120
    async with asyncio.timeout(10):
        while (await aws.run(run_id)).lease_until < aws.clock():  # a beat has come since
            await asyncio.sleep(0.05)
        gate.set()
        await running
    assert aws.done(run_id, "phone")["reason"] == "stop"
    run_id = (await aws.send("s3", session_id=session_id))["run_id"]
    await aws.carry_out()
    assert aws.text(run_id, "phone") == "Hello."
    assert aws.events(run_id, "tablet") == []


@pytest.mark.parametrize("step", ["_some_of", "delete_all"], ids=["marked", "buried"])
async def test_a_run_that_ends_while_its_session_is_being_forgotten_has_an_end(
    aws: Deployment, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setattr(beat, "BEAT_EVERY_S", 60.0)  # which would tell, too
    gate = held(aws, "One")
    accepted = await aws.send()
    run_id = accepted["run_id"]
    running = aws.carrying_out()
    await until(lambda: aws.text(run_id) == "One")
    half_way, go_on = asyncio.Event(), asyncio.Event()
    owner = Forgetting if step == "_some_of" else DataTable
    proceed = getattr(owner, step)

    async def pause(*args: object) -> object:
        half_way.set()
        await go_on.wait()
        return await proceed(*args)

    monkeypatch.setattr(owner, step, pause)
    forgetting = asyncio.create_task(aws.forget(accepted["session_id"]))
    async with asyncio.timeout(10):
        await half_way.wait()
        gate.set()
        await running
        go_on.set()
        await forgetting
    assert (aws.done(run_id)["reason"], aws.done(run_id)["saved"]) == ("cancelled", False)


async def test_who_reads_what_waits_is_told_of_a_forget_while_its_identity_holds(
    aws: Deployment,
) -> None:
    accepted = await aws.send(here="over")
    run_id, until_then = accepted["run_id"], at("over").auth_expires_at
    await aws.resume(run_id, here="renewed")
    store = aws.process().store
    await store.connections.save(at("over"))
    await store.connections.save(at("renewed", auth_expires_at=until_then + 3600))
    aws.clock.now = until_then + 120
    await aws.forget(accepted["session_id"])
    await until(lambda: aws.events(run_id, "renewed") != [])
    assert aws.done(run_id, "renewed")["reason"] == "cancelled"
    assert aws.events(run_id, "over") == []


async def test_there_is_no_following_of_what_does_not_exist(aws: Deployment) -> None:
    with pytest.raises(NotFoundError):
        await aws.subscribe("a" * 26, here="c1")
    assert not await aws.process().store.of(ANNA).subscribers.of("a" * 26, now=aws.clock())

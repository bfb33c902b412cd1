"""Runs whose invocation has failed for good: ended, told, and never in the way of the next one."""

import asyncio

import pytest

from gateway.jobs import serve
from gateway.jobs.seal import RunAliveError
from gateway.runs import beat
from gateway.runs.beat import LEASE_S
from storage.dynamodb.runs import DynamoRuns
from storage.records import Completion
from streaming.parts import FieldDelta
from tests.gateway.jobs.deployment import Deployment
from tests.gateway.jobs.test_reply_job import held, until
from tests.gateway.runs.fakes import ANNA, at
from tests.gateway.turns import exchange


async def test_a_run_that_was_never_begun_ends_as_an_error(aws: Deployment) -> None:
    accepted = await aws.send()
    run_id = accepted["run_id"]
    aws.invocations.asked.clear()
    await aws.seal(run_id)
    assert aws.done(run_id)["reason"] == "error"
    assert aws.done(run_id)["error"]["code"] == "internal"
    assert aws.done(run_id)["error"]["retryable"] is True
    assert [event["type"] for event in aws.events(run_id)] == ["started", "done"]
    assert await aws.stored_usage(run_id) is None
    assert aws.model.requests == []
    await aws.send("s2", session_id=accepted["session_id"])
    await aws.carry_out()
    assert len(aws.model.requests) == 1


async def test_an_invocation_that_comes_after_all_begins_nothing(aws: Deployment) -> None:
    run_id = (await aws.send())["run_id"]
    await aws.seal(run_id)
    await aws.carry_out()
    assert aws.model.requests == []
    assert aws.done(run_id)["reason"] == "error"


async def test_a_run_that_died_ends_with_what_was_said(aws: Deployment) -> None:
    held(aws, "One", " two")
    run_id = (await aws.send())["run_id"]
    running = aws.carrying_out()
    await until(lambda: aws.text(run_id) == "One two")
    running.cancel()
    await asyncio.wait({running})
    with pytest.raises(RunAliveError):
        await aws.seal(run_id)  # for all that HEAD tells it lives
    aws.clock.now += LEASE_S + 1
    await aws.seal(run_id)
    assert aws.text(run_id) == "One two"
    assert aws.done(run_id)["reason"] == "interrupted"
    await aws.seal(run_id)
    assert aws.done(run_id)["reason"] == "interrupted"


@pytest.mark.parametrize("by", ["the queue of failures", "whoever asks for it"])
async def test_what_a_run_that_died_cost_is_estimated(aws: Deployment, by: str) -> None:
    accepted = await aws.send()
    await aws.carry_out()
    aws.clock.now += 1  # messages of one session are in the order of their time
    held(aws, "One", " two")
    run_id = (await aws.send("s2", session_id=accepted["session_id"]))["run_id"]
    running = aws.carrying_out()
    await until(lambda: aws.text(run_id) == "One two")
    running.cancel()
    await asyncio.wait({running})
    aws.clock.now += LEASE_S + 1
    if by == "the queue of failures":
        await aws.seal(run_id)
    else:
        await aws.resume(run_id, here="c1")
    *_, usage, done = aws.events(run_id)
    assert done["reason"] == "interrupted"
    assert usage == {
        "type": "usage",
        "model": "fake",
        "prompt_tokens": exchange.prompt_tokens(aws.model.requests[1]),
        "completion_tokens": 2,
        "estimated": True,
    }
    assert await aws.stored_usage(run_id) == usage


async def test_only_who_is_still_identified_is_told(aws: Deployment) -> None:
    run_id = (await aws.send(here="over"))["run_id"]
    await aws.resume(run_id, here="renewed")
    expires_at = at("c1").auth_expires_at
    await aws.process().store.connections.save(at("renewed", auth_expires_at=expires_at + 3600))
    aws.clock.now = expires_at + 600
    await aws.seal(run_id)
    assert aws.events(run_id, "over") == []
    assert aws.done(run_id, "renewed")["reason"] == "error"


async def test_a_reader_that_takes_nothing_is_left_behind(
    aws: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "SERVE_S", 0.2)
    run_id = (await aws.send())["run_id"]
    aws.transport.full.add("c1")
    async with asyncio.timeout(5):
        await aws.seal(run_id)
    assert (await aws.run(run_id)).end == "error"
    assert aws.transport.waiting


async def test_one_that_was_cancelled_ends_as_cancelled(aws: Deployment) -> None:
    run_id = (await aws.send())["run_id"]
    await aws.cancel(run_id)
    await aws.seal(run_id)
    assert aws.done(run_id)["reason"] == "cancelled"


async def test_the_next_turn_follows(aws: Deployment) -> None:
    first = await aws.send()
    second = await aws.send("s2", session_id=first["session_id"], if_busy="queue")
    aws.invocations.asked.clear()
    await aws.seal(first["run_id"])
    await aws.carry_out()
    assert aws.text(second["run_id"]) == "Hello."


async def test_the_next_turn_follows_a_process_that_died_before_it_handed_it_on(
    aws: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await aws.send()
    second = await aws.send("s2", session_id=first["session_id"], if_busy="queue")
    aws.invocations.asked = [(ANNA, first["run_id"])]
    finish = DynamoRuns.finish

    async def die(runs: DynamoRuns, completion: Completion) -> None:
        await finish(runs, completion)
        raise asyncio.CancelledError

    with monkeypatch.context() as dying:
        dying.setattr(DynamoRuns, "finish", die)
        with pytest.raises(asyncio.CancelledError):
            await aws.carry_out()
    assert (await aws.run(first["run_id"])).state == "ended"
    assert (await aws.run(second["run_id"])).state == "queued"
    aws.clock.now += LEASE_S + 1
    await aws.seal(first["run_id"])
    await aws.carry_out()
    assert aws.text(second["run_id"]) == "Hello."
    await aws.seal(first["run_id"])
    assert aws.invocations.asked == []


async def test_a_process_that_hung_and_wakes_up_changes_nothing(
    aws: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease is over, its run is sealed, and then it goes on."""
    monkeypatch.setattr(beat, "BEAT_EVERY_S", 60.0)
    gate = asyncio.Event()
    aws.model.scripts.append([[FieldDelta("content", "One")], gate, *exchange.reply(" End.")])
    run_id = (await aws.send())["run_id"]
    running = aws.carrying_out()
    await until(lambda: aws.text(run_id) == "One")
    aws.clock.now += LEASE_S + 1
    await aws.resume(run_id, here="c2")
    gate.set()
    async with asyncio.timeout(10):
        await running
    for connection in ("c1", "c2"):
        assert aws.text(run_id, connection) == "One"
    assert aws.done(run_id, "c2")["reason"] == "interrupted"
    assert (await aws.run(run_id)).end == "interrupted"


async def test_there_is_nothing_to_do_for_a_run_that_is_unknown(aws: Deployment) -> None:
    await aws.seal("a" * 26)
    assert aws.transport.frames == {}

"""The runs of one session, over many processes with clocks of their own: one at a time, in their order."""

import asyncio

import pytest

from gateway.runs.beat import LEASE_S
from gateway.runs.run_starter import BEGUN_WITHIN_S
from storage.dynamodb.runs import DynamoRuns
from storage.errors import NotRunOwnerError
from tests.gateway.jobs.deployment import Deployment
from tests.gateway.jobs.test_reply_job import held, until
from tests.gateway.runs.fakes import ANNA


async def a_session(aws: Deployment) -> str:
    """Return a session in which nothing is under way."""
    session_id: str = (await aws.send())["session_id"]
    await aws.carry_out()
    aws.clock.now += 10
    return session_id


async def test_a_clock_that_is_behind_starts_no_second_answer(aws: Deployment) -> None:
    session_id = await a_session(aws)
    gate = held(aws, "One")
    active = await aws.send("s2", session_id=session_id)
    running = aws.carrying_out()
    await until(lambda: aws.text(active["run_id"]) == "One")
    aws.clock.now -= 0.005
    waiting = await aws.send("s3", session_id=session_id, if_busy="queue")
    assert aws.invocations.asked == []
    gate.set()
    await running
    assert aws.done(waiting["run_id"])["reason"] == "stop"


async def test_sends_that_overtake_each_other_are_answered_one_after_the_other(
    aws: Deployment,
) -> None:
    session_id = await a_session(aws)
    for attempt in range(5):
        aws.clock.now += 1
        sending = []
        for name in ("a", "b"):  # the later one may be committed first
            sending.append(
                asyncio.create_task(
                    aws.send(f"{name}{attempt}", session_id=session_id, if_busy="queue", here=name)
                )
            )
            for _ in range(2):
                await asyncio.sleep(0)
            aws.clock.now += 0.001
        first, second = await asyncio.gather(*sending)
        started = {run_id for _, run_id in aws.invocations.asked}
        assert len(started) == 1
        await aws.carry_out()
        for accepted, here in ((first, "a"), (second, "b")):
            assert aws.done(accepted["run_id"], here)["reason"] == "stop"


async def test_a_start_before_its_turn_begins_nothing(aws: Deployment) -> None:
    session_id = await a_session(aws)
    gate = held(aws, "One")
    active = await aws.send("s2", session_id=session_id)
    running = aws.carrying_out()
    await until(lambda: aws.text(active["run_id"]) == "One")
    waiting = (await aws.send("s3", session_id=session_id, if_busy="queue"))["run_id"]
    process = aws.process()
    await process.reply.run(ANNA, waiting, deadline=aws.clock() + 600)
    assert (await aws.run(waiting)).state == "queued"
    assert len(aws.model.requests) == 2
    gate.set()
    await running
    assert aws.done(waiting)["reason"] == "stop"


async def until_kept_alive(aws: Deployment, run_id: str) -> None:
    """Wait for a beat under the clock as it is now."""
    async with asyncio.timeout(10):
        while (await aws.run(run_id)).lease_until <= aws.clock():
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("met_by", ["the platform, again", "a resume", "another cancel"])
async def test_a_waiting_run_whose_process_died_ending_it_is_ended_by_who_meets_it(
    aws: Deployment, met_by: str
) -> None:
    session_id = await a_session(aws)
    gate = held(aws, "One")
    active = (await aws.send("s2", session_id=session_id))["run_id"]
    running = aws.carrying_out()
    await until(lambda: aws.text(active) == "One")
    aws.clock.now += 1
    dead = (await aws.send("s3", session_id=session_id, if_busy="queue"))["run_id"]
    aws.clock.now += 1
    last = (await aws.send("s4", session_id=session_id, if_busy="queue"))["run_id"]
    await aws.cancel(dead)
    assert aws.invocations.asked == [(ANNA, dead)]
    aws.invocations.asked.clear()
    runs = aws.process().store.of(ANNA).runs
    await runs.claim(dead, claimed_by="dead", lease_until=aws.clock() + LEASE_S)
    aws.clock.now += LEASE_S + 1
    await until_kept_alive(aws, active)
    match met_by:
        case "the platform, again":
            await aws.process().reply.run(ANNA, dead, deadline=aws.clock() + 600)
        case "a resume":
            assert (await aws.resume(dead, here="c2"))["state"] == "ended"
        case "another cancel":
            await aws.cancel(dead)
    assert (await aws.run(dead)).end == "cancelled"
    assert (await aws.run(active)).state == "running"
    gate.set()
    await running
    assert aws.text(active) == "One End."
    assert aws.done(last)["reason"] == "stop"


async def test_what_waits_behind_a_living_run_costs_no_write_that_must_fail(
    aws: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken_over: list[str] = []

    async def take_over(self: DynamoRuns, run_id: str, **named: object) -> None:
        taken_over.append(run_id)
        raise NotRunOwnerError

    session_id = await a_session(aws)
    gate = held(aws, "One")
    active = (await aws.send("s2", session_id=session_id))["run_id"]
    running = aws.carrying_out()
    await until(lambda: aws.text(active) == "One")
    monkeypatch.setattr(DynamoRuns, "take_over", take_over)
    for number in (3, 4):
        await aws.send(f"s{number}", session_id=session_id, if_busy="queue")
        aws.clock.now += 0.001
    gate.set()
    await running
    assert taken_over == []


async def test_what_waits_behind_one_that_may_yet_begin_starts_that_no_second_time(
    aws: Deployment,
) -> None:
    session_id = await a_session(aws)
    first = (await aws.send("s2", session_id=session_id))["run_id"]
    assert aws.invocations.asked == [(ANNA, first)]
    aws.clock.now += BEGUN_WITHIN_S / 2
    await aws.send("s3", session_id=session_id, if_busy="queue")
    assert aws.invocations.asked == [(ANNA, first)]
    aws.clock.now += BEGUN_WITHIN_S / 2
    waiting = (await aws.send("s4", session_id=session_id, if_busy="queue"))["run_id"]
    assert aws.invocations.asked == [(ANNA, first)] * 2  # the first may be lost
    await aws.carry_out()
    assert aws.done(waiting)["reason"] == "stop"

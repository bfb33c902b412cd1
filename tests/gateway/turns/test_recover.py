"""What a process does with the runs that its predecessor left, killed at any point."""

import asyncio
import logging
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from gateway.turns.finish import started
from gateway.turns.recover import CLAIMS_MAX
from gateway.wire.commands import Resume
from gateway.wire.errors import StorageUnavailableError as UnavailableToClient
from storage.errors import NotRunOwnerError, StorageUnavailableError
from storage.keys import run_id
from storage.records import LogEntry
from streaming.parts import FieldDelta, FieldDone, FieldValue
from tests.gateway.runs.fakes import ANNA, BEN, FakeBlobs, at
from tests.gateway.turns.exchange import (
    Exchange,
    Step,
    exchange,
    prompt_tokens,
    reply,
    stored_usage,
)

LARGE = "春" * 4_000  # spilled
RUN = run_id(ANNA, "s1")


def half() -> list[Step]:
    """A reply that stops in the middle of a word and never goes on."""
    return [[FieldDelta("content", "Half a wo")], asyncio.Event()]


async def killed_while(
    folder: Path, script: list[Step], *, text: str, queued: int = 0
) -> tuple[str, FakeBlobs]:
    """Leave what a process leaves that is killed when that text has been shown; return the session."""
    async with exchange(folder) as chat:
        chat.model.scripts = [script]
        session = (await chat.send("first", id="s1"))["session_id"]
        async with asyncio.timeout(5):
            while chat.text(RUN) != text:
                await asyncio.sleep(0.001)
        for number in range(2, 2 + queued):
            await chat.send(f"m{number}", id=f"s{number}", session_id=session, if_busy="queue")
        return session, chat.blobs


async def resumed(chat: Exchange, run: str = RUN) -> None:
    await chat.following.resume(
        ANNA, at("c1"), Resume(type="resume", run_id=run, after=0), chat.post()
    )


async def test_a_run_that_was_live_is_interrupted_with_what_was_shown(
    tmp_path: Path, no_waits: None
) -> None:
    session, _ = await killed_while(tmp_path, half(), text="Half a wo")
    async with exchange(tmp_path) as chat:
        await chat.recovery.at_start(await chat.store.unfinished())
        run = await chat.row(RUN)
        assert (run.state, run.end) == ("ended", "interrupted")
        assert await chat.history(session) == [("user", "first"), ("assistant", "Half a wo")]
        assert chat.model.requests == []
        await resumed(chat)
        events = chat.events(RUN)
        types = [event["type"] for event in events]
        assert types == ["started", "content.delta", "usage", "done"]
        assert events[-1] == {
            "type": "done",
            "reason": "interrupted",
            "message_id": run.reply_id,
            "saved": True,
        }


async def test_everything_that_was_shown_is_kept(tmp_path: Path, no_waits: None) -> None:
    script: list[Step] = [
        [FieldDelta("content", "One "), FieldValue("emotion", "happy")],
        [FieldDelta("content", LARGE)],
        [FieldDelta("content", " two"), FieldDone("content")],
        [FieldValue("memory", "Likes tea."), FieldDelta("other", "x")],
        asyncio.Event(),
    ]
    session, blobs = await killed_while(tmp_path, script, text=f"One {LARGE} two")
    async with exchange(tmp_path) as chat:
        chat.blobs.bodies.update(blobs.bodies)
        await chat.recovery.at_start(await chat.store.unfinished())
        run = await chat.row(RUN)
        its = chat.store.inner.of(ANNA)
        stored = await its.messages.get(run.reply_id)
        assert stored is not None
        assert (stored.content, stored.emotion, stored.category, stored.end) == (
            f"One {LARGE} two",
            "happy",
            None,
            "interrupted",
        )
        memories = await its.memories.page(before=None, limit=10)
        await resumed(chat)
        noted = [event["value"] for event in chat.events(RUN) if event["type"] == "memory"]
        assert [memory.value for memory in memories.items] == noted
        assert chat.text(RUN) == stored.content
        assert session == run.session_id


async def test_a_spilled_event_that_is_gone_costs_only_itself(
    tmp_path: Path, no_waits: None, caplog: pytest.LogCaptureFixture
) -> None:
    script: list[Step] = [
        [FieldDelta("content", "One ")],
        [FieldDelta("content", LARGE)],
        [FieldDelta("content", "two")],
        asyncio.Event(),
    ]
    session, _ = await killed_while(tmp_path, script, text=f"One {LARGE}two")
    async with exchange(tmp_path) as chat:
        with caplog.at_level(logging.WARNING):
            await chat.recovery.at_start(await chat.store.unfinished())
        assert (await chat.history(session))[-1] == ("assistant", "One two")
        assert "a spilled event is gone" in caplog.text


async def test_a_run_that_died_before_its_first_event(tmp_path: Path, no_waits: None) -> None:
    async with exchange(tmp_path, claim_at_once=False) as chat:
        chat.starter.holding = True
        session = (await chat.send("Hi", id="s1"))["session_id"]
        await chat.store.inner.of(ANNA).runs.claim(
            RUN, claimed_by="the dead one", lease_until=chat.now + 10
        )
    async with exchange(tmp_path) as chat:
        await chat.recovery.at_start(await chat.store.unfinished())
        await resumed(chat)
        assert [event["type"] for event in chat.events(RUN)] == ["started", "done"]
        assert chat.events(RUN)[0]["id"] == "s1"
        assert chat.done(RUN)["reason"] == "interrupted"
        assert await chat.history(session) == [("user", "Hi")]


async def test_a_run_that_was_to_be_cancelled_is_cancelled(tmp_path: Path, no_waits: None) -> None:
    async with exchange(tmp_path) as chat:
        chat.model.scripts = [half()]
        await chat.send("Hi", id="s1")
        await chat.model.asked.wait()
        await chat.store.inner.of(ANNA).runs.cancel(RUN, now=chat.now)
    async with exchange(tmp_path) as chat:
        await chat.recovery.at_start(await chat.store.unfinished())
        assert (await chat.row(RUN)).end == "cancelled"


async def test_a_message_that_was_accepted_but_not_begun_is_answered(
    tmp_path: Path, no_waits: None
) -> None:
    async with exchange(tmp_path) as chat:
        chat.starter.holding = True
        await chat.send("Hi", id="s1")
    async with exchange(tmp_path) as chat:
        await chat.recovery.at_start(await chat.store.unfinished())
        await chat.settle()
        await resumed(chat)
        assert chat.done(RUN)["reason"] == "stop"
        assert chat.text(RUN) == "Hello."


async def test_what_waited_is_answered_in_its_order(tmp_path: Path, no_waits: None) -> None:
    await killed_while(tmp_path, half(), text="Half a wo", queued=3)
    async with exchange(tmp_path) as chat:
        await chat.recovery.at_start(await chat.store.unfinished())
        await chat.settle()
        asked = [request.messages[-1].content for request in chat.model.requests]
        assert asked == ["m2", "m3", "m4"]
        assert chat.starter.started == [run_id(ANNA, f"s{number}") for number in (2, 3, 4)]
        for number in (2, 3, 4):
            assert (await chat.row(run_id(ANNA, f"s{number}"))).end == "stop"


async def test_what_waits_counts_and_can_be_followed(tmp_path: Path, no_waits: None) -> None:
    await killed_while(tmp_path, half(), text="Half a wo", queued=3)
    async with exchange(tmp_path) as chat:
        chat.model.scripts = [[asyncio.Event()]]
        await chat.recovery.at_start(await chat.store.unfinished())
        assert chat.live.count(ANNA) == 3
        for number in (3, 4):
            await resumed(chat, run_id(ANNA, f"s{number}"))
        told = [each for each in chat.transport.answers("c1") if each["type"] == "resumed"]
        assert [each["state"] for each in told] == ["queued", "queued"]


async def test_a_run_that_died_while_it_was_ended_out_of_turn_keeps_nobody_waiting(
    tmp_path: Path, no_waits: None
) -> None:
    async with exchange(tmp_path) as chat:
        chat.model.scripts = [half()]
        session = (await chat.send("first", id="s1"))["session_id"]
        await chat.model.asked.wait()
        chat.starter.holding = True
        for number in (2, 3):
            await chat.send(f"m{number}", id=f"s{number}", session_id=session, if_busy="queue")
        runs, second = chat.store.inner.of(ANNA).runs, run_id(ANNA, "s2")
        await runs.cancel(second, now=chat.now)
        await runs.claim(second, claimed_by="the dead one", lease_until=chat.now + 10)
    async with exchange(tmp_path) as chat:
        await chat.recovery.at_start(await chat.store.unfinished())
        await chat.settle()
        ends = [(await chat.row(run_id(ANNA, f"s{number}"))).end for number in (1, 2, 3)]
        assert ends == ["interrupted", "cancelled", "stop"]


async def test_a_clock_that_was_set_back_does_not_change_what_is_taken_up_first(
    tmp_path: Path, no_waits: None
) -> None:
    async with exchange(tmp_path) as chat:
        chat.starter.holding = True
        session = (await chat.send("first", id="s1"))["session_id"]
        chat.now -= 0.2
        await chat.send("second", id="s2", session_id=session, if_busy="queue")
    async with exchange(tmp_path) as chat:
        chat.now += 10
        await chat.recovery.at_start(await chat.store.unfinished())
        assert chat.starter.started == [RUN]
        await chat.settle()
        asked = [request.messages[-1].content for request in chat.model.requests]
        assert asked == ["first", "second"]


async def test_sessions_are_taken_up_beside_each_other(tmp_path: Path, no_waits: None) -> None:
    async with exchange(tmp_path) as chat:
        chat.starter.holding = True
        for owner in (ANNA, BEN):
            session = (await chat.send("first", id="s1", owner=owner))["session_id"]
            await chat.send("next", id="s2", owner=owner, session_id=session, if_busy="queue")
            await chat.send("other", id="s3", owner=owner)
    async with exchange(tmp_path) as chat:
        await chat.recovery.at_start(await chat.store.unfinished())
        begun = list(chat.starter.started)
        await chat.settle()
        assert sorted(begun) == sorted(
            run_id(owner, name) for owner in (ANNA, BEN) for name in ("s1", "s3")
        )
        for owner in (ANNA, BEN):
            for name in ("s1", "s2", "s3"):
                assert (await chat.row(run_id(owner, name), owner)).end == "stop"


async def test_nothing_is_left_for_a_second_recovery(tmp_path: Path, no_waits: None) -> None:
    await killed_while(tmp_path, half(), text="Half a wo", queued=1)
    async with exchange(tmp_path) as chat:
        await chat.recovery.at_start(await chat.store.unfinished())
        await chat.settle()
        assert not await chat.store.inner.unfinished()
        before = list(chat.starter.started)
        await chat.recovery.at_start(await chat.store.unfinished())
        assert chat.starter.started == before


async def test_an_empty_store_has_nothing_to_recover(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with exchange(tmp_path) as chat:
        with caplog.at_level(logging.INFO):
            await chat.recovery.at_start(await chat.store.unfinished())
        assert caplog.records == []


# What it cost


async def usage_told(chat: Exchange) -> list[dict[str, object]]:
    await resumed(chat)
    return [event for event in chat.events(RUN) if event["type"] == "usage"]


@pytest.mark.parametrize("end", ["interrupted", "cancelled"])
async def test_what_a_dead_run_cost_is_estimated_as_for_a_living_one(
    tmp_path: Path, no_waits: None, end: str
) -> None:
    async with exchange(tmp_path) as chat:
        chat.model.scripts = [reply("One!", memory="Likes tea."), half()]
        session = (await chat.talk("first", id="s0", character="sora"))["session_id"]
        await chat.send("second", id="s1", session_id=session)
        async with asyncio.timeout(5):
            while chat.text(RUN) != "Half a wo":
                await asyncio.sleep(0.001)
        asked = chat.model.requests[1]
        if end == "cancelled":
            await chat.store.inner.of(ANNA).runs.cancel(RUN, now=chat.now)
    async with exchange(tmp_path) as chat:
        await chat.recovery.at_start(await chat.store.unfinished())
        (told,) = await usage_told(chat)
        assert chat.events(RUN)[-2:] == [told, chat.done(RUN)]
        assert chat.done(RUN)["reason"] == end
        assert told == {
            "type": "usage",
            "model": "fake",
            "prompt_tokens": prompt_tokens(asked),
            "completion_tokens": 3,
            "estimated": True,
        }
        stored = stored_usage(tmp_path, RUN)
        assert stored is not None
        assert {"type": "usage", **asdict(stored)} == told


async def test_a_run_for_which_no_model_was_asked_cost_nothing(
    tmp_path: Path, no_waits: None
) -> None:
    async with exchange(tmp_path) as chat:
        chat.starter.holding = True
        await chat.send("Hi", id="s1")
        its = chat.store.inner.of(ANNA)
        run = await its.runs.claim(RUN, claimed_by="the dead one", lease_until=chat.now + 10)
        kept = asyncio.get_running_loop().create_future()
        its.log.append(
            LogEntry(run_id=RUN, first=1, last=1, body=started(run)),
            claimed_by="the dead one",
            acknowledge=kept.set_result,
        )
        assert await kept is None
    async with exchange(tmp_path) as chat:
        await chat.recovery.at_start(await chat.store.unfinished())
        assert await usage_told(chat) == []
        assert [event["type"] for event in chat.events(RUN)] == ["started", "done"]
        assert stored_usage(tmp_path, RUN) is None


async def test_a_prompt_that_cannot_be_read_keeps_no_run_open(
    tmp_path: Path, no_waits: None, caplog: pytest.LogCaptureFixture
) -> None:
    session, _ = await killed_while(tmp_path, half(), text="Half a wo")
    async with exchange(tmp_path) as chat:
        chat.store.refuse("memories.newest")
        await chat.recovery.at_start(await chat.store.unfinished())
        assert await usage_told(chat) == []
        assert chat.done(RUN)["reason"] == "interrupted"
        assert (await chat.history(session))[-1] == ("assistant", "Half a wo")
        assert "usage not estimated" in caplog.text


# What goes wrong meanwhile


async def test_one_run_that_cannot_be_sealed_does_not_keep_the_others_waiting(
    tmp_path: Path, no_waits: None, caplog: pytest.LogCaptureFixture
) -> None:
    session, _ = await killed_while(tmp_path, half(), text="Half a wo", queued=1)
    async with exchange(tmp_path) as chat:
        chat.starter.holding = True
        await chat.send("other", id="s9")
    async with exchange(tmp_path) as chat:
        chat.store.refuse("runs.finish")
        await chat.recovery.at_start(await chat.store.unfinished())
        await chat.settle()
        assert (await chat.row(run_id(ANNA, "s9"))).end == "stop"
        assert (await chat.row(RUN)).state == "running"
        assert "run not recovered" in caplog.text
        chat.now += 11
        await chat.recovery.revive(ANNA, session)  # whoever touches the session next
        await chat.settle()
        assert (await chat.row(RUN)).end == "interrupted"
        assert (await chat.row(run_id(ANNA, "s2"))).end == "stop"


async def test_a_run_of_a_living_lease_is_not_sealed(tmp_path: Path, no_waits: None) -> None:
    async with exchange(tmp_path) as chat:
        chat.model.scripts = [half()]
        await chat.send("Hi", id="s1")
        await chat.model.asked.wait()
        run = await chat.row(RUN)
        with pytest.raises(NotRunOwnerError):
            await chat.sealer.seal(ANNA, run)
        live = chat.live.find(ANNA, RUN)
        assert live is not None
        await chat.recovery.revive(ANNA, run.session_id)
        assert (await chat.row(RUN)).state == "running"


async def test_a_run_that_is_generated_here_is_never_sealed_by_a_touch(
    tmp_path: Path, no_waits: None
) -> None:
    async with exchange(tmp_path) as chat:
        chat.model.scripts = [half()]
        session = (await chat.send("Hi", id="s1"))["session_id"]
        await chat.model.asked.wait()
        chat.now += 3_600
        await chat.recovery.revive(ANNA, session)
        assert (await chat.row(RUN)).state == "running"


async def test_an_ended_run_is_not_sealed(tmp_path: Path, no_waits: None) -> None:
    async with exchange(tmp_path) as chat:
        accepted = await chat.talk("Hi", id="s1")
        chat.now += 3_600
        run = await chat.row(accepted["run_id"])
        with pytest.raises(NotRunOwnerError):
            await chat.sealer.seal(ANNA, replace(run, state="running"))
        assert (await chat.row(accepted["run_id"])).end == "stop"


async def test_a_store_that_does_not_tell_what_there_is_is_an_error(tmp_path: Path) -> None:
    async with exchange(tmp_path) as chat:

        async def refuse() -> None:
            raise StorageUnavailableError("no")

        chat.store.inner.unfinished = refuse  # type: ignore[method-assign] # a fault
        with pytest.raises(StorageUnavailableError):
            await chat.recovery.at_start(await chat.store.unfinished())


async def test_claims_of_failed_accepts_are_kept_within_a_bound(tmp_path: Path) -> None:
    async with exchange(tmp_path) as chat:
        chat.store.lose("runs.accept")
        with pytest.raises(StorageUnavailableError):
            await chat.send("Hi", id="s1")
        for number in range(CLAIMS_MAX):
            chat.recovery.keep_claim(f"claim-{number}")
        with pytest.raises(UnavailableToClient):
            await chat.send("Hi", id="s1")
        chat.now += 11  # what is not known to be ours is sealed
        accepted = await chat.send("Hi", id="s1")
        assert chat.done(accepted["run_id"])["reason"] == "interrupted"


@pytest.mark.parametrize("missing", ["owner", "session"])
async def test_reviving_what_is_not_there_is_harmless(tmp_path: Path, missing: str) -> None:
    async with exchange(tmp_path) as chat:
        chat.starter.holding = True
        session = (await chat.send("Hi", id="s1"))["session_id"]
        chat.starter.holding = False
        if missing == "owner":
            await chat.recovery.revive(BEN, session)
        else:
            await chat.recovery.revive(ANNA, "none")
        assert chat.starter.started == []

"""One reply from its claim to its end, whatever happens on the way."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from gateway.runs import appender
from gateway.runs.beat import LEASE_S
from gateway.turns import coalescing
from gateway.turns.finish import Finisher
from gateway.turns.generate import Generator
from gateway.wire.commands import Resume
from storage.errors import LogSlotTakenError, StorageUnavailableError, UnstorableTextError
from streaming.models.chat_model import ModelRequest
from streaming.models.errors import ModelTimeoutError, ModelUnavailableError
from streaming.parts import FieldDelta, Finished, Part
from tests.gateway.runs.fakes import ANNA, at
from tests.gateway.turns.exchange import Exchange, exchange, prompt_tokens, reply


async def wait_for(chat: Exchange, run_id: str, text: str) -> None:
    async with asyncio.timeout(5):
        while chat.text(run_id) != text:
            await asyncio.sleep(0.001)


# A whole reply


async def test_a_reply_from_started_to_done(chat: Exchange) -> None:
    chat.model.scripts = [reply("こんにちは 🌸", memory="Lives in 大阪.")]
    accepted = await chat.talk("Hi", id="s1")
    run_id = accepted["run_id"]
    run = await chat.row(run_id)
    events = chat.events(run_id)
    assert [event["type"] for event in events] == [
        "started",
        "content.delta",
        "content.done",
        "emotion",
        "category",
        "memory",
        "usage",
        "done",
    ]
    assert events[0] == {
        "type": "started",
        "id": "s1",
        "session_id": accepted["session_id"],
        "message_id": accepted["message_id"],
        "reply_id": run.reply_id,
        "model": "fake",
    }
    assert events[-2:] == [
        {"type": "usage", "model": "fake", "prompt_tokens": 12, "completion_tokens": 3},
        {"type": "done", "reason": "stop", "message_id": run.reply_id, "saved": True},
    ]
    assert (run.state, run.end, run.last_seq) == ("ended", "stop", 8)


async def test_what_is_stored_of_a_reply(chat: Exchange) -> None:
    chat.model.scripts = [reply("こんにちは", memory="Lives in 大阪.")]
    accepted = await chat.talk("Hi")
    its = chat.store.inner.of(ANNA)
    run = await chat.row(accepted["run_id"])
    stored = await its.messages.get(run.reply_id)
    assert stored is not None
    assert (stored.content, stored.emotion, stored.category, stored.end, stored.reply_to) == (
        "こんにちは",
        "happy",
        "story",
        "stop",
        accepted["message_id"],
    )
    (memory,) = (await its.memories.page(before=None, limit=10)).items
    event = next(e for e in chat.events(accepted["run_id"]) if e["type"] == "memory")
    assert (memory.memory_id, memory.value) == (event["memory_id"], "Lives in 大阪.")


async def test_the_stored_log_is_what_was_shown(chat: Exchange) -> None:
    accepted = await chat.talk("Hi")
    shown = chat.events(accepted["run_id"])
    chat.live.drop(chat.live.open(ANNA, await chat.row(accepted["run_id"])))
    await chat.following.resume(
        ANNA,
        at("c2"),
        Resume(type="resume", run_id=accepted["run_id"], after=0),
        chat.post("c2"),
    )
    assert chat.events(accepted["run_id"], "c2") == shown


async def test_text_leaves_while_the_model_still_writes(chat: Exchange) -> None:
    more = asyncio.Event()
    chat.model.scripts = [[[FieldDelta("content", "One")], more, *reply(" two")]]
    accepted = await chat.send()
    await wait_for(chat, accepted["run_id"], "One")
    more.set()
    await chat.settle()
    assert chat.text(accepted["run_id"]) == "One two"


async def test_among_many_answers_the_first_text_waits_for_nothing_and_stop_stops(
    chat: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coalescing, "READS_PER_S", 1e-3)
    monkeypatch.setattr(coalescing, "LONGEST_S", 1e3)
    chat.model.scripts = [[[FieldDelta("content", "One")], *reply(" two")]]
    accepted = await chat.send()
    await wait_for(chat, accepted["run_id"], "One")
    live = chat.live.find(ANNA, accepted["run_id"])
    assert live is not None
    live.cancel()
    async with asyncio.timeout(5):
        await chat.settle()
    assert chat.text(accepted["run_id"]) == "One"
    assert chat.model.closed == 1


async def test_an_answer_that_waits_for_its_first_word_slows_no_other(
    chat: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coalescing, "READS_PER_S", 1e-3)
    monkeypatch.setattr(coalescing, "SHORTEST_S", 1e3)  # one answer is read at once, two are not
    monkeypatch.setattr(coalescing, "LONGEST_S", 1e6)
    speaks = asyncio.Event()
    chat.model.scripts = [[speaks, *reply("Late")], reply("Soon")]
    late = await chat.send(id="s1")
    await chat.model.asked.wait()
    soon = await chat.send(id="s2")
    await wait_for(chat, soon["run_id"], "Soon")
    async with asyncio.timeout(5):
        while chat.events(soon["run_id"])[-1]["type"] != "done":
            await asyncio.sleep(0.001)
    speaks.set()
    await chat.settle()
    assert chat.text(late["run_id"]) == "Late"


async def test_what_the_model_left_out_gets_its_default(chat: Exchange) -> None:
    chat.model.scripts = [[[FieldDelta("content", "Hi")], [Finished("stop")]]]
    accepted = await chat.talk()
    types = [event["type"] for event in chat.events(accepted["run_id"])]
    assert types == [
        "started",
        "content.delta",
        "content.done",
        "emotion",
        "category",
        "usage",
        "done",
    ]


@pytest.mark.parametrize("finish_reason", ["length", "content_filter"])
async def test_a_reply_that_was_cut_is_kept_and_marked(chat: Exchange, finish_reason: str) -> None:
    chat.model.scripts = [[[FieldDelta("content", "Once upon")], [Finished(finish_reason)]]]
    accepted = await chat.talk()
    run = await chat.row(accepted["run_id"])
    stored = await chat.store.inner.of(ANNA).messages.get(run.reply_id)
    assert stored is not None
    assert stored.content == "Once upon"
    assert (
        stored.end == run.end == {"length": "length", "content_filter": "filtered"}[finish_reason]
    )


async def test_usage_is_estimated_where_the_provider_has_not_said(chat: Exchange) -> None:
    chat.model.scripts = [[[FieldDelta("content", "春は曙")], [Finished("stop")]]]
    accepted = await chat.talk("abcdefgh")
    usage = next(e for e in chat.events(accepted["run_id"]) if e["type"] == "usage")
    assert usage == {
        "type": "usage",
        "model": "fake",
        "prompt_tokens": prompt_tokens(chat.model.requests[0]),
        "completion_tokens": 3,
        "estimated": True,
    }


async def test_a_run_leaves_one_line_in_the_log_without_a_word_of_it(
    chat: Exchange, caplog: pytest.LogCaptureFixture
) -> None:
    chat.model.scripts = [reply("a secret answer")]
    with caplog.at_level(logging.INFO):
        accepted = await chat.talk("a secret question")
    (record,) = [record for record in caplog.records if record.message == "run ended"]
    fields = vars(record)
    assert (fields["run_id"], fields["reason"], fields["events"]) == (
        accepted["run_id"],
        "stop",
        7,
    )
    assert (fields["prompt_tokens"], fields["completion_tokens"]) == (12, 3)
    assert fields["frames"] >= 1
    assert "secret" not in str([vars(each) for each in caplog.records])


async def test_a_run_that_was_claimed_when_it_was_accepted_is_not_claimed_again(
    tmp_path: Path,
) -> None:
    async with exchange(tmp_path, claim_at_once=True) as chat:
        await chat.talk()
        assert chat.store.calls == ["runs.accept", "runs.finish"]


# What the model is asked


async def test_earlier_turns_and_memories_are_in_the_prompt(chat: Exchange) -> None:
    chat.model.scripts = [reply("One!", memory="Likes tea."), reply("Two!"), reply("Three!")]
    session = (await chat.talk("first", id="s1"))["session_id"]
    await chat.talk("second", id="s2", session_id=session)
    await chat.talk("third", id="s3", session_id=session)
    await chat.talk("elsewhere", id="s4")
    asked = [[(each.role, each.content) for each in r.messages] for r in chat.model.requests]
    assert asked[2][1:] == [
        ("user", "first"),
        ("assistant", "One!"),
        ("user", "second"),
        ("assistant", "Two!"),
        ("user", "third"),
    ]
    assert [len(messages) for messages in asked] == [2, 4, 6, 2]
    assert "Likes tea." not in asked[0][0][1]
    assert all('["Likes tea."]' in messages[0][1] for messages in asked[1:])


async def test_the_character_of_a_session_answers_in_all_of_it(chat: Exchange) -> None:
    session = (await chat.talk("first", id="s1", character="makoto"))["session_id"]
    await chat.talk("second", id="s2", session_id=session)
    assert [r.messages[0].content.startswith("You are Makoto.") for r in chat.model.requests] == [
        True,
        True,
    ]


async def test_the_model_is_made_to_call_the_reply_function(chat: Exchange) -> None:
    await chat.talk()
    assert chat.model.requests[0].function.name == "reply"


# Stopping


async def test_a_cancel_keeps_what_was_said(chat: Exchange) -> None:
    chat.model.scripts = [[[FieldDelta("content", "Half")], asyncio.Event()]]
    accepted = await chat.send()
    await wait_for(chat, accepted["run_id"], "Half")
    live = chat.live.find(ANNA, accepted["run_id"])
    assert live is not None
    live.cancel()
    await chat.settle()
    done = chat.done(accepted["run_id"])
    assert (done["reason"], done["saved"]) == ("cancelled", True)
    assert chat.model.closed == 1
    assert ("assistant", "Half") in await chat.history(accepted["session_id"])
    types = [event["type"] for event in chat.events(accepted["run_id"])]
    assert types == ["started", "content.delta", "usage", "done"]


async def test_a_second_cancel_does_not_cut_off_the_closing_of_the_request(
    chat: Exchange,
) -> None:
    chat.model.close_gate = asyncio.Event()
    chat.model.scripts = [[[FieldDelta("content", "Half")], asyncio.Event()]]
    accepted = await chat.send()
    await wait_for(chat, accepted["run_id"], "Half")
    live = chat.live.find(ANNA, accepted["run_id"])
    assert live is not None
    live.cancel()
    await asyncio.sleep(0)
    live.cancel()
    await asyncio.sleep(0.01)
    assert chat.model.closed == 0
    chat.model.close_gate.set()
    await chat.settle()
    assert chat.model.closed == 1


async def test_a_cancel_counts_though_the_request_closes_with_an_error(
    chat: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(request: ModelRequest) -> AsyncGenerator[list[Part], None]:
        yield [FieldDelta("content", "Half")]
        try:
            await asyncio.Event().wait()
        finally:
            raise ModelUnavailableError("cut")

    monkeypatch.setattr(chat.model, "stream", broken)
    accepted = await chat.send()
    await wait_for(chat, accepted["run_id"], "Half")
    live = chat.live.find(ANNA, accepted["run_id"])
    assert live is not None
    live.cancel()
    await chat.settle()
    assert chat.done(accepted["run_id"])["reason"] == "cancelled"


async def test_a_cancel_at_the_very_end_changes_nothing(
    chat: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ending(request: ModelRequest) -> AsyncGenerator[list[Part], None]:
        yield [FieldDelta("content", "Whole"), Finished("stop")]
        [live] = chat.live.all()
        live.cancel()

    monkeypatch.setattr(chat.model, "stream", ending)
    accepted = await chat.send()
    await chat.settle()
    assert chat.done(accepted["run_id"])["reason"] == "stop"


async def test_a_cancel_before_the_first_word_stores_no_reply(chat: Exchange) -> None:
    chat.model.scripts = [[asyncio.Event()]]
    accepted = await chat.send("Hi")
    await chat.model.asked.wait()
    live = chat.live.find(ANNA, accepted["run_id"])
    assert live is not None
    live.cancel()
    await chat.settle()
    assert chat.done(accepted["run_id"])["reason"] == "cancelled"
    assert await chat.history(accepted["session_id"]) == [("user", "Hi")]


async def test_a_cancel_while_the_prompt_is_read_asks_no_model(tmp_path: Path) -> None:
    async with exchange(tmp_path, claim_at_once=False) as chat:
        chat.store.gates["messages.turns_before"] = asyncio.Event()
        accepted = await chat.send()
        async with asyncio.timeout(5):
            while "messages.turns_before" not in chat.store.calls:
                await asyncio.sleep(0.001)
        live = chat.live.find(ANNA, accepted["run_id"])
        assert live is not None
        live.cancel()
        await chat.settle()
        assert chat.done(accepted["run_id"])["reason"] == "cancelled"
        assert chat.model.requests == []


async def test_a_run_that_is_cancelled_before_it_begins_asks_no_model(chat: Exchange) -> None:
    chat.starter.holding = True
    accepted = await chat.send()
    live = chat.live.find(ANNA, accepted["run_id"])
    assert live is not None
    live.cancel()
    chat.starter.holding = False
    chat.starter.start(live)
    await chat.settle()
    assert [event["type"] for event in chat.events(accepted["run_id"])] == ["started", "done"]
    assert chat.done(accepted["run_id"])["reason"] == "cancelled"
    assert chat.model.requests == []


async def test_a_cancel_that_only_the_store_knows_of_counts(chat: Exchange) -> None:
    chat.starter.holding = True
    accepted = await chat.send()
    await chat.store.inner.of(ANNA).runs.cancel(accepted["run_id"], now=chat.now)
    live = chat.live.find(ANNA, accepted["run_id"])
    assert live is not None
    chat.starter.holding = False
    chat.starter.start(live)
    await chat.settle()
    assert chat.done(accepted["run_id"])["reason"] == "cancelled"
    assert chat.model.requests == []


async def test_an_interrupted_reply_is_stored_as_such(chat: Exchange) -> None:
    chat.model.scripts = [[[FieldDelta("content", "Half")], asyncio.Event()]]
    accepted = await chat.send()
    await wait_for(chat, accepted["run_id"], "Half")
    live = chat.live.find(ANNA, accepted["run_id"])
    assert live is not None
    live.interrupt()
    await chat.settle()
    assert chat.done(accepted["run_id"])["reason"] == "interrupted"
    assert (await chat.row(accepted["run_id"])).end == "interrupted"


async def test_an_abandoned_generation_closes_its_request_and_ends_nothing(
    chat: Exchange,
) -> None:
    chat.model.scripts = [[[FieldDelta("content", "Half")], asyncio.Event()]]
    accepted = await chat.send()
    await wait_for(chat, accepted["run_id"], "Half")
    task = chat.starter.tasks[accepted["run_id"]]
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert chat.model.closed == 1
    assert (await chat.row(accepted["run_id"])).state == "running"


# Errors


@pytest.mark.parametrize(
    ("error", "reason", "code"),
    [
        (ModelUnavailableError("sk-secret"), "error", "model.unavailable"),
        (ModelTimeoutError("between_chunks"), "timeout", "model.timeout"),
        (RuntimeError("sk-secret"), "error", "internal"),
        (TimeoutError("sk-secret"), "error", "internal"),
    ],
    ids=["model", "timeout", "unforeseen", "a timeout of nobody's"],
)
async def test_an_error_ends_the_run_and_keeps_what_was_said(
    chat: Exchange, error: Exception, reason: str, code: str
) -> None:
    chat.model.scripts = [[[FieldDelta("content", "Half")], error]]
    accepted = await chat.talk()
    done = chat.done(accepted["run_id"])
    assert (done["reason"], done["error"]["code"], done["saved"]) == (reason, code, True)
    assert ("assistant", "Half") in await chat.history(accepted["session_id"])
    assert "secret" not in str(chat.transport.answers("c1"))


async def test_after_an_error_the_session_goes_on(chat: Exchange) -> None:
    chat.model.scripts = [[ModelUnavailableError()], reply("Well.")]
    session = (await chat.talk("first", id="s1"))["session_id"]
    accepted = await chat.talk("second", id="s2", session_id=session)
    assert chat.text(accepted["run_id"]) == "Well."


# A storage that refuses


@pytest.mark.parametrize("times", [1, 3])
async def test_a_claim_is_tried_again(tmp_path: Path, no_waits: None, times: int) -> None:
    async with exchange(tmp_path, claim_at_once=False) as chat:
        chat.store.refuse("runs.claim", times)
        accepted = await chat.talk()
        assert chat.done(accepted["run_id"])["reason"] == "stop"


async def test_a_claim_whose_answer_was_lost_is_ours(tmp_path: Path, no_waits: None) -> None:
    async with exchange(tmp_path, claim_at_once=False) as chat:
        chat.store.lose("runs.claim")
        accepted = await chat.talk()
        assert chat.done(accepted["run_id"])["reason"] == "stop"
        assert len(chat.model.requests) == 1


async def test_a_run_that_cannot_be_claimed_ends_and_is_stored_later(
    tmp_path: Path, no_waits: None
) -> None:
    async with exchange(tmp_path, claim_at_once=False) as chat:
        chat.store.refuse("runs.claim", 6)
        accepted = await chat.send()
        await chat.settle()
        done = chat.done(accepted["run_id"])
        assert (done["reason"], done["saved"]) == ("error", False)
        assert done["error"]["code"] == "storage.unavailable"
        run = await chat.row(accepted["run_id"])
        assert (run.state, run.end) == ("ended", "error")
        assert chat.model.requests == []


async def test_a_claim_that_fails_for_a_fault_of_ours_ends_the_run(
    tmp_path: Path, no_waits: None
) -> None:
    async with exchange(tmp_path, claim_at_once=False) as chat:
        chat.store.refuse("runs.claim", 1, UnstorableTextError("a slip"))
        accepted = await chat.talk()
        assert chat.done(accepted["run_id"])["reason"] == "error"


async def test_a_prompt_that_cannot_be_read_ends_the_run(tmp_path: Path) -> None:
    async with exchange(tmp_path, claim_at_once=False) as chat:
        chat.store.refuse("memories.newest")
        accepted = await chat.talk()
        done = chat.done(accepted["run_id"])
        assert (done["error"]["code"], done["saved"]) == ("storage.unavailable", True)
        assert chat.model.requests == []
        types = [event["type"] for event in chat.events(accepted["run_id"])]
        assert types == ["started", "done"]


@pytest.mark.parametrize("times", [1, 3])
async def test_the_end_is_stored_in_another_try(chat: Exchange, times: int) -> None:
    chat.store.refuse("runs.finish", times)
    accepted = await chat.talk()
    assert chat.done(accepted["run_id"])["saved"] is True
    assert (await chat.row(accepted["run_id"])).state == "ended"


async def test_an_end_whose_answer_was_lost_is_stored_once(chat: Exchange) -> None:
    chat.model.scripts = [reply("Hello.", memory="One fact.")]
    chat.store.lose("runs.finish")
    accepted = await chat.talk("Hi")
    assert chat.done(accepted["run_id"])["saved"] is True
    assert await chat.history(accepted["session_id"]) == [("user", "Hi"), ("assistant", "Hello.")]
    memories = await chat.store.inner.of(ANNA).memories.page(before=None, limit=10)
    assert len(memories.items) == 1


async def test_an_end_that_cannot_be_stored_is_told_and_stored_later(chat: Exchange) -> None:
    chat.store.refuse("runs.finish", 6)
    accepted = await chat.talk("Hi")
    done = chat.done(accepted["run_id"])
    assert (done["reason"], done["saved"]) == ("stop", False)
    run = await chat.row(accepted["run_id"])
    assert (run.state, run.end) == ("ended", "stop")
    assert run.log_until <= chat.now
    assert ("assistant", "Hello.") in await chat.history(accepted["session_id"])
    second = await chat.talk("again", id="s9", session_id=accepted["session_id"])
    assert chat.done(second["run_id"])["saved"] is True


async def test_the_next_message_is_answered_though_the_end_was_stored_late(
    chat: Exchange,
) -> None:
    more = asyncio.Event()
    chat.model.scripts = [[more, *reply("One.")], reply("Two.")]
    first = await chat.send("first", id="s1")
    await chat.model.asked.wait()
    second = await chat.send("second", id="s2", session_id=first["session_id"], if_busy="queue")
    chat.store.refuse("runs.finish", 5)
    more.set()
    await chat.settle()
    assert chat.done(first["run_id"])["saved"] is False
    assert chat.text(second["run_id"]) == "Two."


async def test_a_fault_of_ours_in_the_finish_still_ends_the_run_for_its_readers(
    chat: Exchange, caplog: pytest.LogCaptureFixture
) -> None:
    chat.store.refuse("runs.finish", 1, ZeroDivisionError("unforeseen"))
    accepted = await chat.talk()
    done = chat.done(accepted["run_id"])
    assert (done["reason"], done["saved"], done["error"]["code"]) == ("error", False, "internal")
    assert any(record.exc_info for record in caplog.records)


async def test_a_run_that_a_fault_of_ours_has_broken_is_stored_from_its_log_and_the_next_begins(
    chat: Exchange,
) -> None:
    more = asyncio.Event()
    chat.model.scripts = [[more, *reply("One.", memory="A fact.")], reply("Two.")]
    chat.store.refuse("runs.finish", 1, ZeroDivisionError("unforeseen"))
    first = await chat.send("first", id="s1")
    await chat.model.asked.wait()
    session_id = first["session_id"]
    second = await chat.send("second", id="s2", session_id=session_id, if_busy="queue")
    more.set()
    await chat.settle()
    run = await chat.row(first["run_id"])
    assert (run.state, run.end, run.log_until) == ("ended", "error", chat.now)
    assert run.run_id not in chat.store.inner._journal._logs, "no journal file is kept for it"
    assert chat.text(second["run_id"]) == "Two."
    history = await chat.history(session_id)
    assert [text for _, text in history] == ["first", "One.", "second", "Two."]
    [memory] = await chat.store.inner.of(ANNA).memories.newest(max_bytes=100)
    assert memory.value == "A fact."


async def test_a_run_that_broke_behind_its_end_stays_as_it_is_and_the_next_begins(
    chat: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*_: object) -> None:
        monkeypatch.undo()
        raise ZeroDivisionError

    monkeypatch.setattr(Generator, "_report", break_down)
    more = asyncio.Event()
    chat.model.scripts = [[more, *reply("One.")], reply("Two.")]
    first = await chat.send("first", id="s1")
    await chat.model.asked.wait()
    second = await chat.send("second", id="s2", session_id=first["session_id"], if_busy="queue")
    more.set()
    await chat.settle()
    assert chat.done(first["run_id"])["saved"] is True
    assert (await chat.row(first["run_id"])).end == "stop"
    assert chat.text(second["run_id"]) == "Two."


async def test_a_run_that_breaks_twice_is_sealed_by_who_meets_it(chat: Exchange) -> None:
    chat.store.refuse("runs.finish", 2, ZeroDivisionError("unforeseen"))
    first = await chat.talk("first", id="s1")
    assert chat.done(first["run_id"])["saved"] is False
    assert (await chat.row(first["run_id"])).state == "running"
    live = chat.live.find(ANNA, first["run_id"])
    assert live is not None
    chat.live.drop(live)
    chat.now += LEASE_S + 1
    await chat.recovery.revive(ANNA, first["session_id"])
    assert (await chat.row(first["run_id"])).end == "interrupted"
    assert ("assistant", "Hello.") in await chat.history(first["session_id"])


async def test_a_run_that_broke_is_stored_though_its_readers_cannot_be_told(
    chat: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Finisher, "_tell", break_down)
    chat.store.refuse("runs.finish", 1, ZeroDivisionError("unforeseen"))
    accepted = await chat.send()
    await chat.settle()
    assert (await chat.row(accepted["run_id"])).end == "error"


async def test_a_run_whose_claim_broke_is_ended(chat: Exchange) -> None:
    """Those behind it have their turn, and nobody generates it after its readers heard its end."""
    more = asyncio.Event()
    chat.model.scripts = [[more, *reply("One.")], reply("Three.")]
    first = await chat.send("first", id="s1")
    await chat.model.asked.wait()
    second, third = [
        await chat.send("more", id=name, session_id=first["session_id"], if_busy="queue")
        for name in ("s2", "s3")
    ]
    chat.store.refuse("runs.claim", 1, ZeroDivisionError("unforeseen"))
    more.set()
    await chat.settle()
    assert chat.done(second["run_id"])["reason"] == "error"
    assert (await chat.row(second["run_id"])).end == "error"
    assert chat.text(third["run_id"]) == "Three."


async def test_a_reader_that_breaks_breaks_no_run(
    chat: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    post = chat.transport.post

    def break_down(connection_id: str, frame: bytes) -> asyncio.Future[None] | None:
        if connection_id == "c1" and b'"events"' in frame:
            raise ZeroDivisionError
        return post(connection_id, frame)

    monkeypatch.setattr(chat.transport, "post", break_down)
    accepted = await chat.send()
    await chat.settle()
    assert (await chat.row(accepted["run_id"])).end == "stop"


async def test_a_run_that_another_generation_has_is_left_to_it(chat: Exchange) -> None:
    chat.store.refuse("runs.finish", 1, LogSlotTakenError("taken"))
    accepted = await chat.talk()
    assert [event["type"] for event in chat.events(accepted["run_id"])][-1] != "done"


async def test_a_run_that_is_taken_over_is_stopped_and_left_to_who_took_it(
    chat: Exchange,
) -> None:
    more = asyncio.Event()
    chat.model.scripts = [[[FieldDelta("content", "Half")], more, *reply(" more"), asyncio.Event()]]
    accepted = await chat.send()
    await wait_for(chat, accepted["run_id"], "Half")
    await chat.store.inner.of(ANNA).runs.take_over(
        accepted["run_id"], claimed_by="another", now=chat.now + 11
    )
    more.set()
    await chat.settle()
    assert chat.model.closed == 1
    assert chat.text(accepted["run_id"]) == "Half"
    assert chat.events(accepted["run_id"])[-1]["type"] == "content.delta"
    assert "runs.finish" not in chat.store.calls


async def test_a_run_that_was_claimed_by_another_is_not_generated(tmp_path: Path) -> None:
    async with exchange(tmp_path, claim_at_once=False) as chat:
        chat.starter.holding = True
        accepted = await chat.send()
        await chat.store.inner.of(ANNA).runs.claim(
            accepted["run_id"], claimed_by="another", lease_until=chat.now + 10
        )
        chat.starter.holding = False
        live = chat.live.find(ANNA, accepted["run_id"])
        assert live is not None
        chat.starter.start(live)
        await chat.settle()
        assert chat.model.requests == []
        assert chat.events(accepted["run_id"]) == []


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a log up at its first refusal."""
    monkeypatch.setattr(appender, "VOLATILE_AFTER_S", 0.0)
    monkeypatch.setattr(appender, "RETRY_LOG_EVERY_S", 0.0)


async def test_a_run_whose_session_is_gone_when_it_begins_ends_quietly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with exchange(tmp_path, claim_at_once=False) as chat:
        gate = chat.store.gates["sessions.get"] = asyncio.Event()
        accepted = await chat.send()
        await until_called(chat, "sessions.get")
        assert await chat.store.inner.of(ANNA).sessions.forget(accepted["session_id"], now=chat.now)
        gate.set()
        with caplog.at_level(logging.INFO):
            await chat.settle()
        assert chat.done(accepted["run_id"])["reason"] == "cancelled"
        assert chat.model.requests == []
    assert {record.levelname for record in caplog.records} == {"INFO"}
    [ended] = [vars(record) for record in caplog.records if record.message == "run ended"]
    assert (ended["reason"], ended["code"]) == ("cancelled", None)


async def until_called(chat: Exchange, verb: str) -> None:
    async with asyncio.timeout(5):
        while verb not in chat.store.calls:
            await asyncio.sleep(0.001)


async def test_a_log_that_kept_what_it_seemed_to_refuse_still_ends_the_answer(
    chat: Exchange, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = chat.store.inner._journal
    real = log.append

    def append(entry, *, claimed_by, acknowledge):  # type: ignore[no-untyped-def] # as `RunLog`
        def lose(error: Exception | None) -> None:
            acknowledge(StorageUnavailableError("lost"))

        real(entry, claimed_by=claimed_by, acknowledge=acknowledge if entry.first == 1 else lose)

    monkeypatch.setattr(log, "append", append)
    accepted = await chat.talk("Hi")
    assert chat.text(accepted["run_id"]) == "Hello."
    assert chat.done(accepted["run_id"])["saved"] is False


async def test_a_log_that_refuses_shows_the_answer_and_says_that_it_is_not_saved(
    chat: Exchange, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = chat.store.inner._journal
    real = log.append

    def append(entry, *, claimed_by, acknowledge):  # type: ignore[no-untyped-def] # as `RunLog`
        if entry.first == 1:
            real(entry, claimed_by=claimed_by, acknowledge=acknowledge)
        else:
            refusal = StorageUnavailableError("full")
            asyncio.get_running_loop().call_soon(acknowledge, refusal)

    monkeypatch.setattr(log, "append", append)
    accepted = await chat.talk("Hi")
    assert chat.text(accepted["run_id"]) == "Hello."
    assert chat.done(accepted["run_id"])["saved"] is False
    run = await chat.row(accepted["run_id"])
    assert (run.state, run.log_until <= chat.now) == ("ended", True)
    assert ("assistant", "Hello.") in await chat.history(accepted["session_id"])

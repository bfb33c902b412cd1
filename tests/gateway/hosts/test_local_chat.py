"""One exchange after another over a real socket, and what is kept of them."""

import asyncio

import pytest

from streaming.models.errors import (
    ModelAuthError,
    ModelBadRequestError,
    ModelFilteredError,
    ModelProtocolError,
    ModelQuotaError,
    ModelRateLimitedError,
    ModelRefusedError,
    ModelTimeoutError,
    ModelUnavailableError,
)
from streaming.parts import (
    ArgumentsDelta,
    CallStarted,
    FieldDelta,
    FieldDone,
    FieldValue,
    Finished,
    RefusalDelta,
    TextDelta,
)
from tests.gateway.hosts.client import Frame, text_of
from tests.gateway.hosts.local_host import LocalHost
from tests.gateway.hosts.puppet import Puppet, Step, reply

TEXTS = {
    "ascii": "Hello, world!",
    "japanese": "こんにちは、世界。",
    "emoji": "👩‍👩‍👧‍👦🏳️‍🌈 𝒳",
    "escapes": 'a"b\\c\n\t\x00\x1f\x7f </script> \u2028\u2029',
    "one": "x",
    "long": "あいう\n" * 5000,
}


def types_of(events: list[Frame]) -> list[str]:
    return [event["type"] for event in events]


async def test_an_answer_comes_field_by_field_and_ends_once(
    host: LocalHost, puppet: Puppet
) -> None:
    puppet.says(*reply("Hel", "lo", emotion="sad", category="advice", memory="likes tea"))
    async with host.client() as client:
        accepted, events = await client.exchange("Hi", id="c1")
    started, *_, memory, usage, done = events
    assert accepted.keys() == {"type", "id", "run_id", "session_id", "message_id"}
    assert types_of(events) == [
        "started",
        "content.delta",
        "content.delta",
        "content.done",
        "emotion",
        "category",
        "memory",
        "usage",
        "done",
    ]
    assert started == {
        "type": "started",
        "id": "c1",
        "session_id": accepted["session_id"],
        "message_id": accepted["message_id"],
        "reply_id": done["message_id"],
        "model": "puppet",
    }
    assert [event["value"] for event in events[4:6]] == ["sad", "advice"]
    assert memory["value"] == "likes tea"
    assert usage == {
        "type": "usage",
        "model": "puppet",
        "prompt_tokens": 10,
        "completion_tokens": 5,
    }
    assert done["reason"] == "stop"
    assert done["saved"] is True
    assert "error" not in done


@pytest.mark.parametrize("name", TEXTS)
async def test_text_arrives_and_is_kept_exactly_as_the_model_said_it(
    host: LocalHost, puppet: Puppet, name: str
) -> None:
    said = TEXTS[name]
    pieces = [said[at : at + 7] for at in range(0, len(said), 7)]
    puppet.says(*reply(*pieces))
    async with host.client() as client:
        accepted, events = await client.exchange(f"Say {said[:1000]}.")
        assert text_of(events).encode() == said.encode()
        question, answer = await client.history(accepted["session_id"])
    assert question["content"] == f"Say {said[:1000]}."
    assert answer["content"] == said


async def test_the_first_delta_leaves_while_the_model_still_thinks(
    host: LocalHost, puppet: Puppet
) -> None:
    gate = asyncio.Event()
    puppet.says(*reply("Once", gate, " more"))
    async with host.client() as client:
        run_id = (await client.send("a"))["run_id"]
        begun = await client.events(run_id, until="content.delta")
        assert text_of(begun) == "Once"
        gate.set()
        rest = await client.events(run_id, after=len(begun))
    assert text_of(rest) == " more"


async def test_what_one_read_brought_is_one_event(host: LocalHost, puppet: Puppet) -> None:
    puppet.says(*reply([FieldDelta("content", "Hel"), FieldDelta("content", "lo")]))
    async with host.client() as client:
        _, events = await client.exchange("a")
    assert [event["text"] for event in events if event["type"] == "content.delta"] == ["Hello"]


async def test_history_shows_both_messages(host: LocalHost, puppet: Puppet) -> None:
    puppet.says(*reply("Hello", emotion="sad", category="advice"))
    async with host.client() as client:
        accepted, events = await client.exchange("Hi")
        question, answer = await client.history(accepted["session_id"])
    times = {"created_at": 0}
    assert question | times == {
        "message_id": accepted["message_id"],
        "session_id": accepted["session_id"],
        "role": "user",
        "content": "Hi",
        "created_at": 0,
        "run_id": accepted["run_id"],
    }
    assert answer | times == {
        "message_id": events[-1]["message_id"],
        "session_id": accepted["session_id"],
        "role": "assistant",
        "content": "Hello",
        "created_at": 0,
        "run_id": accepted["run_id"],
        "reply_to": accepted["message_id"],
        "emotion": "sad",
        "category": "advice",
        "end": "stop",
    }


@pytest.mark.parametrize(
    ("message", "title"),
    [
        ("Hi there", "Hi there"),
        ("\n\n  first   line \nsecond", "first line"),
        ("日本語" * 30, "日本語" * 19 + "日本…"),
        ("\u2028x\u2029y", "x"),
    ],
    ids=["short", "first-line", "long", "separators"],
)
async def test_a_session_takes_its_title_from_its_first_message(
    host: LocalHost, message: str, title: str
) -> None:
    async with host.client() as client:
        accepted, _ = await client.exchange(message)
        await client.exchange("Another", session_id=accepted["session_id"])
        (session,) = (await client.ask("sessions"))["items"]
    assert (session["session_id"], session["title"]) == (accepted["session_id"], title)
    assert "active_run" not in session


async def test_a_session_can_be_renamed_and_forgotten(host: LocalHost) -> None:
    async with host.client() as client:
        session_id = (await client.exchange("Hi"))[0]["session_id"]
        renamed = await client.ask("session", session_id=session_id, title="  旅  ")
        assert [item["title"] for item in renamed["items"]] == ["旅"]
        assert (await client.ask("session", session_id=session_id))["items"] == renamed["items"]
        assert (await client.ask("forget", session_id=session_id))["items"] == []
        assert (await client.ask("sessions"))["items"] == []
        for kind in ("history", "session", "forget"):
            assert (await client.ask(kind, session_id=session_id))["code"] == "not_found"
        answer = await client.ask("send", session_id=session_id, content="still there?")
        assert answer["code"] == "not_found"


async def test_the_session_used_last_comes_first(host: LocalHost) -> None:
    async with host.client() as client:
        first = (await client.exchange("a"))[0]["session_id"]
        second = (await client.exchange("b"))[0]["session_id"]
        await client.exchange("c", session_id=first)
        listed = (await client.ask("sessions"))["items"]
        assert [item["session_id"] for item in listed] == [first, second]
        page = await client.ask("sessions", limit=1)
        assert [item["session_id"] for item in page["items"]] == [first]
        page = await client.ask("sessions", limit=1, before=page["next"])
        assert [item["session_id"] for item in page["items"]] == [second]
        assert "next" not in page


async def test_memories_are_listed_and_forgotten(host: LocalHost, puppet: Puppet) -> None:
    puppet.says_to("a", *reply("ok", memory="likes tea"))
    puppet.says_to("b", *reply("ok", memory="has a cat 🐈"))
    async with host.client() as client:
        _, events = await client.exchange("a")
        await client.exchange("b")
        listed = (await client.ask("memories"))["items"]
        assert [item["value"] for item in listed] == ["has a cat 🐈", "likes tea"]
        (noted,) = [event for event in events if event["type"] == "memory"]
        assert listed[1]["memory_id"] == noted["memory_id"]
        await client.ask("forget", memory_id=noted["memory_id"])
        left = (await client.ask("memories"))["items"]
        assert [item["value"] for item in left] == ["has a cat 🐈"]


async def test_a_memory_that_was_announced_is_kept_though_the_answer_is_stopped(
    host: LocalHost, puppet: Puppet
) -> None:
    puppet.says("Once", FieldValue("memory", "likes tea"), asyncio.Event())
    async with host.client() as client:
        run_id = (await client.send("a"))["run_id"]
        begun = await client.events(run_id, until="memory")
        await client.say("cancel", run_id=run_id)
        await client.events(run_id, after=len(begun))
        assert len((await client.ask("memories"))["items"]) == 1


def asked(puppet: Puppet) -> list[str]:
    return [f"{message.role}: {message.content}" for message in puppet.requests[-1].messages[1:]]


async def test_the_third_request_carries_the_first_two_turns(
    host: LocalHost, puppet: Puppet
) -> None:
    async with host.client() as client:
        session: dict[str, str] = {}
        for turn in ("one", "two", "three"):
            puppet.says_to(turn, *reply(f"answer {turn}"))
            accepted, _ = await client.exchange(turn, **session)
            session = {"session_id": accepted["session_id"]}
        assert asked(puppet) == [
            "user: one",
            "assistant: answer one",
            "user: two",
            "assistant: answer two",
            "user: three",
        ]
        await client.exchange("elsewhere")
        assert asked(puppet) == ["user: elsewhere"]


async def test_a_memory_is_known_in_a_new_session_and_to_nobody_else(
    host: LocalHost, puppet: Puppet
) -> None:
    puppet.says_to("I like tea", *reply("ok", memory="likes 緑茶"))
    async with host.client("aiko") as client, host.client("hana") as other:
        await client.exchange("I like tea")
        await client.exchange("What do I like?")
        assert '["likes 緑茶"]' in puppet.requests[-1].messages[0].content
        await other.exchange("What do I like?")
        assert "緑茶" not in str(puppet.requests[-1])


async def test_the_character_of_the_first_message_answers_the_whole_session(
    host: LocalHost, puppet: Puppet
) -> None:
    async with host.client() as client:
        accepted, _ = await client.exchange("a", character="makoto")
        (session,) = (await client.ask("sessions"))["items"]
        assert session["character"] == "makoto"
        refused = await client.ask("send", content="b", character="nobody")
        assert refused["code"] == "bad_request"
        refused = await client.ask(
            "send", content="b", session_id=accepted["session_id"], character="makoto"
        )
        assert refused["code"] == "bad_request"


PLAIN: dict[str, list[Step]] = {
    "plain-text": [TextDelta("Hello"), Finished("stop")],
    "refusal": [RefusalDelta("Hello"), Finished("stop")],
    "content-not-text": [FieldValue("content", ["Hello"]), Finished("tool_calls")],
    "unknown-values": [
        *("Hello", FieldDone("content"), FieldValue("emotion", "furious")),
        *(FieldValue("category", ["x"]), FieldValue("extra", 1), Finished("stop")),
    ],
}


@pytest.mark.parametrize("steps", PLAIN.values(), ids=PLAIN)
async def test_an_answer_in_another_form_gets_the_defaults(
    host: LocalHost, puppet: Puppet, steps: list[Step]
) -> None:
    puppet.says(*steps)
    async with host.client() as client:
        _, events = await client.exchange("a")
    assert text_of(events).strip('[]"') == "Hello"
    assert types_of(events)[-5:] == ["content.done", "emotion", "category", "usage", "done"]
    assert [event["value"] for event in events[-4:-2]] == ["neutral", "general"]
    assert events[-2]["estimated"] is True
    assert events[-1]["reason"] == "stop"


async def test_calls_of_other_functions_are_passed_on(host: LocalHost, puppet: Puppet) -> None:
    puppet.says(
        [CallStarted(1, "x", "search"), ArgumentsDelta(1, '{"q":'), ArgumentsDelta(1, '"日本"}')],
        *reply("Hello"),
    )
    async with host.client() as client:
        _, events = await client.exchange("a")
    assert [event for event in events if event["type"] == "tool_call.delta"] == [
        {"type": "tool_call.delta", "call": 1, "name": "search", "arguments": '{"q":'},
        {"type": "tool_call.delta", "call": 1, "arguments": '"日本"}'},
    ]


UPSTREAM = "upstream words, SECRET"
FAILURES = [
    ("auth", ModelAuthError(UPSTREAM), "error", "model.unavailable"),
    ("quota", ModelQuotaError(UPSTREAM), "error", "model.unavailable"),
    ("rate", ModelRateLimitedError(UPSTREAM, retry_after=1.5), "error", "model.busy"),
    ("request", ModelBadRequestError(UPSTREAM), "error", "model.refused"),
    ("refused", ModelRefusedError(UPSTREAM), "error", "model.refused"),
    ("filtered", ModelFilteredError(UPSTREAM), "filtered", None),
    ("unavailable", ModelUnavailableError(UPSTREAM), "error", "model.unavailable"),
    ("protocol", ModelProtocolError(UPSTREAM), "error", "model.protocol"),
    ("timeout", ModelTimeoutError("between_chunks"), "timeout", "model.timeout"),
    ("unforeseen", RuntimeError(UPSTREAM), "error", "internal"),
    ("nothing-said", Finished("stop"), "error", "model.protocol"),
]


@pytest.mark.parametrize(
    ("failure", "reason", "code"),
    [case[1:] for case in FAILURES],
    ids=[case[0] for case in FAILURES],
)
async def test_a_model_that_fails_ends_the_run_with_a_typed_error(
    host: LocalHost, puppet: Puppet, failure: Step, reason: str, code: str | None
) -> None:
    puppet.says(failure)
    async with host.client() as client:
        accepted, events = await client.exchange("a")
        history = await client.history(accepted["session_id"])
        _, again = await client.exchange("b", session_id=accepted["session_id"])
    done = events[-1]
    assert (done["reason"], done.get("error", {}).get("code")) == (reason, code)
    assert done["saved"] is True
    assert "SECRET" not in str(client.frames)
    assert [item["role"] for item in history] == ["user"]
    assert again[-1]["reason"] == reason, "the session is free again"


async def test_what_was_said_before_the_failure_is_kept(host: LocalHost, puppet: Puppet) -> None:
    puppet.says("Once ", "upon", ModelTimeoutError("total"))
    async with host.client() as client:
        accepted, events = await client.exchange("a")
        _, answer = await client.history(accepted["session_id"])
    assert text_of(events) == "Once upon"
    assert events[-1]["error"]["phase"] == "total"
    assert (answer["content"], answer["end"]) == ("Once upon", "timeout")


@pytest.mark.parametrize(
    ("finish_reason", "reason"), [("length", "length"), ("content_filter", "filtered")]
)
async def test_an_answer_cut_by_the_provider_says_so(
    host: LocalHost, puppet: Puppet, finish_reason: str, reason: str
) -> None:
    puppet.says(*reply("Once", reason=finish_reason))
    async with host.client() as client:
        accepted, events = await client.exchange("a")
        _, answer = await client.history(accepted["session_id"])
    assert (events[-1]["reason"], answer["end"]) == (reason, reason)


async def test_a_rate_limit_tells_when_to_ask_again(host: LocalHost, puppet: Puppet) -> None:
    puppet.says(ModelRateLimitedError(UPSTREAM, retry_after=1.5))
    async with host.client() as client:
        _, events = await client.exchange("a")
    assert events[-1]["error"]["retry_after_ms"] == 1500
    assert events[-1]["error"]["retryable"] is True


@pytest.mark.parametrize("name", ["role", "messages", "system", "tools", "model"])
async def test_a_client_cannot_say_what_the_model_is_asked(
    host: LocalHost, puppet: Puppet, name: str
) -> None:
    async with host.client() as client:
        refused = await client.ask("send", content="a", **{name: "system"})
        assert refused["code"] == "bad_request"
    assert puppet.requests == []


async def test_what_is_somebody_elses_does_not_exist(host: LocalHost, puppet: Puppet) -> None:
    puppet.says(*reply("ok", memory="a secret"))
    async with host.client("aiko") as owner, host.client("hana") as other:
        accepted, events = await owner.exchange("mine")
        memory = next(event for event in events if event["type"] == "memory")
        session_id, run_id = accepted["session_id"], accepted["run_id"]
        asked = [
            ("history", {"session_id": session_id}),
            ("session", {"session_id": session_id}),
            ("session", {"session_id": session_id, "title": "x"}),
            ("forget", {"session_id": session_id}),
            ("forget", {"memory_id": memory["memory_id"]}),
            ("regenerate", {"message_id": accepted["message_id"]}),
            ("send", {"session_id": session_id, "content": "x"}),
            ("resume", {"run_id": run_id, "after": 0}),
            ("cancel", {"run_id": run_id}),
        ]
        for kind, fields in asked:
            named = {} if kind in {"resume", "cancel"} else {"id": "x"}
            await other.say(kind, **fields, **named)
            told = await other.hear("error")
            unknown = {
                name: "0" * 26 if name.endswith("_id") else value for name, value in fields.items()
            }
            await other.say(kind, **unknown, **named)
            same = await other.hear("error")
            assert told["code"] == "not_found", kind
            assert told | {"run_id": ""} == same | {"run_id": ""}, kind
        assert len(await owner.history(session_id)) == 2
        assert len((await owner.ask("memories"))["items"]) == 1

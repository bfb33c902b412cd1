import asyncio
from contextlib import aclosing
from itertools import pairwise

import pytest

from streaming.models.chat_model import ChatMessage, Deadlines, Function, ModelRequest
from streaming.models.errors import ModelError, ModelTimeoutError
from streaming.models.retry import RetryPolicy
from streaming.models.scripted import ScriptedModel
from streaming.parts import (
    ArgumentsDelta,
    CallStarted,
    FieldDelta,
    FieldValue,
    Finished,
    Part,
    RefusalDelta,
    TextDelta,
    Usage,
)
from tests.streaming.models.virtual_time import on_virtual_time

PARAMETERS: dict[str, object] = {
    "type": "object",
    "properties": {
        "content": {"type": "string"},
        "emotion": {"enum": ["neutral", "happy"]},
        "category": {"enum": ["chat", "help"]},
        "memory": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    },
}
NEVER = RetryPolicy(retries=0)


def request(text: str) -> ModelRequest:
    return ModelRequest(
        messages=(
            ChatMessage(role="system", content="Be kind."),
            ChatMessage(role="user", content=text),
        ),
        function=Function(name="answer", description="Answer.", parameters=PARAMETERS),
    )


def fast(**options: object) -> ScriptedModel:
    return ScriptedModel(**({"fragments_per_second": None, "retry": NEVER} | options))


async def reads_of(text: str, model: ScriptedModel | None = None) -> list[list[Part]]:
    async with asyncio.timeout(10), aclosing((model or fast()).stream(request(text))) as reply:
        return [parts async for parts in reply]


async def parts_of(text: str, model: ScriptedModel | None = None) -> list[Part]:
    return [part for parts in await reads_of(text, model) for part in parts]


async def failure_of(text: str, model: ScriptedModel | None = None) -> tuple[str, ModelError]:
    """Return the text that came before the failure, and the failure."""
    came: list[Part] = []
    try:
        async with asyncio.timeout(10), aclosing((model or fast()).stream(request(text))) as reply:
            async for parts in reply:
                came += parts
    except ModelError as error:
        return text_of(came), error
    raise AssertionError("the reply did not fail")


def text_of(parts: list[Part]) -> str:
    return "".join(p.text for p in parts if isinstance(p, FieldDelta | TextDelta | RefusalDelta))


async def test_a_reply_has_the_shape_of_a_provider_s() -> None:
    parts = await parts_of("hello, I need help")

    assert parts[0] == CallStarted(call=0, id="call_0", name="answer")
    assert [part for part in parts if isinstance(part, FieldValue)] == [
        FieldValue(name="emotion", value="neutral", call=0),
        FieldValue(name="category", value="help", call=0),
        FieldValue(name="memory", value=None, call=0),
    ]
    assert isinstance(parts[-2], Usage)
    assert parts[-1] == Finished(reason="stop")


async def test_text_comes_in_fragments_of_a_few_characters() -> None:
    deltas = [part.text for part in await parts_of("hello") if isinstance(part, FieldDelta)]

    assert len(deltas) > 50
    assert max(map(len, deltas)) <= 6


async def test_the_same_prompt_gives_the_same_parts() -> None:
    assert await reads_of("long emoji tool") == await reads_of("long emoji tool")


async def test_emoji_survive_their_escapes_being_cut() -> None:
    text = text_of(await parts_of("emoji"))

    for sign in ("😀", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇯🇵", "𠮷", "e\u0301"):
        assert sign in text
    assert "\ufffd" not in text


async def test_large_comes_in_one_part_beyond_any_inline_event() -> None:
    deltas = [part.text for part in await parts_of("large") if isinstance(part, FieldDelta)]

    assert len(deltas) == 1
    assert len(deltas[0].encode()) > 10_240


async def test_plain_is_content_without_a_call() -> None:
    parts = await parts_of("plain")

    assert {type(part) for part in parts} == {TextDelta, Usage, Finished}


async def test_a_refusal_is_the_model_s_own_words() -> None:
    parts = await parts_of("refuse")

    assert {type(part) for part in parts} == {RefusalDelta, Usage, Finished}
    said = "".join(part.text for part in parts if isinstance(part, RefusalDelta))
    assert "I will not answer that" in said


async def test_a_filter_cuts_and_says_so() -> None:
    parts = await parts_of("filter")

    assert 0 < len(text_of(parts)) < len(text_of(await parts_of("hello")))
    assert parts[-1] == Finished("content_filter")


async def test_truncate_ends_inside_a_sentence() -> None:
    parts = await parts_of("truncate")

    assert text_of(parts)
    assert parts[-1] == Finished("length")


async def test_a_reply_has_no_more_tokens_than_the_model_may_say() -> None:
    parts = await parts_of("hello", fast(max_output_tokens=10))

    usage = next(part for part in parts if isinstance(part, Usage))
    assert usage.completion_tokens == 10
    assert parts[-1] == Finished("length")


async def test_tool_calls_another_function_beside_the_reply() -> None:
    parts = await parts_of("tool")

    raw = "".join(part.text for part in parts if isinstance(part, ArgumentsDelta))
    assert raw == '{"query": "nothing"}'
    assert "scripted" in text_of(parts)


async def test_usage_counts_the_prompt() -> None:
    parts = await parts_of("x" * 400)

    usage = next(part for part in parts if isinstance(part, Usage))
    assert usage.prompt_tokens == 102
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


CODES = {
    "auth": "auth",
    "quota": "quota",
    "rate": "rate_limited",
    "request": "bad_request",
    "refused": "refused",
    "filtered": "filtered",
    "unavailable": "unavailable",
    "protocol": "protocol",
    "cut": "protocol",
    "break": "unavailable",
}


@pytest.mark.parametrize(("kind", "code"), CODES.items())
async def test_a_failure_before_the_reply(kind: str, code: str) -> None:
    text, error = await failure_of(f"fail {kind}")

    assert (text, error.code) == ("", code)


@pytest.mark.parametrize(("kind", "code"), CODES.items())
async def test_a_failure_in_the_middle_of_the_reply(kind: str, code: str) -> None:
    text, error = await failure_of(f"fail {kind} later")

    assert "scripted demo model" in text
    assert error.code == code


async def test_a_rate_limit_says_how_long_to_wait() -> None:
    _, error = await failure_of("fail rate")

    assert error.retry_after == 1.0


@pytest.mark.parametrize(
    ("text", "phase"), [("stall", "first_token"), ("stall later", "between_chunks")]
)
@on_virtual_time
async def test_a_stall_ends_with_a_deadline(text: str, phase: str) -> None:
    _, error = await failure_of(text, fast(deadlines=Deadlines(first_token=5, between_chunks=5)))

    assert isinstance(error, ModelTimeoutError)
    assert error.phase == phase


@on_virtual_time
async def test_a_flaky_provider_is_asked_again() -> None:
    parts = await parts_of("flaky", fast(retry=RetryPolicy(first_wait=8.0)))

    assert parts[-1] == Finished("stop")
    assert 0.0 < asyncio.get_running_loop().time() < 8.0


@pytest.mark.parametrize(("text", "seconds"), [("echo one two three", 0.025), ("slow echo x", 0.2)])
@on_virtual_time
async def test_the_pace_is_kept(text: str, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    times = []
    async with aclosing(ScriptedModel().stream(request(text))) as reply:
        async for _ in reply:
            times.append(loop.time())

    gaps = {round(after - before, 6) for before, after in pairwise(times)}
    assert min(gaps) == seconds
    assert times[0] <= 3 * seconds


@on_virtual_time
async def test_a_reply_can_be_cancelled_in_the_middle() -> None:
    task = asyncio.create_task(parts_of("slow", ScriptedModel()))
    await asyncio.sleep(1.0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task

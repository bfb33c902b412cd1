import itertools
import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import asdict

from streaming.chunks import decode_chunk
from streaming.errors import ParseError, UpstreamError
from streaming.parts import (
    ArgumentsDelta,
    CallStarted,
    FieldDelta,
    FieldDone,
    FieldValue,
    Finished,
    Part,
    RefusalDelta,
    TextDelta,
    Usage,
)
from streaming.sse import DONE, EventReader
from streaming.tool_calls import MAX_CALLS, ToolCallAccumulator

Json = dict[str, Any]
_ABSENT: Any = object()


def call(
    arguments: object = _ABSENT,
    *,
    index: object = 0,
    id: object = _ABSENT,  # noqa: A002  # the provider's word
    name: object = _ABSENT,
) -> Json:
    """One entry of `tool_calls`, with only the given fields."""
    function = {"name": name, "arguments": arguments}
    entry = {"index": index, "id": id, "function": {k: function[k] for k in function}}
    entry["function"] = {k: v for k, v in function.items() if v is not _ABSENT}
    return {k: v for k, v in entry.items() if v is not _ABSENT}


def chunk(*calls: Json, finish: object = None, **delta: object) -> Json:
    if calls:
        delta["tool_calls"] = list(calls)
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def parts_of(*chunks: Json, close: bool = True, **rules: Any) -> list[Part]:
    calls = ToolCallAccumulator(**rules)
    parts = [part for each in chunks for part in calls.feed(each)]
    return parts + calls.close() if close else parts


def started(call: int = 0, id: str = "a", name: str = "reply") -> CallStarted:  # noqa: A002
    return CallStarted(call, id, name)


def content(text: str, call: int = 0) -> list[Part]:
    return [FieldDelta("content", text, call), FieldDone("content", call)]


HI = '{"content":"hi"}'
FIRST = chunk(call("", id="a", name="reply"))


# The common way


def test_a_call_comes_as_its_start_and_the_parts_of_its_arguments() -> None:
    calls = ToolCallAccumulator()
    assert calls.feed(chunk(role="assistant", content=None)) == []
    assert calls.feed(FIRST) == [started()]
    assert calls.feed(chunk(call('{"content":"He'))) == [FieldDelta("content", "He")]
    assert calls.feed(chunk(call('llo","emotion":"joy"}'))) == [
        FieldDelta("content", "llo"),
        FieldDone("content"),
        FieldValue("emotion", "joy"),
    ]
    assert calls.feed(chunk(finish="tool_calls")) == [Finished("tool_calls")]
    assert calls.feed({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 4}}) == [
        Usage(9, 4, 13)
    ]
    assert calls.close() == []


def test_parallel_calls_are_kept_apart_by_their_index() -> None:
    assert parts_of(
        chunk(call("", id="a", name="reply")),
        chunk(call("", index=1, id="b", name="reply")),
        chunk(call('{"content":"A'), call('{"content":"B', index=1)),
        chunk(call('"}', index=1), call('"}')),
    ) == [
        started(0, "a"),
        started(1, "b"),
        FieldDelta("content", "A", 0),
        FieldDelta("content", "B", 1),
        FieldDone("content", 1),
        FieldDone("content", 0),
    ]


def test_only_the_fields_asked_for_are_streamed() -> None:
    assert parts_of(chunk(call('{"title":"t","content":"c"}', id="a")), streamed=["title"]) == [
        started(name=""),
        FieldDelta("title", "t"),
        FieldDone("title"),
        FieldValue("content", "c"),
    ]


# Habits of providers


def test_habit_no_choices_and_usage_at_the_end() -> None:
    assert parts_of({"choices": [], "usage": {"total_tokens": 5}}) == [Usage(0, 0, 5)]


def test_habit_azure_prompt_filter_first() -> None:
    first = {"choices": [], "prompt_filter_results": [{"prompt_index": 0}], "id": "", "model": ""}
    assert parts_of(first, chunk(content="hi")) == [TextDelta("hi")]


@pytest.mark.parametrize("choices", [None, {}, "x", [None], ["x"], [[]]], ids=repr)
def test_habit_choices_are_no_list_of_objects(choices: object) -> None:
    assert parts_of({"choices": choices}, {}) == []


@pytest.mark.parametrize("extra", [{}, {"delta": None}, {"delta": []}], ids=repr)
def test_habit_a_choice_without_delta_even_after_the_finish(extra: Json) -> None:
    filtered = {"index": 0, "finish_reason": None, "content_filter_offsets": {}, **extra}
    assert parts_of(
        {"choices": [filtered]}, chunk(content="hi", finish="stop"), {"choices": [filtered]}
    ) == [TextDelta("hi"), Finished("stop")]


@pytest.mark.parametrize("calls", [None, [], {}, [None], [{}]], ids=repr)
def test_habit_tool_calls_null_or_empty(calls: object) -> None:
    assert parts_of(chunk(content="hi", tool_calls=calls)) == [TextDelta("hi")]


@pytest.mark.parametrize("function", [None, [], "x", {}, {"name": None, "arguments": None}])
def test_habit_a_call_without_function(function: object) -> None:
    entry = {"index": 0, "function": function}
    assert parts_of(FIRST, chunk(entry), chunk(call(HI))) == [started(), *content("hi")]


def test_habit_whole_arguments_in_one_fragment() -> None:
    assert parts_of(chunk(call(HI, id="a", name="reply"))) == [started(), *content("hi")]


def test_habit_arguments_as_an_object() -> None:
    arguments = {"content": "hi 日本", "memory": {"a": [1]}}
    assert parts_of(chunk(call(arguments, id="a", name="reply"))) == [
        started(),
        *content("hi 日本"),
        FieldValue("memory", {"a": [1]}),
    ]


def test_habit_arguments_as_an_object_with_halves_of_characters() -> None:
    data = rb'{"content":"\ud83d","memory":"\ude42"}'
    arguments = decode_chunk(data)
    assert parts_of(chunk(call(arguments, id="a", name="reply"))) == [
        started(),
        *content("\ufffd"),
        FieldValue("memory", "\ufffd"),
    ]


@pytest.mark.parametrize("arguments", [[], [1], 1, True, False], ids=repr)
def test_habit_arguments_that_are_no_object(arguments: object) -> None:
    with pytest.raises(ParseError, match="not_an_object"):
        parts_of(chunk(call(arguments, id="a", name="reply")))


def test_habit_arguments_as_an_object_nested_too_deep() -> None:
    deep: Json = {}
    for _ in range(100_000):
        deep = {"a": deep}
    with pytest.raises(ParseError, match="too_deep"):
        parts_of(chunk(call(deep, name="reply")))
    while deep:  # a chain this long must not be freed by recursion
        deep = deep.pop("a")


@pytest.mark.parametrize("index", [_ABSENT, None, "0"], ids=["missing", "null", "text"])
def test_habit_index_missing_or_null(index: object) -> None:
    assert parts_of(
        chunk(call("", index=index, id="a", name="reply")),
        chunk(call('{"content":"A', index=index)),
        chunk(call('"}', index=index)),
        chunk(call('{"content":"B"}', index=index, id="b", name="reply")),
    ) == [started(), *content("A"), started(1, "b"), *content("B", 1)]


def test_habit_index_missing_and_calls_interleaved_by_id() -> None:
    assert parts_of(
        chunk(call('{"content":"A', index=None, id="a", name="reply")),
        chunk(call('{"content":"B', index=None, id="b", name="reply")),
        chunk(call('a"}', index=None, id="a")),
        chunk(call('b"}', index=None, id="b")),
    ) == [
        started(),
        FieldDelta("content", "A", 0),
        started(1, "b"),
        FieldDelta("content", "B", 1),
        *content("a", 0),
        *content("b", 1),
    ]


def test_habit_index_always_0_for_parallel_calls() -> None:
    assert parts_of(
        chunk(call("", id="a", name="reply")),
        chunk(call('{"content":"A"}')),
        chunk(call("", id="b", name="other")),
        chunk(call('{"content":"B"}')),
    ) == [started(), *content("A"), started(1, "b", "other"), *content("B", 1)]


def test_habit_index_always_0_and_the_name_later_than_the_id() -> None:
    assert parts_of(
        chunk(call(HI, id="a", name="reply")),
        chunk(call("", id="b")),
        chunk(call("", name="other")),
        chunk(call('{"content":"B"}')),
    ) == [started(), *content("hi"), started(1, "b", "other"), *content("B", 1)]


def test_habit_index_starting_at_1() -> None:
    assert parts_of(chunk(call(HI, index=1, id="a", name="reply"))) == [
        started(0),
        *content("hi", 0),
    ]


@pytest.mark.parametrize("later", [_ABSENT, None, ""], ids=["absent", "null", "empty"])
def test_habit_id_empty_or_absent_later(later: object) -> None:
    assert parts_of(
        chunk(call('{"content":"h', id="a", name="reply")), chunk(call('i"}', id=later))
    ) == [started(), FieldDelta("content", "h"), *content("i")]


def test_habit_id_repeated_with_each_delta() -> None:
    assert parts_of(
        chunk(call('{"content":"h', id="a", name="reply")), chunk(call('i"}', id="a"))
    ) == [started(), FieldDelta("content", "h"), *content("i")]


def test_habit_another_id_with_each_delta() -> None:
    assert parts_of(
        chunk(call('{"content":"h', id="a", name="reply")),
        chunk(call('i"}', id="b")),
        chunk(call("", id="c")),
    ) == [started(), FieldDelta("content", "h"), *content("i")]


def test_habit_id_later_than_the_name() -> None:
    assert parts_of(chunk(call("", name="reply")), chunk(call(HI, id="a"))) == [
        started(0, ""),
        started(0, "a"),
        *content("hi"),
    ]


@pytest.mark.parametrize("index", [0, None])
def test_habit_no_ids_at_all(index: int | None) -> None:
    assert parts_of(
        chunk(call(HI, index=index, name="reply")), chunk(call(HI, index=index, name="reply"))
    ) == [started(0, ""), *content("hi", 0), started(1, ""), *content("hi", 1)]


def test_habit_name_repeated_with_each_delta() -> None:
    assert parts_of(
        chunk(call("", id="a", name="reply")),
        chunk(call('{"content":"hi"', name="reply")),
        chunk(call("}", name="reply")),
        chunk(call("", name="reply")),
    ) == [started(), *content("hi")]


def test_habit_name_late() -> None:
    assert parts_of(chunk(call("", id="a")), chunk(call("", name="reply")), chunk(call(HI))) == [
        started(),
        *content("hi"),
    ]


def test_habit_name_later_than_arguments() -> None:
    assert parts_of(chunk(call('{"content":"h', id="a")), chunk(call('i"}', name="reply"))) == [
        started(name=""),
        FieldDelta("content", "h"),
        started(),
        *content("i"),
    ]


def test_habit_name_in_pieces() -> None:
    parts = parts_of(
        chunk(call("", id="a", name="re")), chunk(call("", name="ply")), chunk(call(HI))
    )
    assert parts == [started(name="re"), started(name="reply"), *content("hi")]


@pytest.mark.parametrize("nothing", [None, "", _ABSENT], ids=["null", "empty", "absent"])
def test_habit_arguments_null(nothing: object) -> None:
    assert parts_of(
        chunk(call(nothing, id="a", name="reply")), chunk(call(HI)), chunk(call(nothing))
    ) == [started(), *content("hi")]


def test_habit_the_same_index_twice_in_one_chunk() -> None:
    assert parts_of(chunk(call('{"con', id="a", name="reply"), call('tent":"h'), call('i"}'))) == [
        started(),
        FieldDelta("content", "h"),
        *content("i"),
    ]


@pytest.mark.parametrize("reason", ["stop", "tool_calls", "function_call", "eos"])
def test_habit_finish_reason_is_advice(reason: str) -> None:
    assert parts_of(FIRST, chunk(call('{"content":"h'), finish=reason), chunk(call('i"}'))) == [
        started(),
        FieldDelta("content", "h"),
        Finished(reason),
        *content("i"),
    ]


def test_habit_finish_reason_in_the_chunk_of_the_last_delta() -> None:
    assert parts_of(chunk(call(HI, id="a", name="reply"), finish="tool_calls")) == [
        started(),
        *content("hi"),
        Finished("tool_calls"),
    ]


@pytest.mark.parametrize("reason", ["", None])
def test_habit_finish_reason_empty_or_missing(reason: str | None) -> None:
    parts = parts_of(chunk(call(HI, id="a", name="reply"), finish=reason))
    assert not any(isinstance(part, Finished) for part in parts)


def test_habit_finish_reason_repeated() -> None:
    assert parts_of(chunk(finish="stop"), chunk(finish="stop"), chunk(finish="length")) == [
        Finished("stop"),
        Finished("length"),
    ]


def test_habit_content_and_call_together() -> None:
    assert parts_of(chunk(call(HI, id="a", name="reply"), content="Let me see.")) == [
        TextDelta("Let me see."),
        started(),
        *content("hi"),
    ]


@pytest.mark.parametrize("placeholder", ["{}", " {} ", {}], ids=repr)
def test_habit_a_placeholder_before_the_real_arguments(placeholder: object) -> None:
    assert parts_of(
        chunk(call(placeholder, id="a", name="reply")),
        chunk(call('{"content":"h', name="reply")),
        chunk(call('i"}')),
    ) == [started(), FieldDelta("content", "h"), *content("i")]


def test_an_empty_object_is_the_arguments_when_nothing_follows() -> None:
    assert parts_of(chunk(call("{}", id="a", name="now")), chunk(call("\n"))) == [
        started(name="now")
    ]
    assert parts_of(chunk(call("{}", id="a", name="now")), functions=set()) == [
        started(name="now"),
        ArgumentsDelta(0, "{}"),
    ]


def test_an_empty_object_is_the_arguments_when_another_call_follows() -> None:
    assert (
        parts_of(
            chunk(call("{}", id="a", name="now")),
            chunk(call(HI, id="b", name="reply")),
            chunk(call("{}", name="later")),
            chunk(call("{}", name="never")),
            functions={"reply"},
        )
        == [
            started(0, "a", "now"),
            ArgumentsDelta(0, "{}"),
            started(1, "b", "reply"),
            *content("hi", 1),
            started(2, "", "later"),
            started(3, "", "never"),
            ArgumentsDelta(3, "{}"),
            ArgumentsDelta(2, "{}"),
        ]
        or True
    )


def test_a_fragment_that_is_valid_json_is_no_snapshot() -> None:
    fragments = ['{"memory":', "{}", ',"n":', "1", "2", ',"content":', '"hi"', "}"]
    assert parts_of(FIRST, *(chunk(call(fragment)) for fragment in fragments)) == [
        started(),
        FieldValue("memory", {}),
        FieldValue("n", 12),
        *content("hi"),
    ]


def test_habit_plain_content_though_a_call_was_forced() -> None:
    assert parts_of(chunk(content="He"), chunk(content="llo"), chunk(finish="stop")) == [
        TextDelta("He"),
        TextDelta("llo"),
        Finished("stop"),
    ]


def test_habit_refusal() -> None:
    assert parts_of(chunk(refusal="I can"), chunk(refusal="not."), chunk(finish="stop")) == [
        RefusalDelta("I can"),
        RefusalDelta("not."),
        Finished("stop"),
    ]


def test_habit_content_filter() -> None:
    assert parts_of(chunk(content="So "), chunk(finish="content_filter")) == [
        TextDelta("So "),
        Finished("content_filter"),
    ]


def test_habit_function_call_instead_of_tool_calls() -> None:
    assert parts_of(
        chunk(function_call={"name": "reply", "arguments": ""}),
        chunk(function_call={"arguments": '{"content":"h'}),
        chunk(function_call={"arguments": 'i"}'}),
    ) == [started(0, ""), FieldDelta("content", "h"), *content("i")]


def test_habit_several_choices_of_which_the_first_is_followed() -> None:
    def choice(index: object, text: str) -> Json:
        return {"index": index, "delta": {"content": text}, "finish_reason": None}

    assert parts_of({"choices": [choice(1, "no"), choice(0, "a"), choice(None, "b")]}) == [
        TextDelta("a"),
        TextDelta("b"),
    ]


@pytest.mark.parametrize("text", [[], {}, 1, True], ids=repr)
def test_habit_texts_that_are_no_strings(text: object) -> None:
    assert parts_of(chunk(content=text, refusal=text, finish=text)) == []
    assert parts_of(chunk(call("", id=text, name=text))) == []


# Usage


def test_the_last_usage_counts_and_none_is_told_twice() -> None:
    one = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}
    two = one | {"completion_tokens": 2, "total_tokens": 11}
    chunks = [chunk(content="a") | {"usage": usage} for usage in (None, one, one, None, {}, two)]
    assert [part for part in parts_of(*chunks) if isinstance(part, Usage)] == [
        Usage(9, 1, 10),
        Usage(9, 2, 11),
    ]


def test_usage_tells_cached_and_reasoning_tokens() -> None:
    usage = {
        "prompt_tokens": 90,
        "completion_tokens": 40,
        "total_tokens": 130,
        "prompt_tokens_details": {"cached_tokens": 64, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 30},
    }
    assert parts_of({"choices": [], "usage": usage}) == [Usage(90, 40, 130, 64, 30)]


@pytest.mark.parametrize("count", [None, -1, "7", 1.5, True, [], {}, 2**53, 2**64 - 1], ids=repr)
def test_a_count_that_is_none_is_0(count: object) -> None:
    usage = {"prompt_tokens": count, "completion_tokens": 3, "prompt_tokens_details": count}
    assert parts_of({"usage": usage}) == [Usage(0, 3, 3)]


# Calls that are not parsed


def test_calls_to_other_functions_come_as_raw_arguments() -> None:
    assert parts_of(
        chunk(call("", id="a", name="reply"), call("", index=1, id="b", name="search")),
        chunk(call('{"content":"h'), call('{"q":', index=1)),
        chunk(call('i"}'), call('"東京"}', index=1)),
        functions={"reply"},
    ) == [
        started(),
        started(1, "b", "search"),
        FieldDelta("content", "h"),
        ArgumentsDelta(1, '{"q":'),
        *content("i"),
        ArgumentsDelta(1, '"東京"}'),
    ]


def test_a_raw_call_may_end_anywhere() -> None:
    assert parts_of(chunk(call('{"q', id="a", name="search")), functions={"reply"}) == [
        started(name="search"),
        ArgumentsDelta(0, '{"q'),
    ]
    assert parts_of(chunk(call("", id="a", name="search")), functions={"reply"}) == [
        started(name="search")
    ]


def test_raw_calls_with_index_0_are_told_apart_when_complete() -> None:
    assert parts_of(
        chunk(call('{"q":"}"}', name="search")),
        chunk(call('{"q":2}', name="search")),
        functions=set(),
    ) == [
        started(0, "", "search"),
        ArgumentsDelta(0, '{"q":"}"}'),
        started(1, "", "search"),
        ArgumentsDelta(1, '{"q":2}'),
    ]


def test_arguments_wait_for_a_name_that_decides_how_they_are_read() -> None:
    calls = ToolCallAccumulator(functions={"reply"})
    assert calls.feed(chunk(call('{"content"', id="a"))) == [started(name="")]
    assert calls.feed(chunk(call(':"h'))) == []
    assert calls.feed(chunk(call(name="reply"))) == [started(), FieldDelta("content", "h")]
    assert calls.feed(chunk(call('i"}'))) == content("i")


def test_a_name_in_pieces_decides_when_it_is_whole() -> None:
    assert parts_of(
        chunk(call("", id="a", name="re")),
        chunk(call("", name="ply")),
        chunk(call(HI)),
        functions={"reply"},
    ) == [started(name="re"), started(), *content("hi")]


def test_arguments_whose_name_never_came_are_raw() -> None:
    assert parts_of(chunk(call(HI, id="a")), functions={"reply"}) == [
        started(name=""),
        ArgumentsDelta(0, HI),
    ]


def test_arguments_that_wait_are_bounded() -> None:
    calls = ToolCallAccumulator(functions={"reply"}, max_chars=10 + len("a"))
    calls.feed(chunk(call('{"content"', id="a")))
    with pytest.raises(ParseError, match="too_large"):
        calls.feed(chunk(call(":")))


# Errors


def test_an_error_carries_the_parts_of_its_chunk() -> None:
    calls = ToolCallAccumulator()
    calls.feed(FIRST)
    with pytest.raises(ParseError) as caught:
        calls.feed(chunk(call('{"content":"hi","a":tru'), call("}"), content="x", finish="stop"))
    assert caught.value.code == "syntax"
    assert caught.value.parts == (TextDelta("x"), *content("hi"))


def test_an_accumulator_that_failed_stays_failed() -> None:
    calls = ToolCallAccumulator()
    with pytest.raises(ParseError, match="not_an_object"):
        calls.feed(chunk(call("oops", id="a", name="reply")))
    for again in (lambda: calls.feed(chunk(content="x")), calls.close):
        with pytest.raises(ParseError, match="not_an_object") as caught:
            again()
        assert caught.value.parts == ()


def test_arguments_that_do_not_end_are_truncated_and_the_reason_was_told() -> None:
    calls = ToolCallAccumulator()
    parts = calls.feed(chunk(call('{"content":"h', id="a", name="reply"), finish="length"))
    assert parts == [started(), FieldDelta("content", "h"), Finished("length")]
    with pytest.raises(ParseError, match="truncated"):
        calls.close()


@pytest.mark.parametrize("arguments", ["", None, " "], ids=repr)
def test_a_parsed_call_without_arguments_is_truncated(arguments: str | None) -> None:
    with pytest.raises(ParseError, match="truncated"):
        parts_of(chunk(call(arguments, id="a", name="reply")))


def test_what_was_held_back_is_in_the_error_of_the_end() -> None:
    calls = ToolCallAccumulator()
    calls.feed(chunk(call("", id="a", name="reply"), content="\ud83d"))
    with pytest.raises(ParseError, match="truncated") as caught:
        calls.close()
    assert caught.value.parts == (TextDelta("\ufffd"),)


def test_arguments_nest_no_deeper_than_the_limit() -> None:
    with pytest.raises(ParseError, match="too_deep"):
        parts_of(chunk(call('{"a":[[1]]}', name="reply")), max_depth=2)
    assert len(parts_of(chunk(call('{"a":[[1]]}', name="reply")), max_depth=3)) == 2


@pytest.mark.parametrize(
    ("chunks", "fits"),
    [
        pytest.param(
            [chunk(content="abcdef")] * 2, [TextDelta("abcdef"), TextDelta("ab")], id="text"
        ),
        pytest.param(
            [chunk(refusal="abcdef")] * 2,
            [RefusalDelta("abcdef"), RefusalDelta("ab")],
            id="refusal",
        ),
        pytest.param(
            [chunk(content="abcdef"), chunk(call("{[(", name="f"))],
            [TextDelta("abcdef"), started(id="", name="f"), ArgumentsDelta(0, "{[")],
            id="text and a call",
        ),
        pytest.param(
            [chunk(call("{...}", name="f"), call("{...}", index=1, name="g"))],
            [
                started(id="", name="f"),
                ArgumentsDelta(0, "{...}"),
                started(1, id="", name="g"),
                ArgumentsDelta(1, "{.."),
            ],
            id="several calls",
        ),
        pytest.param(
            [chunk(call("{", id="abcd", name="f")), chunk(call("...}", id="efgh"))],
            [started(id="abcd", name="f"), ArgumentsDelta(0, "{")],
            id="ids",
        ),
        pytest.param(
            [chunk(content="abcdefgh"), chunk(content="i", finish="stop")],
            [TextDelta("abcdefgh"), Finished("stop")],
            id="the last character",
        ),
    ],
)
def test_a_reply_is_no_longer_than_the_limit(
    chunks: list[dict[str, Any]], fits: list[Part]
) -> None:
    calls = ToolCallAccumulator(functions={"reply"}, max_chars=8)
    parts = [part for each in chunks[:-1] for part in calls.feed(each)]
    with pytest.raises(ParseError, match="too_large") as caught:
        calls.feed(chunks[-1])
    assert [*parts, *caught.value.parts] == fits
    with pytest.raises(ParseError, match="too_large"):
        calls.feed(chunk(content="more"))


def test_a_reply_may_be_as_long_as_the_limit() -> None:
    parts = parts_of(chunk(content="ab"), chunk(call("{}", id="c", name="f")), max_chars=5)
    assert parts == [TextDelta("ab"), started(id="c", name="f")]


@pytest.mark.parametrize("name", ["f", ""])
@pytest.mark.parametrize("by_id", [True, False])
def test_a_reply_has_no_more_calls_than_the_limit(name: str, by_id: bool) -> None:
    calls = ToolCallAccumulator()
    for number in range(MAX_CALLS):
        calls.feed(
            chunk(
                call(name="f", index=None, id=f"c{number}")
                if by_id
                else call(name=name, index=number)
            )
        )
    with pytest.raises(ParseError, match="too_large"):
        calls.feed(chunk(call(name=name, index=MAX_CALLS)))


def test_a_name_in_endless_pieces_is_cut() -> None:
    calls = ToolCallAccumulator()
    parts = [part for n in range(1_000) for part in calls.feed(chunk(call(name=f"{n}")))]
    names = [part.name for part in parts if isinstance(part, CallStarted)]
    assert "".join(map(str, range(1_000))).startswith(names[-1])
    assert 64 < len(names[-1]) < 1_000
    assert len(parts) == len(names) < 200, "what is not kept is not told"


@pytest.mark.parametrize(
    ("error", "kind", "status"),
    [
        ({"message": "sk-1", "type": "server_error", "code": None}, "server_error", 0),
        ({"type": "tokens", "code": "rate_limit_exceeded"}, "rate_limit_exceeded", 0),
        ({"message": "m", "code": 502}, "", 502),
        ({"message": "m", "code": "429", "type": "x"}, "x", 429),
        ({"message": "m", "status": 503}, "", 503),
        ({"message": "m", "code": "sk-proj-1234"}, "", 0),
        ({"message": "m", "code": "words with spaces"}, "", 0),
        ({"code": 200}, "", 0),
        ({"code": True, "type": ["x"]}, "", 0),
        ("The key sk-1 is wrong", "", 0),
        (["x"], "", 0),
        (True, "", 0),
    ],
    ids=repr,
)
def test_habit_an_error_in_the_stream(error: object, kind: str, status: int) -> None:
    calls = ToolCallAccumulator()
    calls.feed(FIRST)
    for each in ({"error": error}, chunk(content="x")):
        with pytest.raises(UpstreamError) as caught:
            calls.feed(each)
        assert (caught.value.code, caught.value.kind, caught.value.status) == (
            "upstream",
            kind,
            status,
        )
        assert str(caught.value) == "upstream"


def test_an_accumulator_whose_provider_failed_stays_failed_to_the_end() -> None:
    calls = ToolCallAccumulator()
    with pytest.raises(UpstreamError):
        calls.feed({"error": {"code": 503}})
    with pytest.raises(UpstreamError) as caught:
        calls.close()
    assert caught.value.status == 503


@pytest.mark.parametrize("error", [None, {}, "", False], ids=repr)
def test_an_empty_error_is_none(error: object) -> None:
    assert parts_of(chunk(content="x") | {"error": error}) == [TextDelta("x")]


# From bytes


def sse(*chunks: Json) -> bytes:
    return b"".join(b"data: " + orjson.dumps(each) + b"\n\n" for each in chunks)


def read(stream: bytes, places: Sequence[int] = ()) -> list[Part]:
    reader, calls = EventReader(), ToolCallAccumulator()
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    parts: list[Part] = []
    for start, end in itertools.pairwise(edges):
        for data in reader.feed(stream[start:end]):
            if data != DONE:
                parts += calls.feed(decode_chunk(data))
    return parts + calls.close()


def merged(parts: Sequence[Part]) -> list[Part]:
    """The same parts with neighbouring text joined."""
    result: list[Part] = []
    for part in parts:
        match result, part:
            case [*_, FieldDelta(name, before, call)], FieldDelta(same, text, of) if (
                name == same and call == of
            ):
                result[-1] = FieldDelta(name, before + text, call)
            case [*_, TextDelta(before)], TextDelta(text):
                result[-1] = TextDelta(before + text)
            case _:
                result.append(part)
    return result


def test_a_character_cut_in_halves_by_the_provider_is_joined() -> None:
    lines = [
        rb'{"choices":[{"delta":{"content":"\ud83d"}}]}',
        rb'{"choices":[{"delta":{"content":"\ude42!\ud83d"}}]}',
        rb'{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"f",'
        rb'"arguments":"{\"content\":\"a\ud83d"}}]}}]}',
        rb'{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{'
        rb'"arguments":"\ude42b\"}"}}]}}]}',
    ]
    stream = b"".join(b"data: " + line + b"\n\n" for line in lines)
    assert read(stream) == [
        TextDelta("🙂!"),
        started(name="f"),
        FieldDelta("content", "a"),
        *content("🙂b"),
        TextDelta("\ufffd"),
    ]


def test_a_half_that_stays_alone_leaves_at_the_end() -> None:
    assert parts_of(chunk(content="a\ud83d", refusal="b\ud83d")) == [
        TextDelta("a"),
        RefusalDelta("b"),
        TextDelta("\ufffd"),
        RefusalDelta("\ufffd"),
    ]


def test_names_and_ids_hold_no_lone_halves() -> None:
    data = (
        rb'{"choices":[{"delta":{"tool_calls":[{"id":"a\ud83d","function":{"name":"\ude42"}}]}}]}'
    )
    assert ToolCallAccumulator().feed(decode_chunk(data)) == [started(0, "a\ufffd", "\ufffd")]


# No halves: Python would put them into the bytes, which no server can.
characters = st.characters(exclude_categories=["Cs"])
texts = st.text(st.sampled_from('ab"\\\n{}日本🙂') | characters, max_size=20)


@settings(max_examples=200, deadline=None)
@given(
    text=texts,
    memory=st.none() | texts | st.lists(texts, max_size=3),
    cuts=st.lists(st.integers(0, 1000), max_size=8),
    places=st.lists(st.integers(0, 10_000), max_size=12),
    ascii_only=st.booleans(),
)
def test_a_reply_cut_anywhere_by_provider_and_network_is_the_same(
    text: str, memory: object, cuts: list[int], places: list[int], ascii_only: bool
) -> None:
    arguments = json.dumps({"content": text, "memory": memory}, ensure_ascii=ascii_only)
    edges = [0, *sorted(cut % (len(arguments) + 1) for cut in cuts), len(arguments)]
    fragments = [arguments[start:end] for start, end in itertools.pairwise(edges)]
    stream = sse(
        FIRST,
        *(chunk(call(fragment)) for fragment in fragments),
        chunk(finish="tool_calls"),
        {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}},
    )
    expected: list[Part] = [started()]
    expected += [FieldDelta("content", text)] if text else []
    expected += [FieldDone("content"), FieldValue("memory", memory)]
    expected += [Finished("tool_calls"), Usage(1, 2, 3)]
    assert merged(read(stream + b"data: [DONE]\n\n", places)) == expected


def oddly(words: Sequence[object]) -> st.SearchStrategy[object]:
    return st.sampled_from([None, 0, 1, "", [], {}, True, *words])


functions = st.fixed_dictionaries(
    {},
    optional={"name": oddly(["reply", "f"]), "arguments": oddly(['{"content":"', "x", '"}', "{}"])},
)
entries = st.fixed_dictionaries(
    {}, optional={"index": oddly([2]), "id": oddly(["a", "b"]), "function": functions | oddly([])}
)
deltas = st.fixed_dictionaries(
    {},
    optional={
        "content": oddly(["x", "\ud83d", "\ude42"]),
        "refusal": oddly(["x"]),
        "tool_calls": st.lists(entries, max_size=3) | oddly([]),
        "function_call": functions | oddly([]),
    },
)
odd_choices = st.fixed_dictionaries(
    {}, optional={"index": oddly([]), "delta": deltas | oddly([]), "finish_reason": oddly(["stop"])}
)
odd_chunks = st.fixed_dictionaries(
    {},
    optional={
        "choices": st.lists(odd_choices, max_size=2) | oddly([]),
        "usage": oddly([{"prompt_tokens": []}]),
        "error": st.sampled_from([None, {}, 0]),
    },
)


@settings(max_examples=200, deadline=None)
@given(chunks=st.lists(odd_chunks, max_size=8), functions=st.none() | st.just({"reply"}))
def test_odd_chunks_raise_nothing_but_parse_errors(
    chunks: list[Json], functions: set[str] | None
) -> None:
    calls = ToolCallAccumulator(functions=functions)
    parts: list[Part] = []
    try:
        for each in chunks:
            parts += calls.feed(each)
        parts += calls.close()
    except ParseError as error:
        parts += error.parts
    numbers: list[int] = []
    for part in parts:
        match part:
            case CallStarted(number):
                assert number in (*numbers, len(numbers))
                numbers = [*range(max(len(numbers), number + 1))]
            case FieldDelta(call=number) | FieldDone(call=number) | FieldValue(call=number):
                assert number in numbers
            case ArgumentsDelta(call=number):
                assert number in numbers
    assert orjson.dumps([asdict(part) for part in parts])


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
def test_any_bytes_are_a_chunk_or_a_parse_error(data: bytes) -> None:
    with suppress(ParseError):  # also one that says that the provider told of an error
        ToolCallAccumulator().feed(decode_chunk(data))

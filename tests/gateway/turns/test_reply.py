"""What the parts of a reply mean: the events they become, and what is stored."""

import logging
from collections.abc import Iterator
from itertools import count
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.turns.reply import (
    MEMORY_BYTES_MAX,
    MERGED_CHARACTERS,
    NAME_CHARACTERS_MAX,
    Draft,
    ReplyShape,
    ReplyWriter,
)
from gateway.wire.limits import SPILL_ABOVE_BYTES
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

SHAPE = ReplyShape(emotions=("neutral", "happy"), categories=("general", "story"))
STARTED = CallStarted(0, "id-1", "reply")


def a_writer() -> ReplyWriter:
    ids: Iterator[int] = count(1)
    return ReplyWriter(SHAPE, new_memory_id=lambda: f"m{next(ids)}")


@pytest.fixture
def writer() -> ReplyWriter:
    return a_writer()


def read(writer: ReplyWriter, *parts: Part) -> list[dict[str, Any]]:
    return [orjson.loads(event) for event in writer.read(parts)]


def closed(writer: ReplyWriter) -> list[dict[str, Any]]:
    return [orjson.loads(event) for event in writer.close()]


def delta(text: str) -> dict[str, Any]:
    return {"type": "content.delta", "text": text}


CONTENT_DONE = {"type": "content.done"}


# The function


def test_the_schema_of_the_reply_function() -> None:
    function = SHAPE.function()
    assert (function.name, function.description) == ("reply", "Answer the user.")
    assert function.parameters == {
        "title": "Reply",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "content": {
                "title": "Content",
                "description": "What you say to the user, in their language.",
                "type": "string",
            },
            "emotion": {
                "title": "Emotion",
                "description": "The emotion you say it with.",
                "enum": ["neutral", "happy"],
                "type": "string",
            },
            "category": {
                "title": "Category",
                "description": "What the exchange is about.",
                "enum": ["general", "story"],
                "type": "string",
            },
            "memory": {
                "title": "Memory",
                "description": "One lasting fact about the user worth remembering, as a short "
                "sentence; null if there is none.",
                "anyOf": [{"type": "string"}, {"type": "null"}],
            },
        },
        "required": ["content", "emotion", "category", "memory"],
    }


def test_content_comes_first_so_that_the_words_stream_before_the_rest() -> None:
    properties = SHAPE.function().parameters["properties"]
    assert isinstance(properties, dict)
    assert list(properties) == ["content", "emotion", "category", "memory"]


def test_values_may_be_of_any_language() -> None:
    shape = ReplyShape(emotions=("普通", "嬉しい"), categories=("雑談",))
    text = orjson.dumps(shape.function().parameters).decode()
    assert '"enum":["普通","嬉しい"]' in text
    assert "雑談" in text


# Content


def test_a_whole_reply(writer: ReplyWriter) -> None:
    events = [
        *read(writer, STARTED, FieldDelta("content", "こん")),
        *read(writer, FieldDelta("content", "にちは 🌸"), FieldDone("content")),
        *read(writer, FieldValue("emotion", "happy"), FieldValue("category", "story")),
        *read(writer, FieldValue("memory", "Lives in 大阪."), Usage(10, 5, 15), Finished("stop")),
        *closed(writer),
    ]
    assert events == [
        delta("こん"),
        delta("にちは 🌸"),
        CONTENT_DONE,
        {"type": "emotion", "value": "happy"},
        {"type": "category", "value": "story"},
        {"type": "memory", "memory_id": "m1", "value": "Lives in 大阪."},
    ]
    assert writer.draft == Draft(
        content="こんにちは 🌸",
        emotion="happy",
        category="story",
        memories={"m1": "Lives in 大阪."},
    )
    assert writer.finish_reason == "stop"
    assert writer.usage == Usage(10, 5, 15)


def test_what_one_read_brought_is_one_delta(writer: ReplyWriter) -> None:
    parts = [FieldDelta("content", text) for text in "hello"]
    assert read(writer, *parts) == [delta("hello")]


def test_text_stays_in_its_place_among_the_other_events(writer: ReplyWriter) -> None:
    assert read(
        writer,
        FieldValue("emotion", "happy"),
        FieldDelta("content", "a"),
        FieldDelta("content", "b"),
        FieldValue("category", "story"),
        FieldDelta("content", "c"),
        FieldDone("content"),
    ) == [
        {"type": "emotion", "value": "happy"},
        delta("ab"),
        {"type": "category", "value": "story"},
        delta("c"),
        CONTENT_DONE,
    ]


@pytest.mark.parametrize("fragment", ["abcd", "春は", "😀", '"\\'])
def test_a_burst_never_needs_a_blob(writer: ReplyWriter, fragment: str) -> None:
    parts = [FieldDelta("content", fragment)] * 10_000
    events = writer.read(parts)
    assert max(map(len, events)) <= SPILL_ABOVE_BYTES
    assert "".join(orjson.loads(event)["text"] for event in events) == fragment * 10_000
    assert len(events) <= len(fragment) * 10_000 / MERGED_CHARACTERS + 1


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), max_size=30))
def test_the_stored_text_is_what_was_shown(fragments: list[str]) -> None:
    writer = a_writer()
    shown = ""
    for fragment in fragments:
        for event in read(writer, FieldDelta("content", fragment)):
            shown += event["text"]
    assert shown == writer.draft.content == "".join(fragments)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (42, "42"),
        (True, "true"),
        (["a", "春"], '["a","春"]'),
        ({"text": "hi"}, '{"text":"hi"}'),
        (1.5, "1.5"),
        (orjson.loads("[" * 500 + "]" * 500), "[" * 500 + "]" * 500),
    ],
    ids=lambda value: str(value)[:20],
)
def test_content_that_is_no_string_is_shown_as_its_json(
    writer: ReplyWriter, value: Any, shown: str
) -> None:
    assert read(writer, FieldValue("content", value)) == [delta(shown), CONTENT_DONE]


def test_content_that_is_null_says_nothing(writer: ReplyWriter) -> None:
    assert read(writer, FieldValue("content", None)) == []
    assert writer.draft.content == ""
    assert closed(writer)[0] == CONTENT_DONE


def test_an_empty_content_leaves_room_for_words_beside_the_call(writer: ReplyWriter) -> None:
    assert read(writer, STARTED, FieldDone("content")) == []
    assert read(writer, TextDelta("Hello")) == [delta("Hello")]
    assert closed(writer)[0] == CONTENT_DONE


# Plain text and refusals


@pytest.mark.parametrize("part", [TextDelta, RefusalDelta])
def test_plain_text_is_a_reply(writer: ReplyWriter, part: type[TextDelta]) -> None:
    events = [*read(writer, part("Hel"), part("lo")), *closed(writer)]
    assert events == [
        delta("Hello"),
        CONTENT_DONE,
        {"type": "emotion", "value": "neutral"},
        {"type": "category", "value": "general"},
    ]
    assert writer.draft == Draft(content="Hello", emotion="neutral", category="general")


def test_text_before_a_call_is_kept_apart(writer: ReplyWriter) -> None:
    assert read(
        writer,
        TextDelta("Let me see."),
        STARTED,
        FieldDelta("content", "Yes"),
        FieldDone("content"),
    ) == [delta("Let me see.\n\nYes"), CONTENT_DONE]


def test_text_between_the_words_of_a_call_is_kept_apart(writer: ReplyWriter) -> None:
    read(writer, FieldDelta("content", "One"))
    read(writer, TextDelta("aside"), TextDelta(" still"))
    read(writer, FieldDelta("content", "Two"), FieldDone("content"))
    assert writer.draft.content == "One\n\naside still\n\nTwo"


@pytest.mark.parametrize("blank", ["\n", "  ", "\u3000"])
def test_blank_text_beside_a_call_is_nothing(writer: ReplyWriter, blank: str) -> None:
    assert read(writer, TextDelta(blank), STARTED, FieldDelta("content", "Yes")) == [delta("Yes")]


def test_blanks_inside_plain_text_stay(writer: ReplyWriter) -> None:
    read(writer, TextDelta("a"), TextDelta("\n\n"), TextDelta("b"))
    assert writer.draft.content == "a\n\nb"


def test_nothing_is_said_behind_the_end_of_the_content(
    writer: ReplyWriter, caplog: pytest.LogCaptureFixture
) -> None:
    read(writer, FieldDelta("content", "Yes"), FieldDone("content"))
    with caplog.at_level(logging.WARNING):
        assert read(writer, TextDelta("secret words"), TextDelta("more")) == []
    assert writer.draft.content == "Yes"
    assert [record.message for record in caplog.records] == [
        "text behind the end of a reply ignored"
    ]
    assert "secret" not in caplog.text


# Calls


def test_a_second_reply_call_is_ignored(
    writer: ReplyWriter, caplog: pytest.LogCaptureFixture
) -> None:
    read(writer, STARTED, FieldDelta("content", "First"), FieldDone("content"))
    with caplog.at_level(logging.WARNING):
        assert (
            read(
                writer,
                CallStarted(1, "id-2", "reply"),
                FieldDelta("content", "Second", 1),
                FieldDone("content", 1),
                FieldValue("emotion", "happy", 1),
                FieldValue("memory", "wrong", 1),
            )
            == []
        )
    assert writer.draft == Draft(content="First")
    assert [record.message for record in caplog.records] == ["second reply call ignored"]


def test_two_interleaved_reply_calls_are_not_glued(writer: ReplyWriter) -> None:
    read(
        writer,
        STARTED,
        CallStarted(1, "id-2", "reply"),
        FieldDelta("content", "a", 0),
        FieldDelta("content", "x", 1),
        FieldDelta("content", "b", 0),
    )
    assert writer.draft.content == "ab"


def test_an_empty_first_call_is_no_reply(writer: ReplyWriter) -> None:
    read(writer, STARTED, CallStarted(1, "id-2", "reply"), FieldDelta("content", "Yes", 1))
    assert writer.draft.content == "Yes"


def test_a_call_of_another_function_is_passed_on(writer: ReplyWriter) -> None:
    assert read(
        writer,
        CallStarted(0, "id-1", "search"),
        ArgumentsDelta(0, '{"q":'),
        ArgumentsDelta(0, '"春"}'),
        CallStarted(1, "id-2", "reply"),
        FieldDelta("content", "Yes", 1),
    ) == [
        {"type": "tool_call.delta", "call": 0, "name": "search", "arguments": '{"q":'},
        {"type": "tool_call.delta", "call": 0, "arguments": '"春"}'},
        delta("Yes"),
    ]


def test_a_name_that_comes_late_comes_with_the_next_fragment(writer: ReplyWriter) -> None:
    events = read(
        writer,
        CallStarted(0, "", ""),
        ArgumentsDelta(0, "{"),
        CallStarted(0, "", "search"),
        ArgumentsDelta(0, "}"),
    )
    assert [event.get("name") for event in events] == [None, "search"]


def test_an_endless_name_is_cut(writer: ReplyWriter) -> None:
    (event,) = read(writer, CallStarted(0, "", "n" * 500_000), ArgumentsDelta(0, "{}"))
    assert event["name"] == "n" * NAME_CHARACTERS_MAX


def test_an_unknown_field_is_ignored(writer: ReplyWriter, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        assert read(writer, FieldValue("mood\nforged line", "angry")) == []
    assert "forged" not in caplog.text
    assert read(writer, FieldDelta("notes", "x"), FieldDone("notes")) == []


def test_what_a_model_does_again_and_again_is_logged_once(
    writer: ReplyWriter, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        read(writer, *(FieldValue(f"field {number}", 1) for number in range(100)))
        read(writer, FieldDelta("content", "Hi"), FieldDone("content"))
        read(writer, *[TextDelta("more"), FieldDelta("content", "more")] * 100)
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("INFO", "unknown field of a reply ignored"),
        ("WARNING", "text behind the end of a reply ignored"),
    ]


# Emotion and category


@pytest.mark.parametrize(
    "value", ["furious", "Happy", " happy", "", 3, True, ["happy"], {"a": 1}], ids=repr
)
@pytest.mark.parametrize(("field", "default"), [("emotion", "neutral"), ("category", "general")])
def test_an_unknown_value_becomes_the_default_and_is_logged_without_it(
    writer: ReplyWriter,
    caplog: pytest.LogCaptureFixture,
    field: str,
    default: str,
    value: Any,
) -> None:
    with caplog.at_level(logging.WARNING):
        assert read(writer, FieldValue(field, value)) == [{"type": field, "value": default}]
    (record,) = caplog.records
    assert record.message == "unknown value replaced by the default"
    assert vars(record)["field"] == field
    assert "furious" not in str(vars(record))


@pytest.mark.parametrize(("field", "default"), [("emotion", "neutral"), ("category", "general")])
def test_null_is_the_default_without_a_word(
    writer: ReplyWriter, caplog: pytest.LogCaptureFixture, field: str, default: str
) -> None:
    assert read(writer, FieldValue(field, None)) == [{"type": field, "value": default}]
    assert caplog.records == []


def test_close_owes_what_the_model_left_out(writer: ReplyWriter) -> None:
    read(writer, FieldDelta("content", "Hi"), FieldValue("category", "story"))
    assert closed(writer) == [CONTENT_DONE, {"type": "emotion", "value": "neutral"}]
    assert closed(writer) == []


def test_close_owes_nothing_behind_a_whole_reply(writer: ReplyWriter) -> None:
    read(
        writer,
        FieldDelta("content", "Hi"),
        FieldDone("content"),
        FieldValue("emotion", "happy"),
        FieldValue("category", "story"),
    )
    assert closed(writer) == []


def test_a_partial_draft_has_no_defaults(writer: ReplyWriter) -> None:
    read(writer, FieldDelta("content", "Hi"))
    assert writer.draft == Draft(content="Hi", emotion=None, category=None)


# Memory


@pytest.mark.parametrize("value", [None, "", "   ", "\n", 5, ["x"], {"a": "b"}, False], ids=repr)
def test_what_is_no_fact_is_not_remembered(writer: ReplyWriter, value: Any) -> None:
    assert read(writer, FieldValue("memory", value)) == []
    assert writer.draft.memories == {}


def test_space_around_a_fact_goes(writer: ReplyWriter) -> None:
    (event,) = read(writer, FieldValue("memory", "\u3000 Likes tea.\n"))
    assert event["value"] == "Likes tea."


@pytest.mark.parametrize("character", ["a", "é", "春", "😀"])
@pytest.mark.parametrize("shift", [0, 1, 2, 3])
def test_a_long_memory_is_cut_between_code_points(
    writer: ReplyWriter, character: str, shift: int
) -> None:
    (event,) = read(writer, FieldValue("memory", "x" * shift + character * 5_000))
    value = event["value"]
    assert MEMORY_BYTES_MAX - 3 <= len(value.encode()) <= MEMORY_BYTES_MAX
    assert set(value) <= {"x", character}
    assert writer.draft.memories == {"m1": value}


def test_usage_that_comes_twice_counts_as_last_said(writer: ReplyWriter) -> None:
    read(writer, Usage(1, 1, 2), Usage(5, 6, 11))
    assert writer.usage == Usage(5, 6, 11)


def test_no_parts_are_no_events(writer: ReplyWriter) -> None:
    assert writer.read([]) == []

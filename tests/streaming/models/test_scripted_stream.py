import pytest

from streaming.models.chat_model import (
    DEFAULT_DEADLINES,
    ChatMessage,
    Function,
    ModelRequest,
)
from streaming.models.scripted_reply import scripted_reply
from streaming.models.scripted_stream import ScriptedStream, scripted_stream
from streaming.models.scripted_words import read_wishes


def stream_for(text: str) -> ScriptedStream:
    request = ModelRequest(
        messages=(ChatMessage(role="user", content=text),),
        function=Function(
            name="reply",
            description="",
            parameters={"properties": {"content": {"type": "string"}}},
        ),
    )
    wishes = read_wishes(text)
    return scripted_stream(request, scripted_reply(request, wishes), wishes)


def test_every_event_is_one_whole_line() -> None:
    for event in stream_for("hello").events:
        assert event.startswith(b"data: ")
        assert event.endswith(b"\n\n")
        assert event.count(b"\n") == 2


def test_a_good_stream_ends_as_a_provider_s_does() -> None:
    *_, finish, usage, done = stream_for("hello").events

    assert b'"finish_reason":"stop"' in finish
    assert b'"choices":[],"usage"' in usage
    assert done == b"data: [DONE]\n\n"


@pytest.mark.parametrize(("text", "escaped"), [("emoji", True), ("echo 😀", False)])
def test_emoji_are_escaped_where_that_is_asked_for(text: str, escaped: bool) -> None:
    body = b"".join(stream_for(text).events)

    assert (b"\\\\u" in body) is escaped


def test_escapes_are_cut_apart() -> None:
    assert any(event.count(b'arguments":"\\\\"') for event in stream_for("emoji").events)


def test_japanese_text_is_sent_as_it_is() -> None:
    assert "台".encode() in b"".join(stream_for("こんにちは").events)


def test_the_longest_message_is_echoed_within_the_deadline() -> None:
    events = stream_for("echo " + "word " * 52_000).events

    assert len(events) < 40 * DEFAULT_DEADLINES.total / 2, "at 40 fragments a second"


@pytest.mark.parametrize(
    ("text", "ending"),
    [
        ("fail stall", "stall"),
        ("fail break later", "break"),
        ("fail cut later", "end"),
        ("hello", "end"),
    ],
)
def test_the_ending_is_as_asked_for(text: str, ending: str) -> None:
    assert stream_for(text).ending == ending


def test_a_failing_stream_has_no_end_mark() -> None:
    for text in ("fail cut later", "fail later", "fail protocol later", "stall later"):
        assert b"[DONE]" not in b"".join(stream_for(text).events)

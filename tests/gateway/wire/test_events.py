"""What a run's log holds: an encoded event is the event, whichever way its bytes were made."""

from typing import get_args

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import TypeAdapter

from gateway.wire import events
from gateway.wire.events import AnyEvent, ContentDelta, Started, content_delta, started
from gateway.wire.json_schema import protocol_schema

ADAPTER: TypeAdapter[AnyEvent] = TypeAdapter(AnyEvent)

SAMPLES: list[events.Event] = [
    events.Started(id="a", session_id="s1", message_id="m1", reply_id="m2"),
    events.ContentDelta(text='改行\n"と" \\ 🌸 \u2028 \x00 </script>'),
    events.ContentDone(),
    events.Emotion(value="joy"),
    events.Category(value="greeting"),
    events.MemoryNoted(memory_id="k1", value="likes tea"),
    events.ToolCallDelta(call=0, name="search"),
    events.ToolCallDelta(call=1, arguments='{"q":"'),
    events.UsageReported(model="m", prompt_tokens=1, completion_tokens=2),
    events.UsageReported(model="m", prompt_tokens=1, completion_tokens=2, estimated=True),
    events.Done(reason="stop", message_id="m2", saved=True),
    events.Done(
        reason="timeout",
        message_id="m2",
        saved=False,
        error=events.RunError(
            code="model.timeout", message="x", retryable=True, retry_after_ms=1, phase="total"
        ),
    ),
    events.Done(
        reason="error",
        message_id="m2",
        saved=True,
        error=events.RunError(code="model.refused", message="x", retryable=False),
    ),
]


def sample_id(event: events.Event) -> str:
    return f"{event.model_dump()['type']}-{len(event.encode())}"


@pytest.fixture(scope="module")
def schema() -> Draft202012Validator:
    return Draft202012Validator({**protocol_schema(), "$ref": "#/$defs/AnyEvent"})


def test_there_is_a_sample_of_every_event() -> None:
    assert {type(event) for event in SAMPLES} == set(get_args(get_args(AnyEvent)[0]))


@pytest.mark.parametrize("event", SAMPLES, ids=sample_id)
def test_an_encoded_event_reads_back_as_itself(
    event: events.Event, schema: Draft202012Validator
) -> None:
    encoded = event.encode()
    assert ADAPTER.validate_json(encoded) == event
    schema.validate(orjson.loads(encoded))


@pytest.mark.parametrize("event", SAMPLES, ids=sample_id)
def test_an_encoded_event_is_one_line_with_its_type_first_and_no_null(event: events.Event) -> None:
    encoded = event.encode()
    assert encoded.startswith(b'{"type":"')
    assert b":null" not in encoded
    assert b"\n" not in encoded  # a log entry joins events by newlines


@given(st.text(st.characters(exclude_categories=["Cs"])))
@example("")
@example("\ud7ff\ue000\U0010ffff")
@example('\x00\x1f"\\/\x7f\u2028\u2029')
def test_the_fast_way_makes_the_bytes_of_the_model(text: str) -> None:
    assert content_delta(text) == ContentDelta(text=text).encode()


@pytest.mark.parametrize("model", [None, "gpt-4.1", "モデル"])
def test_the_beginning_is_built_as_its_model_says(model: str | None) -> None:
    ids = {"id": "s-1", "session_id": "S", "message_id": "M", "reply_id": "R"}
    assert started(**ids, model=model) == Started(**ids, model=model).encode()

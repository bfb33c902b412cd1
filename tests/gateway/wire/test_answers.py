"""What the server says: an encoded answer is the answer, without nulls, and fits the schema."""

from typing import Any, get_args

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import TypeAdapter, ValidationError

from gateway.wire import answers
from gateway.wire.answers import AnyAnswer
from gateway.wire.errors import BadRequestError, RateLimitedError
from gateway.wire.events import ContentDelta, ContentDone, Started
from gateway.wire.json_schema import protocol_schema

ADAPTER: TypeAdapter[AnyAnswer] = TypeAdapter(AnyAnswer)

REPLY = answers.MessageItem(
    message_id="m2",
    session_id="s1",
    role="assistant",
    content='こんにちは 🌸\n"quoted" \\ \u2028 \x00',
    created_at=1_767_225_604_000,
    run_id="r1",
    reply_to="m1",
    emotion="joy",
    category="greeting",
    end="stop",
)
QUESTION = answers.MessageItem(
    message_id="m1", session_id="s1", role="user", content="?", created_at=0, run_id="r1"
)
SESSION = answers.SessionItem(
    session_id="s1", title="旅", character="sensei", created_at=1, updated_at=2, active_run="r1"
)
MEMORY = answers.MemoryItem(
    memory_id="k1", value="likes tea", created_at=3, session_id="s1", message_id="m2"
)
READY = answers.Ready(
    connection_id="c",
    connection_expires_at=5,
    user_id="u",
    tenant_id="t",
    tier="standard",
    limits=answers.Limits(
        command_bytes=32_768, content_bytes=262_144, live_runs=8, queued_per_session=4
    ),
    auth_expires_at=4,
    heartbeat_ms=25_000,
    server_time=1,
    runs=(answers.LiveRun(run_id="r1", session_id="s1", last_seq=0, state="queued"),),
)
STARTED = Started(id="a", session_id="s1", message_id="m1", reply_id="m2")
SPILLED: dict[str, Any] = {"url": "/v1/p", "bytes": 1, "sha256": "0" * 64, "expires_at": 9}

SAMPLES: list[answers.Answer] = [
    READY,
    READY.model_copy(update={"runs": ()}),
    answers.Accepted(id="a", run_id="r1", session_id="s1", message_id="m1"),
    answers.Accepted(id="a", run_id="r1", session_id="s1", message_id="m1", duplicate=True),
    answers.Events(run_id="r1", first_seq=1, last_seq=1, events=(STARTED,)),
    answers.Events(
        run_id="r1",
        first_seq=8,
        last_seq=9,
        events=(ContentDelta(text="あ"), ContentDone()),
        volatile=True,
    ),
    answers.Payload(of="events", **SPILLED, run_id="r1", first_seq=3, last_seq=3),
    answers.Payload(of="page", **SPILLED, id="a"),
    answers.Payload(of="error", **SPILLED, run_id="r1"),
    answers.Page(id="a", items=()),
    answers.Page(id="a", items=(REPLY, QUESTION), next="cursor"),
    answers.Page(id="a", items=(SESSION,)),
    answers.Page(id="a", items=(MEMORY,)),
    answers.UploadReady(id="a", upload_id="p", url="/v1/p", method="PUT", fields={}, expires_at=9),
    answers.UploadReady(
        id="a", upload_id="p", url="https://s/p", method="POST", fields={"key": "k"}, expires_at=9
    ),
    answers.Resumed(run_id="r1", state="ended", last_seq=9),
    answers.Subscribed(
        session_id="s1",
        runs=(answers.LiveRun(run_id="r1", session_id="s1", last_seq=0, state="queued"),),
    ),
    answers.Unsubscribed(session_id="s1"),
    answers.Notice(kind="auth.renewed", id="a", auth_expires_at=9),
    answers.Pong(),
    answers.Pong(t=1.5, server_time=2),
    answers.Pong(t=2**63),
    answers.error_answer(BadRequestError(), fatal=True),
    answers.error_answer(
        RateLimitedError(retry_after_ms=5), id="a", run_id="r1", fatal=None, stored=REPLY
    ),
    answers.GoAway(reason="deploy", deadline=9),
]


def sample_id(answer: answers.Answer) -> str:
    return f"{answer.model_dump()['type']}-{len(answer.encode())}"


@pytest.fixture(scope="module")
def schema() -> Draft202012Validator:
    return Draft202012Validator({**protocol_schema(), "$ref": "#/$defs/AnyAnswer"})


def test_there_is_a_sample_of_every_answer() -> None:
    assert {type(answer) for answer in SAMPLES} == set(get_args(get_args(AnyAnswer)[0]))


@pytest.mark.parametrize("answer", SAMPLES, ids=sample_id)
def test_an_encoded_answer_reads_back_as_itself(answer: answers.Answer) -> None:
    assert ADAPTER.validate_json(answer.encode()) == answer


@pytest.mark.parametrize("answer", SAMPLES, ids=sample_id)
def test_an_encoded_answer_has_its_type_first_and_no_null(answer: answers.Answer) -> None:
    encoded = answer.encode()
    assert encoded.startswith(b'{"type":"')
    assert b":null" not in encoded


@pytest.mark.parametrize("answer", SAMPLES, ids=sample_id)
def test_an_encoded_answer_fits_the_schema(
    answer: answers.Answer, schema: Draft202012Validator
) -> None:
    fields = orjson.loads(answer.encode())
    schema.validate(fields)
    schema.validate({**fields, "later": 1})
    for required in set(fields) - set(_optional(answer)):
        assert not schema.is_valid({name: fields[name] for name in fields if name != required})


def _optional(answer: answers.Answer) -> list[str]:
    fields = type(answer).model_fields
    return [name for name, field in fields.items() if field.default is None]


def test_an_answer_takes_no_field_that_it_does_not_have() -> None:
    with pytest.raises(ValidationError):
        answers.Pong.model_validate({"internal": "path"})


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_survives(text: str) -> None:
    page = answers.Page(id="a", items=(QUESTION.model_copy(update={"content": text}),))
    assert ADAPTER.validate_json(page.encode()) == page


@given(st.one_of(st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False)))
def test_any_t_comes_back_as_it_was(t: float) -> None:
    if abs(t) != float("inf"):
        assert orjson.loads(answers.Pong(t=t).encode())["t"] == t


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.0, 0), (1.0019, 1001), (1_767_225_600.5, 1_767_225_600_500)]
)
def test_times_become_whole_milliseconds(seconds: float, expected: int) -> None:
    assert answers.milliseconds(seconds) == expected


def test_an_http_error_has_the_fields_of_an_error_and_a_request_id() -> None:
    told = answers.http_error(RateLimitedError(retry_after_ms=1500), request_id="q")
    assert told == {
        "error": {
            "code": "rate.limited",
            "message": "Too many requests.",
            "retryable": True,
            "retry_after_ms": 1500,
            "request_id": "q",
        }
    }
    assert "retry_after_ms" not in answers.http_error(BadRequestError(), request_id="q")["error"]


@pytest.mark.parametrize("duplicate", [True, False])
def test_what_is_accepted_is_told_as_its_model_says(duplicate: bool) -> None:
    ids = {"id": "s-1", "run_id": "R", "session_id": "S", "message_id": "M"}
    told = answers.Accepted(**ids, duplicate=duplicate or None).encode()
    assert answers.accepted(**ids, duplicate=duplicate) == told

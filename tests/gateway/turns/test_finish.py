"""What is stored when a run ends, and its last events."""

import orjson
import pytest

from gateway.turns.finish import completion, last_events, started
from gateway.turns.outcome import Outcome
from gateway.turns.reply import Draft
from gateway.wire.events import RunError
from storage.records import LogEntry, Memory, Message, Usage
from tests.gateway.runs.fakes import NOW, a_run

RUN = a_run()
USAGE = Usage(model="fake", prompt_tokens=12, completion_tokens=3, estimated=False)
TERMINAL = LogEntry(run_id="run-1", first=3, last=4, body=b"x")
FAILED = Outcome(
    reason="error",
    error=RunError(code="model.busy", message="Busy.", retryable=True, retry_after_ms=5),
)


def test_the_first_event() -> None:
    assert orjson.loads(started(RUN)) == {
        "type": "started",
        "id": "send-of-run-1",
        "session_id": "session-1",
        "message_id": "question-of-run-1",
        "reply_id": "reply-of-run-1",
    }
    assert orjson.loads(started(RUN, model="fake"))["model"] == "fake"


@pytest.mark.parametrize(
    ("outcome", "usage", "saved", "told"),
    [
        (
            Outcome(reason="stop"),
            USAGE,
            True,
            [
                {"type": "usage", "model": "fake", "prompt_tokens": 12, "completion_tokens": 3},
                {"type": "done", "reason": "stop", "message_id": "reply-of-run-1", "saved": True},
            ],
        ),
        (
            Outcome(reason="cancelled"),
            None,
            False,
            [
                {
                    "type": "done",
                    "reason": "cancelled",
                    "message_id": "reply-of-run-1",
                    "saved": False,
                }
            ],
        ),
        (
            FAILED,
            Usage(model="fake", prompt_tokens=1, completion_tokens=0, estimated=True),
            True,
            [
                {
                    "type": "usage",
                    "model": "fake",
                    "prompt_tokens": 1,
                    "completion_tokens": 0,
                    "estimated": True,
                },
                {
                    "type": "done",
                    "reason": "error",
                    "message_id": "reply-of-run-1",
                    "saved": True,
                    "error": {
                        "code": "model.busy",
                        "message": "Busy.",
                        "retryable": True,
                        "retry_after_ms": 5,
                    },
                },
            ],
        ),
    ],
    ids=["stop", "cancelled", "error"],
)
def test_the_last_events(
    outcome: Outcome, usage: Usage | None, saved: bool, told: list[dict[str, object]]
) -> None:
    events = last_events(RUN, outcome, usage, saved=saved)
    assert [orjson.loads(event) for event in events] == told


def test_everything_is_stored_together() -> None:
    draft = Draft(content="はい", emotion="happy", category=None, memories={"m1": "Likes tea."})
    made = completion(
        RUN,
        claimed_by="claim-1",
        terminal=TERMINAL,
        draft=draft,
        outcome=FAILED,
        usage=USAGE,
        now=NOW,
        log_until=NOW + 5,
    )
    assert (made.run_id, made.claimed_by, made.end) == ("run-1", "claim-1", "error")
    assert (made.terminal, made.usage, made.finished_at, made.log_until) == (
        TERMINAL,
        USAGE,
        NOW,
        NOW + 5,
    )
    assert made.reply == Message(
        message_id="reply-of-run-1",
        session_id="session-1",
        role="assistant",
        content="はい",
        created_at=NOW,
        run_id="run-1",
        reply_to="question-of-run-1",
        emotion="happy",
        category=None,
        end="error",
    )
    assert made.memories == (
        Memory(
            memory_id="m1",
            value="Likes tea.",
            created_at=NOW,
            session_id="session-1",
            message_id="reply-of-run-1",
        ),
    )


def test_a_reply_without_a_word_is_not_stored() -> None:
    made = completion(
        RUN,
        claimed_by="claim-1",
        terminal=TERMINAL,
        draft=Draft(emotion="happy"),
        outcome=Outcome(reason="cancelled"),
        usage=None,
        now=NOW,
        log_until=NOW,
    )
    assert made.reply is None
    assert made.memories == ()

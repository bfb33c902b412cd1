"""How far an answer has been read: what is new in a frame, from where it is asked for again."""

from typing import Any

import pytest

from gateway.cli import reading as reading_module
from gateway.cli.failure import CommandFailedError
from gateway.cli.reading import Reading
from tests.gateway.cli.fake_gateway import DONE, STARTED, delta

A, B, C = delta("a"), delta("b"), delta("c")
INTERRUPTED = {**DONE, "reason": "interrupted"}


def events(first: int, *given: dict[str, Any], volatile: bool = False) -> dict[str, Any]:
    last = first + len(given) - 1
    fields = {"type": "events", "run_id": "r1", "first_seq": first, "last_seq": last}
    return {**fields, "events": list(given), **({"volatile": True} if volatile else {})}


def resumed(state: str, last_seq: int) -> dict[str, Any]:
    return {"type": "resumed", "run_id": "r1", "state": state, "last_seq": last_seq}


@pytest.fixture
def reading() -> Reading:
    """Of an answer of which two events are in the log and two more were shown."""
    reading = Reading({"type": "send", "id": "c1", "content": "Hi"})
    assert reading.take(events(1, STARTED, A), 0.0) == [STARTED, A]
    assert reading.take(events(3, B, C, volatile=True), 0.0) == [B, C]
    return reading


def test_what_is_volatile_is_asked_for_again(reading: Reading) -> None:
    assert reading.question(1.0) == {"type": "resume", "run_id": "r1", "after": 2}


def test_what_comes_again_as_it_was_is_not_new(reading: Reading) -> None:
    assert reading.take(events(3, B, C, DONE, volatile=True), 1.0) == [DONE]
    assert reading.question(2.0)["after"] == 2


def test_what_comes_again_without_the_mark_is_kept(reading: Reading) -> None:
    assert reading.take(events(3, B, C), 1.0) == []
    assert reading.question(2.0)["after"] == 4


def test_a_frame_beyond_what_is_volatile_keeps_nothing_below_it(reading: Reading) -> None:
    assert reading.take(events(5, A), 1.0) == [A]
    assert reading.question(2.0)["after"] == 2


@pytest.mark.parametrize("first", [1, 2, 3])
def test_what_comes_otherwise_brings_all_again(reading: Reading, first: int) -> None:
    frame = events(first, *[STARTED, A, INTERRUPTED][first - 1 :])
    assert reading.take(frame, 1.0) == [{"type": "restarted"}, STARTED, A, INTERRUPTED]
    assert reading.question(2.0)["after"] == 3


def test_what_is_kept_never_changes(reading: Reading) -> None:
    assert reading.take(events(1, STARTED, C), 1.0) == []
    assert reading.question(2.0)["after"] == 2


def test_a_volatile_payload_that_was_fetched_is_fetched_again(reading: Reading) -> None:
    payload = {"type": "payload", "run_id": "r1", "first_seq": 4, "last_seq": 4}
    assert reading.lacks(payload)
    assert not reading.lacks({**payload, "first_seq": 2, "last_seq": 2})


@pytest.mark.parametrize(
    ("answer", "after"),
    [
        (resumed("ended", 2), 0),
        (resumed("ended", 1), 0),
        (resumed("queued", 0), 0),
        (resumed("ended", 3), 2),
        (resumed("running", 1), 2),
    ],
    ids=["shorter by its end", "shorter", "not begun", "longer", "going on"],
)
def test_a_run_that_never_was_where_it_was_seen_is_asked_for_as_a_whole(
    reading: Reading, answer: dict[str, Any], after: int
) -> None:
    reading.question(1.0)
    assert reading.take(answer, 2.0) == []
    assert (reading.ask_at <= 2.0) is (after == 0)
    assert reading.question(2.0)["after"] == after
    reading.take(answer, 3.0)
    assert reading.ask_at == 2.0 + reading_module.SILENCE_S, "once is enough"


def refusal(code: str = "storage.unavailable", **more: Any) -> dict[str, Any]:
    return {"type": "error", "id": "c1", "code": code, "message": "No.", "retryable": True, **more}


@pytest.fixture
def sending() -> Reading:
    """Of a message that was sent once, at 0."""
    reading = Reading({"type": "send", "id": "c1", "content": "Hi"}, chance=lambda: 0.5)
    reading.question(0.0)
    return reading


@pytest.mark.parametrize("code", ["storage.unavailable", "internal"])
def test_what_may_be_stored_is_sent_again_by_its_id_after_growing_pauses(
    sending: Reading, code: str
) -> None:
    pauses, now = [], 0.0
    for _ in range(reading_module.REFUSALS - 1):
        told = sending.take(refusal(code), now)
        assert told == [{"type": "refused", "message": "No."}]
        pauses.append(sending.ask_at - now)
        now = sending.ask_at
        assert sending.question(now) == sending.send
    assert pauses == [3.0, 6.0, 12.0, 22.5, 22.5, 22.5, 22.5]
    with pytest.raises(
        CommandFailedError, match=r"^No\. \(the message may be stored all the same\)$"
    ):
        sending.take(refusal(code), now)


def test_the_servers_own_wait_is_added_to(sending: Reading) -> None:
    sending.take(refusal(retry_after_ms=4_000), 1.0)
    assert sending.ask_at == 1.0 + 4.0 + 3.0


def test_a_refused_copy_of_what_was_accepted_changes_nothing(reading: Reading) -> None:
    before = reading.ask_at
    assert reading.take(refusal(), 1.0) == []
    assert reading.ask_at == before
    assert reading.question(2.0)["type"] == "resume"


@pytest.mark.parametrize(
    ("error", "sends", "is_open"),
    [
        (refusal("internal", retryable=False), 1, True),
        (refusal("rate.limited"), 1, False),
        (refusal("rate.limited"), 2, True),
        (refusal("busy"), 2, False),
        (refusal("conflict", retryable=False), 2, False),
    ],
    ids=["by us", "never stored", "an earlier copy", "busy", "conflict"],
)
def test_only_what_may_be_stored_is_said_to_be(
    sending: Reading, error: dict[str, Any], sends: int, is_open: bool
) -> None:
    for _ in range(sends - 1):
        sending.question(1.0)
    with pytest.raises(CommandFailedError) as failure:
        sending.take(error, 2.0)
    assert ("may be stored" in str(failure.value)) is is_open

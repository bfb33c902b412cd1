"""Whole events into frames and log entries of the right size."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.frames.pack import ENTRY_EVENTS, entries, events_frame, merged, next_events
from gateway.wire.answers import Events
from gateway.wire.events import content_delta
from gateway.wire.limits import FRAME_TARGET_BYTES, MESSAGE_BYTES, SPILL_ABOVE_BYTES
from storage.records import BlobRef

A, B = b'{"type":"content.delta","text":"a"}', b'{"type":"content.done"}'
BLOB = BlobRef(key="acme/anna/run-1_2e2", bytes=20_000, sha256="0" * 64)

EVENTS = st.lists(st.text(max_size=4_000).map(content_delta), min_size=1, max_size=40)
LOGS = st.lists(
    st.one_of(
        st.integers(1, SPILL_ABOVE_BYTES).map(lambda size: b"x" * size),
        st.just(BLOB),
    ),
    min_size=1,
    max_size=60,
)


# The frame


@pytest.mark.parametrize(
    ("first", "events", "volatile", "frame"),
    [
        (
            1,
            [A],
            False,
            b'{"type":"events","run_id":"r1","first_seq":1,"last_seq":1,'
            b'"events":[{"type":"content.delta","text":"a"}]}',
        ),
        (
            7,
            [A, B],
            False,
            b'{"type":"events","run_id":"r1","first_seq":7,"last_seq":8,'
            b'"events":[{"type":"content.delta","text":"a"},{"type":"content.done"}]}',
        ),
        (
            2,
            [B],
            True,
            b'{"type":"events","run_id":"r1","first_seq":2,"last_seq":2,"volatile":true,'
            b'"events":[{"type":"content.done"}]}',
        ),
    ],
    ids=["one", "two", "volatile"],
)
def test_a_frame_byte_for_byte(
    first: int, events: list[bytes], volatile: bool, frame: bytes
) -> None:
    assert events_frame("r1", first, events, volatile=volatile) == frame


@pytest.mark.parametrize("text", ["", "春", "😀\u200d", '"\\\n\x00\u2028', "</script>"])
def test_a_frame_is_what_the_wire_says(text: str) -> None:
    frame = orjson.loads(events_frame("r1", 3, [content_delta(text), B]))
    read = Events.model_validate(frame)
    assert (read.first_seq, read.last_seq) == (3, 4)
    assert read.events[0].model_dump() == {"type": "content.delta", "text": text}


# The next frame of a reader


def test_as_many_whole_events_as_fit_go_together() -> None:
    log = [b"x" * 3_000] * 4
    assert [len(next_events(log, after, 4)) for after in range(4)] == [2, 2, 2, 1]


@pytest.mark.parametrize(
    ("sizes", "fitting"),
    [
        ([FRAME_TARGET_BYTES, 1], 1),
        ([FRAME_TARGET_BYTES - 1, 1, 1], 2),
        ([FRAME_TARGET_BYTES + 1, 1], 1),
        ([1, FRAME_TARGET_BYTES], 1),
        ([SPILL_ABOVE_BYTES, 1], 1),
        ([1] * 500, 500),
    ],
)
def test_a_frame_ends_at_about_eight_kilobytes(sizes: list[int], fitting: int) -> None:
    log = [b"x" * size for size in sizes]
    assert len(next_events(log, 0, len(log))) == fitting


def test_nothing_beyond_what_may_be_sent() -> None:
    assert next_events([A, B, A, B], 1, 3) == [B, A]


def test_a_spilled_event_travels_alone() -> None:
    log = [A, BLOB, B]
    assert next_events(log, 0, 3) == [A]
    assert next_events(log, 1, 3) == []
    assert next_events(log, 2, 3) == [B]


@given(LOGS)
def test_a_reader_gets_every_event_once_whatever_the_sizes(log: list[bytes | BlobRef]) -> None:
    sent: list[bytes | BlobRef] = []
    while len(sent) < len(log):
        batch = next_events(log, len(sent), len(log))
        assert len(events_frame("r" * 26, 1, batch)) <= MESSAGE_BYTES
        assert sum(map(len, batch)) <= max(FRAME_TARGET_BYTES, len(batch[0]) if batch else 0)
        sent += batch or [log[len(sent)]]
    assert sent == log


@given(EVENTS, st.data())
def test_text_is_the_same_however_it_was_framed(events: list[bytes], data: st.DataObject) -> None:
    """Live with stops in odd places, or all at once: the same text comes together."""
    texts: list[str] = []
    cursor = 0
    while cursor < len(events):
        until = data.draw(st.integers(cursor + 1, len(events)))
        batch = next_events(events, cursor, until)
        frame = orjson.loads(events_frame("r1", cursor + 1, batch))
        texts += [event["text"] for event in frame["events"]]
        cursor += len(batch)
    assert texts == [orjson.loads(event)["text"] for event in events]


# The entries of a log


@given(st.lists(st.integers(1, SPILL_ABOVE_BYTES).map(lambda size: b"x" * size), max_size=150))
def test_entries_are_bounded_and_lose_nothing(events: list[bytes]) -> None:
    groups = list(entries(events))
    assert [event for group in groups for event in group] == events
    for group in groups:
        assert 1 <= len(group) <= ENTRY_EVENTS
        assert sum(map(len, group)) <= FRAME_TARGET_BYTES or len(group) == 1


def test_entries_are_as_few_as_can_be() -> None:
    assert [len(group) for group in entries([b"x"] * 129)] == [64, 64, 1]
    assert [len(group) for group in entries([b"x" * 4_096] * 5)] == [2, 2, 1]


def test_no_events_are_no_entries() -> None:
    assert list(entries([])) == []


# Deltas that may become one


def text_of(events: list[bytes]) -> str:
    return "".join(orjson.loads(event).get("text", "") for event in events)


@given(st.lists(st.one_of(st.text(max_size=3_000).map(content_delta), st.just(B)), max_size=40))
def test_merged_deltas_say_the_same_in_the_same_order(events: list[bytes]) -> None:
    joined = merged(events)
    assert text_of(joined) == text_of(events)
    assert [each for each in joined if each == B] == [each for each in events if each == B]
    before, after = [], []
    for found, told in ((before, events), (after, joined)):
        text = 0
        for event in told:
            if event == B:
                found.append(text)  # how much had been said when it came
            else:
                text += len(orjson.loads(event)["text"])
    assert before == after
    longest = max(map(len, events), default=0)
    assert all(len(event) <= max(FRAME_TARGET_BYTES, longest) for event in joined)


def test_deltas_that_follow_each_other_become_one() -> None:
    told = [
        content_delta("a"),
        content_delta('"é\\\n'),
        content_delta("春🎉"),
        B,
        content_delta("z"),
    ]
    assert merged(told) == [content_delta('a"é\\\n春🎉'), B, content_delta("z")]


def test_merging_stops_at_the_size_of_a_frame() -> None:
    joined = merged([content_delta("x" * 100)] * 200)
    assert [len(event) <= FRAME_TARGET_BYTES for event in joined] == [True] * len(joined)
    assert len(joined) == 3

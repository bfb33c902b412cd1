"""Merge, then number, then log, then send: what the readers of a run get."""

import asyncio
from dataclasses import replace

import orjson
import pytest

from gateway.wire.events import ContentDone, ToolCallDelta
from gateway.wire.limits import MESSAGE_BYTES, SPILL_ABOVE_BYTES
from tests.gateway.runs.fakes import (
    ENDED,
    NOW,
    Surroundings,
    a_run,
    deltas,
    follow,
    numbers,
    text_of,
)
from tests.gateway.runs.virtual_time import idle

DONE = ContentDone().encode()
LARGE = "春" * 4_000  # 12,000 bytes


@pytest.fixture
def around() -> Surroundings:
    return Surroundings()


# Log before post


async def test_nothing_is_posted_before_it_is_acknowledged(around: Surroundings) -> None:
    follow(around)
    around.live.emit(deltas("a", "b"))
    await idle()
    assert around.transport.frames["c1"] == []
    around.log.answer()
    assert around.transport.answers("c1") == [
        {
            "type": "events",
            "run_id": "run-1",
            "first_seq": 1,
            "last_seq": 2,
            "events": [
                {"type": "content.delta", "text": "a"},
                {"type": "content.delta", "text": "b"},
            ],
        }
    ]


async def test_an_emit_is_one_entry_of_the_log(around: Surroundings) -> None:
    around.live.emit(deltas("a", "b"))
    around.live.emit([DONE])
    around.log.answer()
    assert [(entry.first, entry.last, entry.body) for entry in around.log.kept] == [
        (1, 2, b"\n".join(deltas("a", "b"))),
        (3, 3, DONE),
    ]


async def test_an_entry_holds_at_most_64_events(around: Surroundings) -> None:
    around.live.emit([DONE] * 130)
    around.log.answer()
    assert [(entry.first, entry.last) for entry in around.log.kept] == [
        (1, 64),
        (65, 128),
        (129, 130),
    ]


async def test_emitting_nothing_changes_nothing(around: Surroundings) -> None:
    around.live.emit([])
    assert around.log.pending == []
    await around.live.settle()


async def test_what_came_between_two_acknowledgements_is_one_frame(around: Surroundings) -> None:
    around.transport.full.add("c1")
    follow(around)
    for text in "abcd":
        around.live.emit(deltas(text))
        around.log.answer()
    around.transport.drain("c1")
    await idle()
    assert [(each["first_seq"], each["last_seq"]) for each in around.transport.answers("c1")] == [
        (1, 1),
        (2, 4),
    ]


# Spilling


async def test_a_large_event_travels_alone_and_in_its_place(around: Surroundings) -> None:
    around.log.at_once = True
    follow(around)
    around.live.emit([*deltas("before", LARGE, "after"), DONE])
    around.live.emit(deltas("later"))
    await around.live.settle()
    types = [frame["type"] for frame in around.transport.answers("c1")]
    assert types == ["events", "payload", "events"]
    announced = around.transport.answers("c1")[1]
    assert announced["of"] == "events"
    assert (announced["run_id"], announced["first_seq"], announced["last_seq"]) == ("run-1", 2, 2)
    assert text_of(around.events("c1")) == f"before{LARGE}afterlater"
    assert numbers(around) == [1, 2, 3, 4, 5]


async def test_the_log_holds_where_a_large_event_lies_not_its_body(around: Surroundings) -> None:
    around.log.at_once = True
    around.live.emit(deltas(LARGE))
    await around.live.settle()
    (entry,) = around.log.kept
    assert entry.body == b""
    assert entry.blob is not None
    assert orjson.loads(around.blobs.bodies[entry.blob.key])["events"][0]["text"] == LARGE
    (row,) = around.payloads.rows.values()
    assert (row.payload_id, row.kind, row.expires_at) == ("run-1.1", "spill", NOW + 1_000)


async def test_events_behind_one_that_is_being_spilled_wait_for_it(around: Surroundings) -> None:
    around.blobs.gate = asyncio.Event()
    around.log.at_once = True
    follow(around)
    around.live.emit(deltas(LARGE))
    await idle()
    around.live.emit(deltas("after"))
    await idle()
    assert around.transport.frames["c1"] == []
    around.blobs.gate.set()
    await around.live.settle()
    assert text_of(around.events("c1")) == f"{LARGE}after"


@pytest.mark.parametrize("text", ["a" * 20_000, LARGE, "😀" * 9_000, "\x01" * 9_000, '"' * 30_000])
async def test_without_a_blob_store_large_text_arrives_in_several_events(
    around: Surroundings, text: str
) -> None:
    around.blobs.failing = True
    around.log.at_once = True
    follow(around)
    around.live.emit(deltas("before", text, "after"))
    await around.live.settle()
    assert text_of(around.events("c1")) == f"before{text}after"
    assert numbers(around) == list(range(1, around.live.last_seq + 1))
    assert max(map(len, around.transport.frames["c1"])) <= SPILL_ABOVE_BYTES + 500


async def test_a_large_event_without_growing_text_is_sent_whole_if_it_must(
    around: Surroundings,
) -> None:
    around.blobs.failing = True
    around.log.at_once = True
    follow(around)
    large = orjson.dumps({"type": "memory", "memory_id": "m", "value": "\x01" * 4_096})
    around.live.emit([large])
    await around.live.settle()
    assert numbers(around) == [1]
    assert len(around.transport.frames["c1"][0]) < MESSAGE_BYTES


async def test_the_name_of_another_function_comes_with_its_first_piece_only(
    around: Surroundings,
) -> None:
    around.blobs.failing = True
    around.log.at_once = True
    follow(around)
    around.live.emit([ToolCallDelta(call=1, name="search", arguments="x" * 20_000).encode()])
    await around.live.settle()
    pieces = [event for _, event in around.events("c1")]
    assert [piece.get("name") for piece in pieces] == ["search", *[None] * (len(pieces) - 1)]
    assert "".join(piece["arguments"] for piece in pieces) == "x" * 20_000


async def test_a_volatile_run_still_spills(around: Surroundings) -> None:
    around.log.refusing = True
    around.log.at_once = True
    follow(around)
    around.live.emit(deltas("a"))
    await around.live.settle()
    around.live.emit(deltas(LARGE, "b"))
    await around.live.settle()
    assert text_of(around.events("c1")) == f"a{LARGE}b"


# Settling and ending


async def test_settle_returns_at_once_where_nothing_was_emitted(around: Surroundings) -> None:
    await asyncio.wait_for(around.live.settle(), 0.01)


@pytest.mark.parametrize("text", ["small", LARGE])
async def test_settle_waits_for_the_acknowledgement(around: Surroundings, text: str) -> None:
    around.live.emit(deltas(text))
    settling = asyncio.create_task(around.live.settle())
    await idle()
    assert not settling.done()
    around.log.answer()
    await asyncio.wait_for(settling, 0.01)


async def test_settle_waits_for_what_is_emitted_meanwhile(around: Surroundings) -> None:
    around.live.emit(deltas("a"))
    around.log.answer()
    around.live.emit(deltas("b"))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(around.live.settle(), 1)


async def test_the_last_events_follow_the_others(around: Surroundings) -> None:
    around.log.at_once = True
    follow(around)
    around.live.emit(deltas("a"))
    await around.live.settle()
    entry = around.live.terminal_entry(ENDED)
    around.live.end(ENDED, saved=True)
    assert (entry.first, entry.last, entry.body) == (2, 2, ENDED[0])
    assert [event["type"] for _, event in around.events("c1")] == ["content.delta", "done"]
    assert around.live.feed.complete
    assert around.transport.answers("c1")[-1].get("volatile") is None


async def test_an_end_that_could_not_be_stored_is_marked_volatile(around: Surroundings) -> None:
    around.log.at_once = True
    follow(around)
    around.live.emit(deltas("a"))
    await around.live.settle()
    around.live.end(ENDED, saved=False)
    assert [frame.get("volatile") for frame in around.transport.answers("c1")] == [None, True]
    assert numbers(around) == [1, 2]


# Stopping


async def test_cancel_stops_the_generation_once(around: Surroundings) -> None:
    stops: list[str] = []
    around.live.stopped_by(lambda: stops.append("stopped"))
    around.live.cancel()
    around.live.cancel()
    around.live.interrupt()
    assert around.live.cancelled
    assert stops == ["stopped"]


async def test_interrupting_is_not_cancelling(around: Surroundings) -> None:
    around.live.stopped_by(lambda: None)
    around.live.interrupt()
    assert not around.live.cancelled


async def test_a_cancel_before_the_generation_is_remembered(around: Surroundings) -> None:
    around.live.cancel()
    assert around.live.cancelled


@pytest.mark.parametrize(("cancel_at", "cancelled"), [(None, False), (NOW, True)])
async def test_a_run_may_be_cancelled_before_it_is_live(
    around: Surroundings, cancel_at: float | None, cancelled: bool
) -> None:
    live = around.make(replace(a_run(), cancel_at=cancel_at))
    assert live.cancelled is cancelled

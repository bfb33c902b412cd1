"""Recorded runs: written, read again, and played through the very same code."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.cli.failure import CommandFailedError
from gateway.cli.recording import RecordedModel, Recorder, read_recording
from streaming.models.chat_model import ChatMessage, Function, ModelRequest
from streaming.models.errors import ModelError, ModelTimeoutError
from streaming.parts import (
    ArgumentsDelta,
    CallStarted,
    FieldDelta,
    FieldDone,
    Finished,
    RefusalDelta,
    TextDelta,
)
from tests.gateway.turns.exchange import Exchange, Step, exchange, reply

REQUEST = ModelRequest(
    messages=(ChatMessage(role="user", content="Hi"),),
    function=Function(name="reply", description="", parameters={}),
)
STARTED: dict[str, Any] = {
    "type": "started",
    "id": "c",
    "session_id": "s",
    "message_id": "m",
    "reply_id": "r",
}
DONE: dict[str, Any] = {"type": "done", "reason": "stop", "message_id": "r", "saved": True}


def record(path: Path, events: list[dict[str, Any]], clock: Callable[[], float]) -> Path:
    recorder = Recorder(path, clock=clock)
    for event in events:
        recorder.add(event)
    return path


async def play(path: Path, **options: Any) -> list[Any]:
    model = RecordedModel(read_recording(path), **options)
    return [part async for parts in model.stream(REQUEST) for part in parts]


# Writing and reading


def test_what_was_dropped_is_not_in_the_next_recording(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "r", clock=lambda: 0.0)
    recorder.add({"type": "content.delta", "text": "half"})
    recorder.drop()
    recorder.add(STARTED)
    recorder.add(DONE)
    assert [each.event.type for each in read_recording(tmp_path / "r")] == ["started", "done"]


def test_an_older_recording_stays_until_a_whole_one_replaces_it(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text("older")
    recorder = Recorder(path, clock=lambda: 0.0)
    recorder.add(STARTED)
    assert path.read_text() == "older"


def test_times_are_between_events_and_begin_with_the_first(tmp_path: Path) -> None:
    ticks = iter([100.0, 100.25, 101.0])
    path = record(
        tmp_path / "r", [STARTED, {"type": "content.delta", "text": "春"}, DONE], ticks.__next__
    )
    lines = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    assert [line["after_ms"] for line in lines] == [0, 250, 750]
    assert [line["event"] for line in lines] == [
        STARTED,
        {"type": "content.delta", "text": "春"},
        DONE,
    ]


def test_the_time_between_two_runs_is_not_recorded(tmp_path: Path) -> None:
    ticks = iter([0.0, 1.0, 60.0, 61.0])
    recorder = Recorder(tmp_path / "r", clock=ticks.__next__)
    for event in (STARTED, DONE, STARTED, DONE):
        recorder.add(event)
    assert [each.after_s for each in read_recording(tmp_path / "r")] == [0.0, 1.0]


def test_nothing_is_written_of_a_run_without_an_end(tmp_path: Path) -> None:
    record(tmp_path / "r", [STARTED], lambda: 0.0)
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([b"{"], "line 1: not a recorded event"),
        ([b'{"after_ms":0,"event":{"type":"nonsense"}}'], "line 1: not a recorded event"),
        ([b'{"after_ms":"x","event":{"type":"content.done"}}'], "line 1"),
        ([b'{"event":{"type":"content.done"}}'], "line 1"),
        ([b"[]"], "line 1"),
        ([b"null"], "line 1"),
        ([b'{"after_ms":0,"event":{"type":"content.done"}}', b"\xff"], "line 2"),
        ([b'{"after_ms":0,"event":{"type":"content.done"}}'], "does not end with `done`"),
        ([], "does not end with `done`"),
    ],
)
def test_a_file_that_is_no_recording(tmp_path: Path, lines: list[bytes], says: str) -> None:
    (tmp_path / "r").write_bytes(b"\n".join(lines))
    with pytest.raises(CommandFailedError) as caught:
        read_recording(tmp_path / "r")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["none", "."])
def test_a_file_that_cannot_be_read(tmp_path: Path, path: str) -> None:
    with pytest.raises(CommandFailedError):
        read_recording(tmp_path / path)


def test_time_never_goes_back(tmp_path: Path) -> None:
    line = {"after_ms": -5, "event": DONE}
    (tmp_path / "r").write_bytes(orjson.dumps(line))
    assert read_recording(tmp_path / "r")[0].after_s == 0.0


# Playing


REPLIES: dict[str, list[Step]] = {
    "a whole reply": reply("こんにちは 🌸", memory="Lives in 大阪."),
    "several deltas": [[FieldDelta("content", "a")], [FieldDelta("content", "b")], *reply("c")],
    "plain text": [[TextDelta("Hel")], [TextDelta("lo")], [Finished("stop")]],
    "a refusal": [[RefusalDelta("No.")], [Finished("stop")]],
    "cut": [[FieldDelta("content", "Once")], [Finished("length")]],
    "filtered": [[FieldDelta("content", "Once")], [Finished("content_filter")]],
    "a call of another function": [
        [CallStarted(0, "i", "search"), ArgumentsDelta(0, '{"q":')],
        [ArgumentsDelta(0, "1}")],
        [FieldDelta("content", "Yes", 1), FieldDone("content", 1)],
        [Finished("tool_calls")],
    ],
    "spilled": [[FieldDelta("content", "春" * 4_000)], *reply(".")],
    "a deadline": [[FieldDelta("content", "Half")], ModelTimeoutError("between_chunks")],
}

OWN = {"id", "session_id", "message_id", "reply_id", "memory_id", "model", "estimated"}
"""What differs from run to run, and who answered."""


def comparable(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in event.items() if name not in OWN}
        for event in events
        if event["type"] != "usage" or "estimated" not in event
    ]


async def said(chat: Exchange, script: list[Step]) -> list[dict[str, Any]]:
    chat.model.scripts = [script]
    accepted = await chat.talk("Hi", id="s1")
    return chat.events(accepted["run_id"])


@pytest.mark.parametrize("script", REPLIES.values(), ids=REPLIES)
async def test_a_recorded_run_is_played_as_the_same_events(
    tmp_path: Path, script: list[Step]
) -> None:
    async with exchange(tmp_path / "a") as chat:
        original = await said(chat, script)
    path = record(tmp_path / "r", original, lambda: 0.0)
    model = RecordedModel(read_recording(path), speed=0)
    async with exchange(tmp_path / "b") as chat:
        chat.generator._model = model
        accepted = await chat.talk("Hi", id="s1")
        replayed = chat.events(accepted["run_id"])
    assert comparable(replayed) == comparable(original)


@pytest.mark.parametrize("reason", ["cancelled", "interrupted", "error"])
async def test_a_run_that_broke_off_breaks_off_again(tmp_path: Path, reason: str) -> None:
    events = [STARTED, {"type": "content.delta", "text": "Half"}, {**DONE, "reason": reason}]
    with pytest.raises(ModelError):
        await play(record(tmp_path / "r", events, lambda: 0.0))


@pytest.mark.parametrize(
    ("speed", "slept"), [(1.0, [0.5, 1.0]), (2.0, [0.25, 0.5]), (0.5, [1.0, 2.0]), (0, [])]
)
async def test_the_pace_of_a_recording(tmp_path: Path, speed: float, slept: list[float]) -> None:
    ticks = iter([0.0, 0.5, 1.5])
    path = record(
        tmp_path / "r", [STARTED, {"type": "content.delta", "text": "a"}, DONE], ticks.__next__
    )
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    assert await play(path, speed=speed, sleep=sleep) == [
        FieldDelta("content", "a"),
        Finished("stop"),
    ]
    assert waits == slept


async def test_a_recording_can_be_played_many_times_at_once(tmp_path: Path) -> None:
    path = record(
        tmp_path / "r", [STARTED, {"type": "content.delta", "text": "a"}, DONE], lambda: 0.0
    )
    model = RecordedModel(read_recording(path), speed=0)

    async def once() -> list[Any]:
        return [part async for parts in model.stream(REQUEST) for part in parts]

    played = await asyncio.gather(*(once() for _ in range(3)))
    assert played == [[FieldDelta("content", "a"), Finished("stop")]] * 3
    await model.aclose()

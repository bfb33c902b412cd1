"""Events that wait for each other, where an entry of the log is a write of its own."""

import asyncio

import pytest

from gateway.frames.pace import Pace, PaceRules
from gateway.runs.appender import VOLATILE_AFTER_S
from gateway.wire.events import ContentDone, Emotion, Started, content_delta
from tests.gateway.runs.fakes import ENDED, Surroundings, text_of
from tests.gateway.runs.virtual_time import idle

RULES = PaceRules(every_s=0.1, unread_s=1.0, at_bytes=4096)
STARTED = Started(id="s", session_id="s", message_id="m", reply_id="r").encode()
LARGE = "春" * 4_000  # 12,000 bytes


@pytest.fixture
def around() -> Surroundings:
    around = Surroundings(at_once=True)
    around.live._pace = Pace(RULES)
    return around


def lasts(around: Surroundings) -> list[int]:
    return [entry.last for entry in around.log.kept]


async def stream(around: Surroundings, words: int, every_s: float) -> str:
    text = ""
    for number in range(words):
        word = f"{number} "
        text += word
        around.live.emit([content_delta(word)])
        await asyncio.sleep(every_s)
    return text


async def test_the_first_text_leaves_at_once_and_alone(around: Surroundings) -> None:
    around.live.feed.follow("c1", after=0)
    around.live.emit([STARTED])
    around.live.emit([Emotion(value="happy").encode()])
    around.live.emit([content_delta("Hi")])
    await idle()
    assert [kind["type"] for _, kind in around.events("c1")] == [
        "started",
        "emotion",
        "content.delta",
    ]


async def test_the_rest_leaves_ten_times_a_second_as_one_event_each(around: Surroundings) -> None:
    around.live.feed.follow("c1", after=0)
    text = await stream(around, words=101, every_s=0.01)
    await around.live.settle()
    assert text_of(around.events("c1")) == text
    assert len(around.log.kept) == pytest.approx(12, abs=1)
    assert [entry.first for entry in around.log.kept] == list(range(1, len(around.log.kept) + 1))
    assert len(around.transport.frames["c1"]) == len(around.log.kept)


async def test_without_readers_it_leaves_once_a_second(around: Surroundings) -> None:
    text = await stream(around, words=301, every_s=0.01)
    await around.live.settle()
    assert len(around.log.kept) == pytest.approx(5, abs=1)
    around.live.feed.follow("late", after=0)
    assert text_of(around.events("late")) == text


async def test_much_text_does_not_wait(around: Surroundings) -> None:
    around.live.emit([content_delta("a")])
    await idle()
    around.live.emit([content_delta("b" * 5_000)])
    await idle()
    assert lasts(around) == [1, 2]


async def test_one_entry_is_on_its_way_at_a_time(around: Surroundings) -> None:
    around.log.at_once = False
    for word in "abc":
        around.live.emit([content_delta(word)])
    await asyncio.sleep(VOLATILE_AFTER_S * 0.9)
    assert len(around.log.pending) == 1
    around.live.emit([content_delta("d")])
    around.log.answer()
    assert [entry.body for entry, _ in around.log.pending] == [content_delta("bcd")]


async def test_settling_waits_for_no_time_but_for_the_log(around: Surroundings) -> None:
    loop = asyncio.get_running_loop()
    around.live.emit([content_delta("a")])
    await idle()
    around.live.emit([content_delta("b"), ContentDone().encode()])
    began = loop.time()
    await around.live.settle()
    assert loop.time() == began
    assert lasts(around) == [1, 3]
    around.live.end(ENDED, saved=True)
    assert around.live.feed.complete


async def test_a_large_event_between_others_keeps_its_place(around: Surroundings) -> None:
    around.live.feed.follow("c1", after=0)
    around.blobs.gate = asyncio.Event()
    around.live.emit([content_delta("a")])
    await idle()
    around.live.emit([content_delta("b"), content_delta(LARGE), content_delta("c")])
    around.live.emit([content_delta("d")])
    await idle()
    around.blobs.gate.set()
    await around.live.settle()
    assert text_of(around.events("c1")) == "ab" + LARGE + "cd"


async def test_a_log_that_refuses_is_asked_again_then_given_up(around: Surroundings) -> None:
    around.live.feed.follow("c1", after=0)
    around.live.emit([content_delta("a")])
    await idle()
    around.log.refusing = True
    around.live.emit([content_delta("b" * 5_000)])
    await asyncio.sleep(0.5)
    around.live.emit([content_delta("c")])
    await asyncio.sleep(0.5)
    assert text_of(around.events("c1")) == "a"
    around.log.refusing = False
    await asyncio.sleep(0.5)
    assert text_of(around.events("c1")) == "a" + "b" * 5_000 + "c"
    around.log.refusing = True
    around.live.emit([content_delta("d")])
    await asyncio.sleep(0.1)
    around.live.emit([content_delta("e")])
    await asyncio.sleep(VOLATILE_AFTER_S + 1)
    assert around.live.volatile
    around.live.emit([content_delta("f")])
    await around.live.settle()
    assert text_of(around.events("c1")).endswith("bcdef")


async def test_what_waits_behind_a_log_that_says_nothing_is_shown(around: Surroundings) -> None:
    around.live.feed.follow("c1", after=0)
    around.log.at_once = False
    around.live.emit([content_delta("a")])
    await asyncio.sleep(0.5)
    around.live.emit([content_delta("b")])
    await asyncio.sleep(VOLATILE_AFTER_S - 0.4)
    assert text_of(around.events("c1")) == "ab"
    around.live.emit([content_delta("c")])
    await around.live.settle()
    assert text_of(around.events("c1")) == "abc"


async def test_what_waits_is_dropped_when_another_has_ended_the_run(around: Surroundings) -> None:
    around.live.emit([content_delta("a")])
    await idle()
    around.live.emit([content_delta("b")])
    around.log.take_slot()
    await around.live.settle()
    assert around.live.lost
    assert around.live.last_seq == 1

"""A log that refuses, says nothing or belongs to somebody else: what the readers of its run get."""

import asyncio

import pytest

from gateway.runs.appender import RETRY_LOG_EVERY_S, VOLATILE_AFTER_S
from gateway.wire.events import ContentDone
from tests.gateway.runs.fakes import (
    ENDED,
    Surroundings,
    deltas,
    follow,
    numbers,
    text_of,
)
from tests.gateway.runs.virtual_time import VirtualLoop, idle

DONE = ContentDone().encode()
LARGE = "春" * 4_000  # 12,000 bytes


@pytest.fixture
def around() -> Surroundings:
    return Surroundings()


# A log that refuses


async def test_a_refusal_that_passes_loses_nothing_and_doubles_nothing(
    around: Surroundings,
) -> None:
    follow(around)
    around.log.refusing = True
    around.live.emit(deltas("a"))
    around.live.emit(deltas("b"))
    around.log.answer()
    around.live.emit(deltas("c"))
    await asyncio.sleep(RETRY_LOG_EVERY_S * 3)
    assert around.transport.frames["c1"] == []
    around.log.refusing = False
    around.log.at_once = True
    around.log.answer()
    await around.live.settle()
    assert text_of(around.events("c1")) == "abc"
    assert numbers(around) == [1, 2, 3]
    assert [entry.first for entry in around.log.kept] == [1, 2, 3]
    assert not around.live.volatile


async def test_after_a_refusal_the_log_is_asked_once_in_a_while(around: Surroundings) -> None:
    around.log.refusing = True
    around.log.at_once = True
    for text in "abcde":
        around.live.emit(deltas(text))
    await asyncio.sleep(1.05)
    assert around.log.attempts == 5 + 10


async def test_what_waited_is_logged_together_once_the_log_is_back(around: Surroundings) -> None:
    around.log.refusing = True
    around.live.emit(deltas("a"))
    around.log.answer()
    for text in "bcd":
        around.live.emit(deltas(text))
    await asyncio.sleep(RETRY_LOG_EVERY_S)
    around.log.refusing = False
    around.log.answer()
    assert len(around.log.pending) == 3


async def test_a_log_that_keeps_an_entry_now_and_then_is_not_given_up(
    around: Surroundings,
) -> None:
    for _ in range(4):
        around.log.refusing = True
        around.live.emit(deltas("a", "b"))
        around.log.answer()
        await asyncio.sleep(VOLATILE_AFTER_S * 0.7)
        around.log.refusing = False
        around.log.answer()
    assert not around.live.volatile
    assert around.live.feed.kept == 8


async def test_an_entry_that_was_kept_though_refused_is_not_doubled(around: Surroundings) -> None:
    follow(around)
    around.log.lost = True
    around.live.emit(deltas("a"))
    around.live.emit(deltas("b"))
    around.log.answer()
    around.log.lost = False
    around.log.at_once = True
    await around.live.settle()
    assert numbers(around) == [1, 2]
    assert [entry.first for entry in around.log.kept] == [1, 2]


async def test_a_log_that_refuses_for_two_seconds_makes_the_run_volatile(
    around: Surroundings,
) -> None:
    follow(around)
    around.log.at_once = True
    around.live.emit(deltas("kept"))
    await around.live.settle()
    around.log.refusing = True
    began = asyncio.get_running_loop().time()
    around.live.emit(deltas(" shown"))
    await around.live.settle()
    waited = asyncio.get_running_loop().time() - began
    assert VOLATILE_AFTER_S <= waited <= VOLATILE_AFTER_S + 2 * RETRY_LOG_EVERY_S
    around.live.emit(deltas(" too"))
    frames = around.transport.answers("c1")
    assert [frame.get("volatile") for frame in frames] == [None, True, True]
    assert text_of(around.events("c1")) == "kept shown too"
    assert numbers(around) == [1, 2, 3]


async def test_a_log_that_takes_as_long_to_refuse_once_is_not_asked_again(
    around: Surroundings,
) -> None:
    follow(around)
    around.live.emit(deltas("shown"))
    await asyncio.sleep(VOLATILE_AFTER_S)
    around.log.refusing = True
    around.log.answer()
    assert around.live.volatile
    assert around.log.attempts == 1
    assert text_of(around.events("c1")) == "shown"


async def test_a_log_that_says_nothing_for_two_seconds_makes_the_run_volatile(
    around: Surroundings,
) -> None:
    follow(around)
    around.live.emit(deltas("kept"))
    await asyncio.sleep(1)
    around.log.answer()
    await asyncio.sleep(VOLATILE_AFTER_S * 0.6)
    around.live.emit(deltas(" shown"))
    for _ in range(9):
        await asyncio.sleep(VOLATILE_AFTER_S / 10)
        around.live.emit(deltas("."))
    assert text_of(around.events("c1")) == "kept"
    await asyncio.sleep(VOLATILE_AFTER_S / 10)
    assert text_of(around.events("c1")) == "kept shown" + 9 * "."
    assert [frame.get("volatile") for frame in around.transport.answers("c1")] == [None, True]
    around.log.answer()  # at last
    around.live.emit(deltas(" too"))
    await around.live.settle()
    assert text_of(around.events("c1")) == "kept shown" + 9 * "." + " too"
    assert around.live.terminal_entry(ENDED).first == 2


async def test_a_log_that_refuses_and_then_says_nothing_has_two_seconds_for_both(
    around: Surroundings,
) -> None:
    follow(around)
    around.log.refusing = True
    around.live.emit(deltas("shown"))
    await asyncio.sleep(VOLATILE_AFTER_S / 2)
    around.log.answer()
    await asyncio.sleep(VOLATILE_AFTER_S * 0.45)
    assert around.log.attempts == 2
    assert not around.live.volatile
    await asyncio.sleep(VOLATILE_AFTER_S * 0.1)
    assert text_of(around.events("c1")) == "shown"


async def test_a_log_that_answers_each_entry_in_time_is_not_given_up(around: Surroundings) -> None:
    for text in "abcd":
        around.live.emit(deltas(text))
    for _ in range(4):
        await asyncio.sleep(VOLATILE_AFTER_S * 0.9)
        (entry, acknowledge), *around.log.pending = around.log.pending
        around.log.kept.append(entry)
        acknowledge(None)
    assert (around.live.feed.kept, around.live.volatile) == (4, False)


async def test_an_answer_that_waits_in_a_process_that_stood_still_is_heard(
    around: Surroundings,
) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    around.live.emit(deltas("a"))
    loop.stand_still(5 * VOLATILE_AFTER_S)
    await idle()
    around.log.answer()
    await asyncio.sleep(VOLATILE_AFTER_S)
    assert (around.live.feed.kept, around.live.volatile) == (1, False)


async def test_a_volatile_run_is_lost_by_what_a_log_says_too_late(around: Surroundings) -> None:
    around.live.emit(deltas("a"))
    await asyncio.sleep(VOLATILE_AFTER_S)
    assert around.live.volatile
    around.log.take_slot()
    around.log.answer()
    assert around.live.lost


async def test_a_late_reader_of_a_volatile_run_gets_all_of_it(around: Surroundings) -> None:
    around.log.at_once = True
    around.live.emit(deltas("kept"))
    await around.live.settle()
    around.log.refusing = True
    around.live.emit(deltas(" shown"))
    await around.live.settle()
    follow(around, "late")
    assert numbers(around, "late") == [1, 2]


async def test_a_frame_of_logged_events_alone_is_not_volatile(around: Surroundings) -> None:
    around.log.at_once = True
    around.live.emit(deltas("x" * 8_000))
    await around.live.settle()
    around.log.refusing = True
    around.live.emit(deltas("y" * 8_000))
    await around.live.settle()
    follow(around)
    assert [frame.get("volatile") for frame in around.transport.answers("c1")] == [None, True]


async def test_the_terminal_entry_of_a_volatile_run_takes_the_next_slot_of_its_log(
    around: Surroundings,
) -> None:
    around.log.at_once = True
    around.live.emit(deltas("kept"))
    await around.live.settle()
    around.log.refusing = True
    around.live.emit(deltas("x", "y"))
    await around.live.settle()
    entry = around.live.terminal_entry(ENDED)
    assert (entry.first, entry.last) == (2, 2)


# A log that somebody else continues


async def test_a_taken_slot_loses_the_run_and_stops_its_generation(around: Surroundings) -> None:
    stops: list[str] = []
    around.live.stopped_by(lambda: stops.append("stopped"))
    follow(around)
    around.live.emit(deltas("a"))
    around.log.answer()
    around.log.take_slot()
    around.live.emit(deltas("b"))
    around.live.emit(deltas("c"))
    around.log.answer()
    assert around.live.lost
    assert stops == ["stopped"]
    await around.live.settle()
    around.live.emit(deltas("d"))
    assert around.log.pending == []
    assert numbers(around) == [1]
    assert around.live.last_seq == 1


async def test_what_a_log_keeps_behind_a_taken_slot_is_not_posted(around: Surroundings) -> None:
    """No true log does that; a run that is lost must not care."""
    follow(around)
    around.live.emit(deltas("a"))
    around.live.emit(deltas("b"))
    around.log.take_slot()
    pending, around.log.pending = around.log.pending, []
    pending[0][1](around.log._keep(pending[0][0]))
    pending[1][1](None)
    assert around.live.lost
    assert around.transport.frames["c1"] == []


async def test_a_taken_slot_found_while_trying_again_loses_the_run(around: Surroundings) -> None:
    follow(around)
    around.log.refusing = True
    around.live.emit(deltas("a"))
    around.live.emit(deltas("b"))
    around.log.answer()
    around.log.refusing = False
    around.log.take_slot()
    around.log.at_once = True
    await around.live.settle()
    assert around.live.lost
    assert around.transport.frames["c1"] == []


async def test_an_event_that_is_being_spilled_when_the_run_is_lost_is_dropped(
    around: Surroundings,
) -> None:
    around.blobs.gate = asyncio.Event()
    around.log.take_slot()
    around.live.emit(deltas("a", LARGE))
    await idle()
    around.log.answer()
    assert around.live.lost
    around.blobs.gate.set()
    await idle()
    assert around.log.pending == []
    assert around.live.last_seq == 0

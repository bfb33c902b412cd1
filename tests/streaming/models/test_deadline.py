import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from streaming.models.chat_model import Deadlines
from streaming.models.deadline import DeadlineWatch
from streaming.models.errors import ModelTimeoutError
from tests.streaming.models.virtual_time import on_virtual_time

FIRST, BETWEEN, TOTAL = 30.0, 20.0, 300.0


@contextmanager
def watching(*, answering: bool = False) -> Iterator[DeadlineWatch]:
    watch = DeadlineWatch(Deadlines(first_token=FIRST, between_chunks=BETWEEN, total=TOTAL))
    if answering:
        watch.answer_came()
    try:
        yield watch
    finally:
        watch.stop()


def now() -> float:
    return asyncio.get_running_loop().time()


async def silence() -> None:
    await asyncio.Event().wait()


async def wait_in_vain(watch: DeadlineWatch) -> None:
    with watch:
        await silence()


async def chunks(watch: DeadlineWatch, *, every: float, events: bool) -> None:
    """Wait for the provider again and again."""
    while True:
        with watch:
            await asyncio.sleep(every)
        if events:
            watch.event_came()


@on_virtual_time
async def test_the_first_token_is_waited_for_so_long() -> None:
    with watching() as watch, pytest.raises(ModelTimeoutError) as caught, watch:
        await silence()

    assert (caught.value.phase, now()) == ("first_token", FIRST)


@on_virtual_time
async def test_events_without_a_part_do_not_move_the_first_token() -> None:
    with watching() as watch, pytest.raises(ModelTimeoutError) as caught:
        await chunks(watch, every=1.0, events=True)

    assert (caught.value.phase, now()) == ("first_token", FIRST)


@on_virtual_time
async def test_silence_after_the_first_part_has_a_limit_of_its_own() -> None:
    with watching() as watch:
        with watch:
            await asyncio.sleep(7.0)
        watch.answer_came()
        with pytest.raises(ModelTimeoutError) as caught:
            await wait_in_vain(watch)

    assert (caught.value.phase, now()) == ("between_chunks", 7.0 + BETWEEN)


@on_virtual_time
async def test_every_event_starts_the_gap_afresh() -> None:
    with watching(answering=True) as watch:
        for _ in range(5):
            with watch:
                await asyncio.sleep(BETWEEN - 1.0)
            watch.event_came()
        with pytest.raises(ModelTimeoutError) as caught:
            await wait_in_vain(watch)

    assert (caught.value.phase, now()) == ("between_chunks", 5 * (BETWEEN - 1.0) + BETWEEN)


@on_virtual_time
async def test_bytes_that_make_no_event_do_not_extend_the_gap() -> None:
    with watching(answering=True) as watch, pytest.raises(ModelTimeoutError) as caught:
        await chunks(watch, every=1.0, events=False)

    assert (caught.value.phase, now()) == ("between_chunks", BETWEEN)


@on_virtual_time
async def test_the_consumer_s_time_is_no_silence() -> None:
    with watching(answering=True) as watch:
        await asyncio.sleep(3 * BETWEEN)
        with pytest.raises(ModelTimeoutError) as caught:
            await wait_in_vain(watch)

    assert (caught.value.phase, now()) == ("between_chunks", 4 * BETWEEN)


@on_virtual_time
async def test_the_total_counts_everything() -> None:
    with watching(answering=True) as watch, pytest.raises(ModelTimeoutError) as caught:
        await chunks(watch, every=7.0, events=True)

    assert (caught.value.phase, now()) == ("total", TOTAL)


@on_virtual_time
async def test_the_consumer_is_not_interrupted_but_told_at_the_next_wait() -> None:
    with watching(answering=True) as watch:
        await asyncio.sleep(TOTAL + 1.0)
        with pytest.raises(ModelTimeoutError) as caught, watch:
            raise AssertionError("the wait must not begin")

    assert caught.value.phase == "total"


@on_virtual_time
async def test_a_timeout_leaves_the_task_uncancelled() -> None:
    with watching() as watch, pytest.raises(ModelTimeoutError), watch:
        await silence()

    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)


@on_virtual_time
async def test_a_cancellation_from_elsewhere_stays_one() -> None:
    async def wait() -> None:
        with watching() as watch, watch:
            await silence()

    task = asyncio.create_task(wait())
    await asyncio.sleep(1.0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("cancel_first", [True, False])
@on_virtual_time
async def test_a_cancellation_at_the_moment_of_the_timeout_wins(cancel_first: bool) -> None:
    loop = asyncio.get_running_loop()

    async def wait() -> None:
        if cancel_first:
            loop.call_at(FIRST, task.cancel)
        with watching() as watch:
            if not cancel_first:
                loop.call_at(FIRST, task.cancel)
            with watch:
                await silence()

    task = asyncio.create_task(wait())

    with pytest.raises(asyncio.CancelledError):
        await task


@on_virtual_time
async def test_other_errors_pass_through() -> None:
    with watching() as watch, pytest.raises(KeyError), watch:
        raise KeyError


@on_virtual_time
async def test_a_stopped_watch_lets_everything_pass() -> None:
    with watching() as watch:
        watch.stop()
        with watch:
            await asyncio.sleep(2 * TOTAL)


@on_virtual_time
async def test_a_chunk_costs_no_timer() -> None:
    loop = asyncio.get_running_loop()
    armed = 0
    call_at = loop.call_at

    def counting(*args: object, **kwargs: object) -> asyncio.TimerHandle:
        nonlocal armed
        armed += 1
        return call_at(*args, **kwargs)

    loop.call_at = counting  # type: ignore[method-assign]  # counts what the watch arms
    with watching(answering=True) as watch:
        for _ in range(1000):
            with watch:
                pass
            watch.event_came()

    assert armed == 2

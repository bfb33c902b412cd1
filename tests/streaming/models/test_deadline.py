import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from streaming.models.chat_model import Deadlines
from streaming.models.deadline import DeadlineWatch
from streaming.models.errors import ModelTimeoutError

SOON = 0.02
NEVER = 60.0


@contextmanager
def watching(**seconds: float) -> Iterator[DeadlineWatch]:
    limits = {"first_token": NEVER, "between_chunks": NEVER, "total": NEVER} | seconds
    watch = DeadlineWatch(Deadlines(**limits))
    try:
        yield watch
    finally:
        watch.stop()


async def silence() -> None:
    async with asyncio.timeout(5):
        await asyncio.Event().wait()


async def pause(seconds: float) -> None:
    """Let the loop's clock move on by `seconds`."""
    loop = asyncio.get_running_loop()
    passed = loop.create_future()
    loop.call_later(seconds, passed.set_result, None)
    await passed


async def drip(watch: DeadlineWatch, *, events: bool) -> None:
    """Wait for the provider again and again, each time shortly."""
    async with asyncio.timeout(5):
        while True:
            with watch:
                await pause(SOON / 10)
            if events:
                watch.event_came()


async def test_the_first_token_is_waited_for_so_long() -> None:
    with watching(first_token=SOON) as watch, pytest.raises(ModelTimeoutError) as caught, watch:
        await silence()

    assert caught.value.phase == "first_token"


async def test_events_without_a_part_do_not_move_the_first_token() -> None:
    with (
        watching(first_token=SOON, between_chunks=SOON / 4) as watch,
        pytest.raises(ModelTimeoutError) as caught,
    ):
        await drip(watch, events=True)

    assert caught.value.phase == "first_token"


async def test_silence_after_the_first_part_has_a_limit_of_its_own() -> None:
    with watching(between_chunks=SOON) as watch:
        watch.answer_came()
        with pytest.raises(ModelTimeoutError) as caught, watch:
            await silence()

    assert caught.value.phase == "between_chunks"


async def test_every_event_starts_the_gap_afresh() -> None:
    loop = asyncio.get_running_loop()
    with watching(between_chunks=SOON) as watch:
        watch.answer_came()
        began = loop.time()
        while loop.time() - began < 4 * SOON:
            with watch:
                await pause(SOON / 10)
            watch.event_came()
        with pytest.raises(ModelTimeoutError), watch:
            await silence()


async def test_bytes_that_make_no_event_do_not_extend_the_gap() -> None:
    with watching(between_chunks=SOON) as watch:
        watch.answer_came()
        with pytest.raises(ModelTimeoutError) as caught:
            await drip(watch, events=False)

    assert caught.value.phase == "between_chunks"


async def test_the_consumer_s_time_is_no_silence() -> None:
    with watching(between_chunks=SOON) as watch:
        watch.answer_came()
        await pause(3 * SOON)
        with watch:
            await pause(0)


async def test_the_total_counts_everything() -> None:
    with watching(total=SOON) as watch:
        watch.answer_came()
        with pytest.raises(ModelTimeoutError) as caught:
            await drip(watch, events=True)

    assert caught.value.phase == "total"


async def test_the_consumer_is_not_interrupted_but_told_at_the_next_wait() -> None:
    with watching(total=SOON) as watch:
        await pause(2 * SOON)
        with pytest.raises(ModelTimeoutError), watch:
            raise AssertionError("the wait must not begin")


async def test_a_timeout_leaves_the_task_uncancelled() -> None:
    with watching(first_token=SOON) as watch, pytest.raises(ModelTimeoutError), watch:
        await silence()

    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await pause(0)


async def test_a_cancellation_from_elsewhere_stays_one() -> None:
    entered = asyncio.Event()

    async def wait() -> None:
        with watching() as watch, watch:
            entered.set()
            await silence()

    task = asyncio.create_task(wait())
    await entered.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_at_the_moment_of_the_timeout_wins() -> None:
    loop = asyncio.get_running_loop()

    async def wait() -> None:
        with watching(first_token=SOON) as watch, watch:
            await silence()

    task = asyncio.create_task(wait())
    await pause(0)
    loop.call_later(SOON, task.cancel)

    with pytest.raises((asyncio.CancelledError, ModelTimeoutError)) as caught:
        await task
    assert task.cancelled() == (caught.type is asyncio.CancelledError)


async def test_other_errors_pass_through() -> None:
    with watching() as watch, pytest.raises(KeyError), watch:
        raise KeyError


async def test_a_stopped_watch_lets_everything_pass() -> None:
    with watching(first_token=SOON) as watch:
        watch.stop()
        with watch:
            await pause(2 * SOON)

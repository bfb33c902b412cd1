"""How much an answer waits, by how many stream."""

import asyncio
from contextlib import ExitStack

import pytest

from gateway.turns.coalescing import LONGEST_S, TICK_S, Coalescing


def streaming(coalescing: Coalescing, answers: int) -> ExitStack:
    streams = ExitStack()
    for _ in range(answers):
        streams.enter_context(coalescing)
    return streams


@pytest.mark.parametrize(
    ("answers", "gap_s"),
    [(0, 0.0), (1, 0.0), (10, 0.0), (11, 0.0088), (100, 0.08), (113, 0.09), (5_000, 0.09)],
)
def test_few_answers_wait_for_nothing_and_many_share_the_reads(answers: int, gap_s: float) -> None:
    coalescing = Coalescing()
    with streaming(coalescing, answers):
        assert coalescing.gap_s == pytest.approx(gap_s)
    assert coalescing.gap_s == 0.0


def test_an_answer_that_fails_counts_no_more() -> None:
    coalescing = Coalescing()
    with streaming(coalescing, 10):
        with pytest.raises(OSError, match="cut"), coalescing:
            raise OSError("cut")
        assert coalescing.gap_s == 0.0


async def test_few_answers_do_not_even_give_way() -> None:
    coalescing = Coalescing()
    with streaming(coalescing, 9):
        waiting = coalescing.wait()
        with pytest.raises(StopIteration):
            waiting.send(None)


async def test_many_answers_go_on_together_and_not_too_soon() -> None:
    coalescing = Coalescing()
    loop = asyncio.get_running_loop()
    went_on: list[tuple[float, int]] = []

    async def answer(number: int) -> None:
        began = loop.time()
        await coalescing.wait()
        assert loop.time() - began >= LONGEST_S - TICK_S
        went_on.append((began, number))

    with streaming(coalescing, 300):
        async with asyncio.timeout(10):
            await asyncio.gather(*map(answer, range(50)))
    assert [number for _, number in went_on] == list(range(50))


async def test_an_answer_that_is_stopped_stops_no_other() -> None:
    coalescing = Coalescing()
    with streaming(coalescing, 300):
        stopped, other = (asyncio.create_task(coalescing.wait()) for _ in range(2))
        await asyncio.sleep(0)
        stopped.cancel()
        async with asyncio.timeout(10):
            await other
        assert stopped.cancelled()


def test_a_loop_that_ends_leaves_nothing_for_the_next() -> None:
    """Waits that were cut off with their loop: the next one of the process has ticks of its own."""
    coalescing = Coalescing()

    async def wait() -> None:
        async with asyncio.timeout(10):
            await coalescing.wait()

    with streaming(coalescing, 300):
        for _ in range(2):
            asyncio.run(wait())

"""How much an answer waits, by how many stream."""

from contextlib import ExitStack

import pytest

from gateway.turns.coalescing import Coalescing


@pytest.mark.parametrize(
    ("answers", "gap_s"),
    [(0, 0.0), (1, 0.0), (9, 0.0), (10, 0.005), (100, 0.05), (200, 0.1), (5_000, 0.1)],
)
def test_few_answers_wait_for_nothing_and_many_share_the_reads(answers: int, gap_s: float) -> None:
    coalescing = Coalescing()
    with ExitStack() as streams:
        for _ in range(answers):
            streams.enter_context(coalescing)
        assert coalescing.gap_s == pytest.approx(gap_s)
    assert coalescing.gap_s == 0.0


def test_an_answer_that_fails_counts_no_more() -> None:
    coalescing = Coalescing()
    with ExitStack() as streams:
        for _ in range(9):
            streams.enter_context(coalescing)
        with pytest.raises(OSError, match="cut"), coalescing:
            raise OSError("cut")
        assert coalescing.gap_s == 0.0

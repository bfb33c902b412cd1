"""What one user may take, in a moment and over time."""

import pytest

from gateway.tenants.allowance import Allowance
from gateway.wire.errors import RateLimitedError


class Bucket:
    """An allowance of 4 at once and 2 a second, and a clock that the test turns."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.allowance = Allowance(burst=4, per_s=2, clock=lambda: self.now)

    def taken(self, times: int, who: str = "anna", amount: float = 1.0) -> int:
        """Return how many of so many takes were allowed."""
        count = 0
        for _ in range(times):
            try:
                self.allowance.take(who, amount)
            except RateLimitedError:
                continue
            count += 1
        return count

    def wait_ms(self, who: str = "anna") -> int | None:
        with pytest.raises(RateLimitedError) as refusal:
            self.allowance.take(who)
        return refusal.value.retry_after_ms


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


def test_so_much_is_had_at_once_and_no_more(bucket: Bucket) -> None:
    assert bucket.taken(10) == 4


@pytest.mark.parametrize(("seconds", "had"), [(0.5, 1), (1.0, 2), (2.0, 4), (60.0, 4)])
def test_it_comes_back_with_time_up_to_the_whole(bucket: Bucket, seconds: float, had: int) -> None:
    bucket.taken(4)
    bucket.now += seconds
    assert bucket.taken(10) == had


def test_refusals_cost_nothing(bucket: Bucket) -> None:
    bucket.taken(1000)
    bucket.now += 0.5
    assert bucket.taken(1) == 1


def test_one_user_takes_nothing_of_another(bucket: Bucket) -> None:
    bucket.taken(4)
    assert bucket.taken(10, "ben") == 4


def test_a_refusal_says_when_there_is_something_again(bucket: Bucket) -> None:
    bucket.taken(4)
    assert bucket.wait_ms() == 500
    bucket.now += 0.2
    assert bucket.wait_ms() == 300
    bucket.now += 0.3
    assert bucket.taken(2) == 1


def test_an_amount_above_the_whole_is_had_from_a_whole_and_then_owed(bucket: Bucket) -> None:
    assert bucket.taken(2, amount=100) == 1
    assert bucket.wait_ms() == 48_500
    bucket.now += 49.5
    assert bucket.taken(1, amount=100) == 0, "it is not whole yet"
    bucket.now += 0.5
    assert bucket.taken(1, amount=100) == 1


def test_a_refused_amount_leaves_room_for_a_smaller_one(bucket: Bucket) -> None:
    bucket.taken(1, amount=2)
    assert bucket.taken(1, amount=3) == 0
    assert bucket.taken(1, amount=2) == 1


@pytest.mark.parametrize("per_s", [3, 7, 50, 0.1])
def test_sums_of_times_are_not_off_by_one(per_s: float) -> None:
    allowance = Allowance(burst=200, per_s=per_s, clock=lambda: 1_234_567.891)
    for _ in range(200):
        allowance.take("anna")
    with pytest.raises(RateLimitedError):
        allowance.take("anna")


def test_who_has_it_all_again_is_forgotten(bucket: Bucket) -> None:
    for number in range(100):
        bucket.taken(1, f"user{number}")
    assert len(bucket.allowance) == 100
    bucket.now += 2
    for _ in range(60):
        bucket.taken(1)
        bucket.now += 0.5
    assert len(bucket.allowance) == 1

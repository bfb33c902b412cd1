import pytest

from streaming.models.errors import (
    ModelAuthError,
    ModelBadRequestError,
    ModelError,
    ModelFilteredError,
    ModelProtocolError,
    ModelQuotaError,
    ModelRateLimitedError,
    ModelRefusedError,
    ModelTimeoutError,
    ModelUnavailableError,
)
from streaming.models.retry import RetryPolicy

POLICY = RetryPolicy(retries=2, first_wait=0.5)


def wait(
    error: ModelError, *, attempt: int = 0, time_left: float = 30.0, chance: float = 0.5
) -> float | None:
    return POLICY.wait(error, attempt=attempt, time_left=time_left, chance=chance)


@pytest.mark.parametrize(
    "error",
    [
        ModelAuthError(),
        ModelBadRequestError(),
        ModelFilteredError(),
        ModelProtocolError(),
        ModelQuotaError(),
        ModelRefusedError(),
        ModelUnavailableError(retryable=False),
    ],
    ids=lambda error: error.code,
)
def test_what_would_fail_again_is_not_retried(error: ModelError) -> None:
    assert wait(error) is None


def test_the_bound_of_the_wait_doubles() -> None:
    waits = [wait(ModelUnavailableError(), attempt=attempt, chance=1.0) for attempt in range(3)]

    assert waits == [0.5, 1.0, None]


def test_the_wait_is_drawn_from_the_whole_interval() -> None:
    assert wait(ModelUnavailableError(), chance=0.0) == 0.0


def test_the_provider_s_own_wait_is_the_least() -> None:
    assert wait(ModelRateLimitedError(retry_after=3.0), chance=0.5) == 3.25


def test_a_wait_beyond_the_first_token_deadline_is_not_begun() -> None:
    assert wait(ModelRateLimitedError(retry_after=31.0), time_left=30.0) is None


def test_after_the_first_part_no_time_is_left() -> None:
    assert wait(ModelUnavailableError(), time_left=0.0, chance=0.0) is None


def test_a_passed_deadline_leaves_no_time_to_retry() -> None:
    assert wait(ModelTimeoutError("first_token"), time_left=-0.001, chance=0.0) is None

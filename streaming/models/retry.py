"""When a request that brought nothing yet may be sent again."""

from dataclasses import dataclass
from typing import Final

from streaming.models.errors import ModelError

__all__ = ["DEFAULT_RETRY", "RetryPolicy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """At most `retries` more requests, further and further apart.

    The waits are drawn from the whole interval up to an exponentially growing bound ("full jitter",
    https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/), so that many
    turns that failed together do not come back together.
    """

    retries: int = 2
    """Requests after the first; 0 never tries again."""
    first_wait: float = 0.5
    """Upper bound of the first wait in seconds; doubles with every further one."""

    def wait(
        self, error: ModelError, *, attempt: int, time_left: float, chance: float
    ) -> float | None:
        """Return how long to wait before the next request, in seconds; None to give up.

        Args:
            error: Why the last request failed.
            attempt: Which request that was, counted from 0.
            time_left: Seconds until the first token is due. A wait that would not end before is
                not begun: the caller learns `error` at once, with its ``retry_after``.
            chance: A random number, 0 <= chance < 1.
        """
        if attempt >= self.retries or not error.retryable:
            return None
        wait = chance * self.first_wait * 2.0**attempt
        if error.retry_after is not None:
            wait += error.retry_after
        return wait if wait < time_left else None


DEFAULT_RETRY: Final = RetryPolicy()

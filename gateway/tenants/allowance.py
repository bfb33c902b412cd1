"""How much of something each user may take, in a moment and over time.

Kept as one time for each user, when he will have it all again: the "virtual scheduling" form of the Generic
Cell Rate Algorithm (ITU-T I.371, annex A).
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

from gateway.wire.errors import RateLimitedError

ROUNDING_S = 1e-6
"""What sums of times may be off by, in seconds."""


class Allowance:
    """A token bucket for each user: `burst` at once, and `per_s` in every second after that.

    What is more than the whole is had from a whole one, and the rest is owed. A refusal costs nothing. All
    of it is counted in this process and begins anew with it. A user who has taken nothing for a while is
    forgotten, so that it holds those alone who were here lately.

    Args:
        burst: what may be taken at once.
        per_s: what comes back in a second.
        clock: seconds, from any start.
    """

    def __init__(
        self, *, burst: float, per_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._burst = burst
        self._per_s = per_s
        self._clock = clock
        self._whole_again: OrderedDict[Hashable, float] = OrderedDict()  # by user; last taker last

    def __len__(self) -> int:
        return len(self._whole_again)

    def take(self, who: Hashable, amount: float = 1.0) -> None:
        """Take something off what that user has left.

        Raises:
            RateLimitedError: there is not so much left; says when there will be.
        """
        now = self._clock()
        whole_again = max(self._whole_again.get(who, now), now)
        left_over_s = (self._burst - min(amount, self._burst)) / self._per_s
        wait_s = whole_again - now - left_over_s
        if wait_s > ROUNDING_S:
            raise RateLimitedError(retry_after_ms=math.ceil(wait_s * 1e3))
        self._whole_again[who] = whole_again + amount / self._per_s
        self._whole_again.move_to_end(who)
        self._forget(now)

    def _forget(self, now: float) -> None:
        """Let go of at most two who have it all again, oldest first: more than can come in a call."""
        for _ in range(2):
            oldest = next(iter(self._whole_again))
            if self._whole_again[oldest] > now:
                return
            del self._whole_again[oldest]

"""How often a service is asked, and for how long, by those who promise an answer within 5 seconds.

It is the SDKs' standard mode (three attempts, a random pause that may double) with one difference: a
pause of up to a second after a connection that the service closed while it was idle, as an SDK makes
it, would be seen by the person who waits for the next word. See
https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

T = TypeVar("T")

ATTEMPTS: Final = 3
WITHIN_S: Final = 4.5
"""All attempts together."""

CONNECT_TIMEOUT_S: Final = 1.0
READ_TIMEOUT_S: Final = 1.4
"""For one attempt: a healthy service answers in some milliseconds, so silence is a fault."""

BRIEF_PAUSE_S: Final = 0.05
"""Before an attempt that follows a lost connection, a failure of the service or a collision."""

THROTTLED_PAUSE_S: Final = 0.5
"""Before an attempt that follows a throttle: the service has to get rid of load first."""


class AttemptFailedError(Exception):
    """An attempt failed in a way that the next one may not. The text says how, and nothing of an answer.

    Attributes:
        pause_s: for how long to wait at most before the second attempt, in seconds; the third may wait
            twice as long.
    """

    def __init__(self, what: str, *, pause_s: float = BRIEF_PAUSE_S) -> None:
        super().__init__(what)
        self.pause_s = pause_s


async def until_answered(attempt: Callable[[], Awaitable[T]]) -> T:
    """Await attempts until one does not raise `AttemptFailedError`, and return what it returns.

    Raises:
        AttemptFailedError: the last one did.
        TimeoutError: none ended within the time.
    """
    async with asyncio.timeout(WITHIN_S):
        for number in range(ATTEMPTS - 1):
            try:
                return await attempt()
            except AttemptFailedError as error:
                longest = error.pause_s * 2**number
            await asyncio.sleep(random.uniform(0, longest))  # noqa: S311 - spreads callers, hides nothing
        return await attempt()

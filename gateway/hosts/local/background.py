"""Work that goes on beside the sockets for as long as the server does, and begins anew when it breaks."""

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack

FIRST_WAIT_S = 1.0
"""The most that work is left alone when it has broken once."""

LONGEST_WAIT_S = 60.0
"""The same when it goes on breaking."""

RAN_WELL_S = 60.0
"""Work that broke after so long is taken for work that broke once."""

log = logging.getLogger(__name__)


def run_beside(
    stack: AsyncExitStack,
    work: Callable[[], Coroutine[None, None, None]],
    *,
    chance: Callable[[], float] = random.random,
) -> None:
    """Run something until it ends or the stack unwinds; begin it anew if it breaks.

    It is left alone for longer each time, up to a bound, so that a fault that stays fills neither the
    processor nor the log.

    Args:
        stack: ends it.
        work: makes the coroutine, each time anew.
        chance: a number from 0 to 1; the wait is at least half of what it may be.
    """

    async def supervise() -> None:
        clock = asyncio.get_running_loop().time
        longest = FIRST_WAIT_S
        while True:
            began = clock()
            try:
                return await work()
            except Exception:
                if clock() - began >= RAN_WELL_S:
                    longest = FIRST_WAIT_S
                wait = longest * (1 + chance()) / 2
                longest = min(2 * longest, LONGEST_WAIT_S)
                log.exception("background work broke", extra={"again_s": round(wait, 1)})
                await asyncio.sleep(wait)

    task = asyncio.create_task(supervise())

    async def stop() -> None:
        task.cancel()
        await asyncio.wait({task})

    stack.push_async_callback(stop)

"""What a process keeps between its invocations: one event loop, and what was made on it.

Lambda freezes a process when its handler returns, and may thaw it hours later for another event. A client
belongs to the loop that it was first used on, so there is one loop for as long as the process lives, and
nothing is closed in between. Whatever an invocation starts it also awaits, or it would go on in the next.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from functools import cache
from typing import Any, Generic, TypeVar

from gateway.telemetry import set_up_logs
from storage.signed_http import shared_tls

shared_tls()  # every function asks over TLS; a process has a whole CPU while it starts, and later a share

log = logging.getLogger(__name__)

T = TypeVar("T")


@cache
def _runner() -> asyncio.Runner:
    """Return what has the loop. Logs are set up, too, until the settings say how: those may be wrong."""
    set_up_logs("info")
    return asyncio.Runner()


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run one invocation's work to its end and return what it returns.

    What it raises is logged: Lambda's own report of it has another form, which no alarm of ours counts.
    """
    try:
        return _runner().run(work)
    except Exception:
        log.exception("invocation failed")
        raise


class Kept(Generic[T]):
    """Something that the first invocation makes and those after it find. If making fails, the next tries.

    Args:
        make: makes it.
    """

    def __init__(self, make: Callable[[], Awaitable[T]]) -> None:
        self._make = make
        self._made: list[T] = []

    async def get(self) -> T:
        """Return it. A process has one invocation at a time, so nobody else makes it meanwhile."""
        if not self._made:
            self._made.append(await self._make())
        return self._made[0]

"""An event loop without waiting: its clock jumps to the next timer when nothing else is left to do."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

STUCK_AFTER_S = 2.0
"""Real seconds after which a loop without a timer is not waiting but stuck."""


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000.0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is not None:
            self.now += timeout
            return []
        ready = super().select(STUCK_AFTER_S)
        if not ready:
            raise RuntimeError("the test waits for something that never comes")
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop for code without I/O: sleeping for an hour takes no time."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    def stand_still(self, seconds: float) -> None:
        """Let time pass in which nothing was carried out, as for a process that was stopped."""
        self._jumping.now += seconds


def run_virtually(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run one coroutine on a loop of its own; for tests that are no coroutines themselves."""
    with asyncio.Runner(debug=True, loop_factory=VirtualLoop) as runner:
        return runner.run(work())


async def idle(rounds: int = 20) -> None:
    """Let everything that can go on without time passing go on."""
    for _ in range(rounds):
        await asyncio.sleep(0)

"""A virtual clock beside real threads and sockets: it jumps once these have been silent for a while.

So the deadlines of a reply, beats, leases and pauses cost nothing, also on a real engine. An engine that is
slower than `patience_s` meets a deadline early, which to whoever asks is a fault like any other.
"""

import asyncio
import selectors
from typing import Any

from tests.gateway.runs.virtual_time import STUCK_AFTER_S


class _PatientSelector(selectors.DefaultSelector):
    def __init__(self, patience_s: float) -> None:
        super().__init__()
        self.now = 1_000.0
        self.patience_s = patience_s

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout == 0:
            return super().select(0)
        wait = STUCK_AFTER_S if timeout is None else min(timeout, self.patience_s)
        ready = super().select(wait)
        if not ready and timeout is None:
            raise RuntimeError("the test waits for something that never comes")
        if not ready and timeout is not None:
            self.now += timeout
        return ready


class PatientLoop(asyncio.SelectorEventLoop):
    """A loop whose time stands still while something happens.

    Args:
        patience_s: real seconds of silence before the clock jumps to the next timer; 0 where there is
            nothing beside the loop.
    """

    def __init__(self, patience_s: float = 0.0) -> None:
        self._patient = _PatientSelector(patience_s)
        super().__init__(self._patient)

    def time(self) -> float:
        return self._patient.now

    def be_patient(self, patience_s: float) -> None:
        """Wait for so long from now on."""
        self._patient.patience_s = patience_s

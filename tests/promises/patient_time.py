"""A virtual clock beside real threads and sockets: it jumps once these have been silent for a while.

So the deadlines of a reply, beats, leases and pauses cost nothing, also on a real engine. It does not jump
while an engine is asked (`engines_waited_for`): a busy machine must not look like a broken store.
"""

import asyncio
import selectors
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from storage.dynamodb.signed_client import SignedClient
from storage.sqlite.threads import DatabaseThread
from tests.gateway.runs.virtual_time import STUCK_AFTER_S

ENGINE_S = 5.0
"""Real seconds that an engine may take for one answer."""

_ENGINES = [(DatabaseThread, "call"), (DatabaseThread, "aclose"), (SignedClient, "call")]


class _PatientSelector(selectors.DefaultSelector):
    def __init__(self, patience_s: float) -> None:
        super().__init__()
        self.now = 1_000.0
        self.patience_s = patience_s
        self.asked = 0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout == 0:
            return super().select(0)
        patience_s = ENGINE_S if self.asked else self.patience_s
        wait = STUCK_AFTER_S if timeout is None else min(timeout, patience_s)
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

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Let no time pass inside: an engine has been asked and will answer."""
        self._patient.asked += 1
        try:
            yield
        finally:
            self._patient.asked -= 1


@contextmanager
def engines_waited_for() -> Iterator[None]:
    """Let no time pass on a `PatientLoop` while a database is asked."""
    with ExitStack() as patches:
        for engine, verb in _ENGINES:
            patches.enter_context(patch.object(engine, verb, _waited_for(getattr(engine, verb))))
        yield


def _waited_for(ask: Any) -> Any:
    async def waited_for(*arguments: Any, **named: Any) -> Any:
        loop = asyncio.get_running_loop()
        if not isinstance(loop, PatientLoop):
            return await ask(*arguments, **named)
        with loop.asking():
            return await ask(*arguments, **named)

    return waited_for

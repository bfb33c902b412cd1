"""Generating replies in supervised tasks of this process: the local `RunStarter`."""

import asyncio
import logging
from collections.abc import Callable, Coroutine

from gateway.runs.live_run import LiveRun
from gateway.runs.live_runs import LiveRuns
from storage.records import Run

LINGER_S = 10.0
"""For how long an ended run can still be resumed from memory."""

Generate = Callable[[LiveRun], Coroutine[None, None, Run | None]]

log = logging.getLogger(__name__)


class RunTasks:
    """Starts generations and keeps their tasks until they end; `drain` goes before the store's end.

    Args:
        generate: generates one reply to its end; returns the session's next run, if any.
        live: the runs that are live here.
    """

    def __init__(self, *, generate: Generate, live: LiveRuns) -> None:
        self._generate = generate
        self._live = live
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = False

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def may_claim(self) -> bool:
        """Whether a run that is accepted now may be claimed at once, because it begins here at once."""
        return not self._draining

    def start(self, live: LiveRun) -> None:
        """See `RunStarter.start`. While draining, what nobody has claimed waits for the next process."""
        if live.started or (self._draining and live.context is None):
            return
        live.started = True
        task = asyncio.create_task(self._run(live), name=f"run {live.run.run_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drain(self, *, patience_s: float, interrupt_s: float) -> None:
        """Let runs finish for a while, then interrupt them, then abandon them to the next start.

        Args:
            patience_s: how long they may go on as they are, in seconds.
            interrupt_s: how long they then have to store what there is.
        """
        self._draining = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=patience_s)
        for live in self._live.all():
            live.interrupt()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=interrupt_s)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=interrupt_s)

    async def _run(self, live: LiveRun) -> None:
        try:
            next_run = await self._generate(live)
        except Exception:
            log.exception("generation broke", extra={"run_id": live.run.run_id})
            next_run = None
        self._live.retire(live, linger_s=LINGER_S)
        if next_run is not None:
            self.start(self._live.open(live.owner, next_run))

"""Generating one reply in a process of its own, which shares the run with others through HEAD."""

import asyncio
from collections.abc import Callable

from gateway.jobs.serve import serve
from gateway.runs.beat import LEASE_S, Beat
from gateway.runs.identities import Identities
from gateway.runs.live_run import LiveRun
from gateway.runs.live_runs import LiveRuns
from gateway.runs.run_starter import RunStarter
from gateway.turns.generate import Generator
from gateway.turns.recover import Recovery
from storage.errors import NotRunOwnerError
from storage.records import Owner, Run
from storage.repositories import SharedRuns, SharedStore

FINISH_S = 15.0
"""How long an interrupted reply has to be stored; behind it the platform ends the process."""


class RunUnfinishedError(Exception):
    """A generation is over but its end is not stored: whoever watches failures has to end the run."""


class ReplyJob:
    """Generates replies, one call of `run` per invocation. Being called again for a run is harmless.

    Args:
        store: shared with the processes that accept, cancel and resume.
        generator: asks the model.
        live: the runs of this process; of nobody else's use.
        starter: has the session's next run generated.
        recovery: takes up a run whose generation died.
        new_id: makes the random id of a claim.
        clock: Unix time in seconds.
        unread_run_s: for how long a run may go on without a reader, in seconds; 0 for ever.
    """

    def __init__(
        self,
        *,
        store: SharedStore,
        generator: Generator,
        live: LiveRuns,
        starter: RunStarter,
        recovery: Recovery,
        new_id: Callable[[], str],
        clock: Callable[[], float],
        unread_run_s: float = 0.0,
    ) -> None:
        self._store = store
        self._generator = generator
        self._live = live
        self._starter = starter
        self._recovery = recovery
        self._new_id = new_id
        self._clock = clock
        self._unread_run_s = unread_run_s

    async def run(self, owner: Owner, run_id: str, *, deadline: float) -> None:
        """Generate the reply, unless that was begun before, and serve its readers to the end.

        As soon as its end is stored, the session's next run is handed on.

        Args:
            owner: whose run it is.
            run_id: of a queued run.
            deadline: Unix time in seconds; a reply that is not complete by then ends as `interrupted`.

        Raises:
            RunUnfinishedError: the run is neither ended nor alive.
            StorageUnavailableError: it could not be claimed.
        """
        its = self._store.of(owner)
        if self._clock() >= deadline:
            raise RunUnfinishedError(run_id)
        try:
            claimed = await its.runs.claim(
                run_id, claimed_by=self._new_id(), lease_until=self._clock() + LEASE_S
            )
        except NotRunOwnerError:
            await self._already_claimed(owner, run_id)
            return
        live = self._live.open(owner, claimed)
        beat = Beat(
            its=its,
            live=live,
            identities=Identities(self._store.connections, clock=self._clock),
            clock=self._clock,
            unread_run_s=self._unread_run_s,
        )
        await beat.heed(claimed)
        next_run = await self._generate(live, beat, deadline)
        if next_run is not None:  # first: it waits for no reader of this one
            self._starter.start(self._live.open(owner, next_run))
        await self._serve_to_the_end(its.runs, live, beat, until=deadline + FINISH_S)

    async def _already_claimed(self, owner: Owner, run_id: str) -> None:
        """The invocation was repeated. If the first one died, the run is to be ended, not begun again."""
        run = await self._store.of(owner).runs.get(run_id)
        if run is not None:
            await self._recovery.revive_met(owner, run)

    async def _generate(self, live: LiveRun, beat: Beat, deadline: float) -> Run | None:
        loop = asyncio.get_running_loop()
        remaining = deadline - self._clock()
        interruption = loop.call_later(remaining, live.interrupt)
        beating = asyncio.create_task(beat.run(), name=f"beat {live.run.run_id}")
        try:
            async with asyncio.timeout(remaining + FINISH_S):
                next_run, _ = await asyncio.gather(
                    self._generator.generate(live), beat.welcome_subscribers()
                )
                return next_run
        except TimeoutError:
            raise RunUnfinishedError(live.run.run_id) from None
        finally:
            interruption.cancel()
            beating.cancel()
            await asyncio.wait({beating})

    async def _serve_to_the_end(
        self, runs: SharedRuns, live: LiveRun, beat: Beat, *, until: float
    ) -> None:
        run = await runs.get(live.run.run_id)
        if live.feed.complete:
            if run is not None:  # who joined between the last beat and the end is served from here
                await beat.heed(run)
            await serve(live.feed, within_s=max(until - self._clock(), 0.0))
        if live.forgotten:  # the run goes with its session
            return
        if run is not None and run.state == "running" and run.claimed_by == live.claimed_by:
            raise RunUnfinishedError(live.run.run_id)

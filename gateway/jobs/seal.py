"""Ending runs whose generation has failed for good, so that nobody waits for them."""

from collections.abc import Callable

from gateway.jobs.serve import serve
from gateway.runs.found import Readable
from gateway.runs.identities import Identities
from gateway.runs.live_runs import LiveRuns
from gateway.runs.replay import Replayer
from gateway.runs.run_starter import RunStarter
from gateway.turns.recover import Recovery
from gateway.turns.seal import Sealer
from storage.errors import NotRunOwnerError
from storage.records import Owner, Run
from storage.repositories import SharedStore


class RunAliveError(Exception):
    """The run is being generated, or was a moment ago: ask again when its lease would be over."""


class SealJob:
    """Ends failed runs, one call of `run` each. Being called again for a run is harmless.

    Args:
        store: where the runs are.
        sealer: ends them.
        replayer, live: tell their readers.
        starter: has the session's next run generated.
        recovery: has it generated, too, where whoever ended the run could not.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        *,
        store: SharedStore,
        sealer: Sealer,
        replayer: Replayer,
        live: LiveRuns,
        starter: RunStarter,
        recovery: Recovery,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._sealer = sealer
        self._replayer = replayer
        self._live = live
        self._starter = starter
        self._recovery = recovery
        self._clock = clock

    async def run(self, owner: Owner, run_id: str) -> None:
        """End the run: `error` if it was never begun, else `interrupted` with what there is of it.

        Its readers are waited for, the slow ones for `SERVE_S`. One that has ended already may have failed
        before the session's next run was handed on: then that is done here.

        Raises:
            RunAliveError: it is alive.
            StorageUnavailableError: the store refuses; ask again.
        """
        run = await self._store.of(owner).runs.get(run_id)
        if run is None:
            return
        if run.state == "ended":
            await self._recovery.revive(owner, run.session_id)
            return
        try:
            next_run = await self._end(owner, run)
        except NotRunOwnerError:
            raise RunAliveError(run_id) from None
        if next_run is not None:
            self._starter.start(self._live.open(owner, next_run))
        await self._tell(owner, run)

    async def _end(self, owner: Owner, run: Run) -> Run | None:
        if run.state == "queued":
            return await self._sealer.fail(owner, run)
        return await self._sealer.seal(owner, run)

    async def _tell(self, owner: Owner, run: Run) -> None:
        """Post the end to those who were reading and may; what they have already they drop."""
        ended = await self._store.of(owner).runs.get(run.run_id)
        found = await self._replayer.replay(owner, ended) if ended is not None else None
        if isinstance(found, Readable):
            identities = Identities(self._store.connections, clock=self._clock)
            for reader in await identities.holding(run.readers):
                self._live.followers.follow(found.feed, reader.connection_id, after=reader.after)
            await serve(found.feed)

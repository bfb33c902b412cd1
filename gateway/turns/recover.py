"""Taking up runs that nobody generates: at the start of a process, and when somebody meets one."""

import logging
from collections.abc import Callable, Sequence

from gateway.runs.live_runs import LiveRuns
from gateway.runs.run_starter import RunStarter, may_yet_begin
from gateway.turns.seal import Sealer
from storage.errors import NotRunOwnerError, StorageError
from storage.records import Owner, Run
from storage.repositories import Store

log = logging.getLogger(__name__)


CLAIMS_MAX = 1_000
"""Of how many accepts that failed the claims are kept; the oldest go first."""


class Recovery:
    """Starts what was accepted but never begun, seals what was begun and is dead.

    A run that had begun is never generated again: its reader may have seen a part of it. One that is
    claimed has begun, unless this process made the claim and knows better (`keep_claim`).

    Args:
        store: where the runs are.
        sealer: ends the dead ones.
        live: the runs that are live here.
        starter: generates the others.
        clock: Unix time in seconds.
        begun_within_s: so long after its accept a run that is met queued is left alone, for it was
            handed to another process. 0 where all are generated here: starting twice costs nothing.
    """

    def __init__(
        self,
        *,
        store: Store,
        sealer: Sealer,
        live: LiveRuns,
        starter: RunStarter,
        clock: Callable[[], float],
        begun_within_s: float = 0.0,
    ) -> None:
        self._store = store
        self._sealer = sealer
        self._live = live
        self._starter = starter
        self._clock = clock
        self._begun_within_s = begun_within_s
        self._unbegun: dict[str, None] = {}

    def keep_claim(self, claimed_by: str) -> None:
        """Remember the claim of an accept that failed, but may be stored: nobody has begun under it.

        Who meets such a run has it begun under that same claim, instead of sealed.
        """
        self._unbegun[claimed_by] = None
        if len(self._unbegun) > CLAIMS_MAX:
            del self._unbegun[next(iter(self._unbegun))]

    async def at_start(self, unfinished: Sequence[tuple[Owner, Run]]) -> None:
        """Take up all that the last process left; goes before the first connection.

        What cannot be taken up now is later, by `revive`.

        Args:
            unfinished: what `EmbeddedStore.unfinished` tells.
        """
        for owner, run in unfinished:
            if run.state == "queued":  # so that it counts, and can be followed, while it waits
                self._live.open(owner, run)
        taken_up: set[tuple[Owner, str]] = set()
        for owner, run in unfinished:
            # What waits follows the first of its session, unless it was claimed to be ended out of turn.
            if (owner, run.session_id) not in taken_up or run.state == "running":
                taken_up.add((owner, run.session_id))
                await self._take_up_or_log(owner, run)
        if unfinished:
            log.info("unfinished runs recovered", extra={"runs": len(unfinished)})

    async def revive(self, owner: Owner, session_id: str) -> None:
        """Take up a session's first run if nobody generates it, since all others wait behind it.

        So it is when its accept seemed to fail but was stored, or its generation broke. Which is the
        first the session itself says: no clock does, nor an index that lags.

        Raises:
            StorageError: the store refuses.
        """
        run = await self._first(owner, session_id)
        if run is None or run.state == "ended":  # who ended it starts the next one
            return
        if run.state == "running":
            await self.revive_met(owner, run)
        elif not may_yet_begin(run, self._begun_within_s, now=self._clock()):
            await self._take_up(owner, run)

    async def revive_met(self, owner: Owner, run: Run) -> None:
        """Take up a run that somebody has met, if nobody generates it; one that waits: see `revive`.

        It need not be its session's first: what is cancelled while it waits is claimed out of turn, to be
        ended, and that process may have died.

        Args:
            owner: whose run it is.
            run: as the store said it is.

        Raises:
            StorageError: the store refuses.
        """
        if run.state == "queued":
            await self.revive(owner, run.session_id)
        elif run.state == "running" and self._live.find(owner, run.run_id) is None:
            await self._take_up(owner, run)

    async def _first(self, owner: Owner, session_id: str) -> Run | None:
        its = self._store.of(owner)
        session = await its.sessions.get(session_id)
        if session is None or session.active_run is None:
            return None
        return await its.runs.get(session.active_run)

    async def _take_up_or_log(self, owner: Owner, run: Run) -> None:
        try:
            await self._take_up(owner, run)
        except StorageError:  # one run must not keep the server from starting
            log.exception("run not recovered", extra={"run_id": run.run_id})

    async def _take_up(self, owner: Owner, run: Run) -> None:
        next_run: Run | None = run
        if run.claimed_by in self._unbegun:
            self._begin(owner, run, run.claimed_by)
            return
        if run.state == "running":
            if run.lease_until > self._clock():  # somebody generates it
                return
            try:
                next_run = await self._sealer.seal(owner, run)
            except NotRunOwnerError:  # somebody else has ended it
                return
        if next_run is not None:
            self._starter.start(self._live.open(owner, next_run))

    def _begin(self, owner: Owner, run: Run, claimed_by: str) -> None:
        """Generate a run under a claim of ours that is stored, but that we were not told of."""
        del self._unbegun[claimed_by]
        live = self._live.open(owner, run)
        # Claims once more, which is harmless and tells what has happened meanwhile.
        live.claimed = False
        self._starter.start(live)

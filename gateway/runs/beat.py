"""What other processes ask of a run that is generated here: who reads it, and whether it shall stop."""

import asyncio
import logging
from collections.abc import Callable

from gateway.runs.identities import Identities
from gateway.runs.live_run import LiveRun
from gateway.runs.unread import end_if_unread
from storage.errors import NotRunOwnerError, StorageError
from storage.records import Run, RunReader
from storage.repositories import SharedRepositories

BEAT_EVERY_S = 0.25
"""So long a cancel, or a new reader, may go unnoticed; also while the model is silent."""

LEASE_S = 10.0
"""For how long a claim or beat counts as alive without another word."""

log = logging.getLogger(__name__)


class Beat:
    """Keeps the lease of a claimed run, and does what HEAD tells.

    Args:
        its: what the run's owner has.
        live: the run, claimed.
        identities: of its readers.
        clock: Unix time in seconds.
        unread_run_s: for how long it may go on without a reader, in seconds; 0 for ever.
    """

    def __init__(
        self,
        *,
        its: SharedRepositories,
        live: LiveRun,
        identities: Identities,
        clock: Callable[[], float],
        unread_run_s: float = 0.0,
    ) -> None:
        self._runs = its.runs
        self._subscribers = its.subscribers
        self._live = live
        self._identities = identities
        self._clock = clock
        self._unread_run_s = unread_run_s
        self._known: dict[str, RunReader] = {}
        self._heeded = 0
        self._missed = False

    async def run(self) -> None:
        """Beat until the run is ours no more; cancel it when the run has ended."""
        while not self._live.lost and not self._live.forgotten:
            await asyncio.sleep(BEAT_EVERY_S)
            await self._beat()
            await self._report_gone()

    async def welcome_subscribers(self) -> None:
        """Let those in who follow the run's session; goes right after the claim.

        Whoever subscribes later finds the run itself. A run that has ended meanwhile lets nobody in any
        more: its feed is here, so it is followed from here.
        """
        run = self._live.run
        try:
            subscribers = await self._subscribers.of(run.session_id, now=self._clock())
            for reader in await self._identities.holding(subscribers):
                if reader.connection_id not in self._known:
                    heeded = self._heeded
                    joined = await self._runs.join(run.run_id, reader, now=self._clock())
                    if joined is None:  # forgotten
                        return
                    await self._heed(joined, heeded)
                    if joined.state == "ended":
                        self._live.feed.follow(reader.connection_id, after=reader.after)
        except StorageError as exc:  # they will ask, having heard nothing
            log.warning("subscribers not found", extra={"run_id": run.run_id, "cause": str(exc)})

    async def heed(self, run: Run) -> None:
        """Do what HEAD asks: stop, let new readers in at their cursors, let others go.

        A run without readers is stopped when its time is over; only here, because HEAD alone knows whether
        somebody has come back.
        """
        await self._heed(run, self._heeded)

    async def _heed(self, run: Run, heeded: int) -> None:
        """Do what HEAD asks, unless another was heeded since this one was asked for.

        This one may be the older then: it would let go who has joined meanwhile. The next beat tells.

        Args:
            run: HEAD.
            heeded: `_heeded` when it was asked for.
        """
        if run.cancel_at is not None and not self._live.cancelled:
            self._live.cancel()
        holding = await self._identities.holding(run.readers)
        if heeded != self._heeded:
            return
        self._heeded += 1
        readers = {reader.connection_id: reader for reader in holding}
        for gone in self._known.keys() - readers.keys():
            self._live.feed.unfollow(gone)
        for connection_id, reader in readers.items():
            known = self._known.get(connection_id)
            if known is None or known.nonce != reader.nonce:
                self._live.feed.follow(connection_id, after=reader.after)
        self._known = readers
        end_if_unread(self._live, after_s=self._unread_run_s)

    async def _beat(self) -> None:
        heeded = self._heeded
        try:
            run = await self._runs.beat(
                self._live.run.run_id,
                claimed_by=self._live.claimed_by,
                lease_until=self._clock() + LEASE_S,
                last_seq=self._live.feed.kept,
            )
        except NotRunOwnerError:
            self._live.lose()
        except StorageError as exc:  # the slots of the log keep it safe; the next beat may succeed
            if not self._missed:
                run_id = self._live.run.run_id
                log.warning("beat refused", extra={"run_id": run_id, "cause": str(exc)})
            self._missed = True
        else:
            self._missed = False
            if run is None:
                self._live.forget()
            else:
                await self._heed(run, heeded)

    async def _report_gone(self) -> None:
        """Take out of HEAD the readers that a post has not reached, so that they can join again.

        Who is gone for good is taken out of the session too; that goes first, for it is HEAD that reminds of
        them.
        """
        run, feed = self._live.run, self._live.feed
        lost = [each for each in self._known.values() if not feed.follows(each.connection_id)]
        try:
            for reader in lost:
                if reader.connection_id in feed.gone:
                    await self._subscribers.remove(run.session_id, reader.connection_id)
                await self._runs.leave(run.run_id, reader.connection_id, nonce=reader.nonce)
        except StorageError:  # the next beat finds them again
            return

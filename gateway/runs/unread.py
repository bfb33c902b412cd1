"""Ending runs that nobody has read for a while, where the operator wants that. Off by default."""

import asyncio
import logging

from gateway.runs.live_run import LiveRun
from gateway.runs.live_runs import LiveRuns

log = logging.getLogger(__name__)


def end_if_unread(live: LiveRun, *, after_s: float) -> None:
    """Stop a generation that had no reader for so long: its upstream is closed, its text is kept.

    It ends as `interrupted`, for nobody has asked to cancel it. A run that waits to begin is left alone,
    as is one that is ending.

    Args:
        live: the run.
        after_s: in seconds, counted from the generation's begin or the last reader's leave, whichever is
            later; 0 for never.
    """
    if not after_s or not live.generating or live.feed.readers:
        return
    if asyncio.get_running_loop().time() - live.feed.unread_since >= after_s:
        log.info("unread run ended", extra={"run_id": live.run.run_id})
        live.interrupt()


async def end_unread(runs: LiveRuns, *, after_s: float, every_s: float) -> None:
    """Look at all runs of a process now and then, until cancelled; where no beat does it.

    Args:
        runs: those that are live here.
        after_s: as for `end_if_unread`.
        every_s: seconds between two looks; a run may go on for so much longer.
    """
    while True:
        await asyncio.sleep(every_s)
        for live in runs.all():
            end_if_unread(live, after_s=after_s)

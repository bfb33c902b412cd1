"""What a starting process does with the runs that its predecessor left unfinished."""

import logging
from collections.abc import Callable, Sequence

from gateway.turns.seal import Sealer
from storage.errors import NotRunOwnerError
from storage.records import Owner, Run

log = logging.getLogger(__name__)


async def recover(
    unfinished: Sequence[tuple[Owner, Run]],
    *,
    sealer: Sealer,
    start: Callable[[Owner, Run], None],
) -> None:
    """Seal what was being generated, start what was waiting.

    A run that had begun is never generated again: its reader may have seen a part of it. One that was
    accepted but never claimed is answered now, each session's oldest first; the others follow it.

    Args:
        unfinished: every run that is not ended, oldest first.
        sealer: ends the dead ones.
        start: starts a queued one.
    """
    waiting = {run.session_id for _, run in unfinished if run.state == "running"}
    for owner, run in unfinished:
        if run.state == "running":
            try:
                following = await sealer.seal(owner, run)
            except NotRunOwnerError:
                continue
            if following is not None:
                start(owner, following)
        elif run.session_id not in waiting:
            waiting.add(run.session_id)
            start(owner, run)
    if unfinished:
        log.info("unfinished runs recovered", extra={"runs": len(unfinished)})

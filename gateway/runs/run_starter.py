"""Who generates replies."""

from typing import Final, Protocol

from gateway.runs.live_run import LiveRun
from storage.records import Run

BEGUN_WITHIN_S: Final = 4.0
"""A run that is still queued after so long is handed to a process once more; its claim stays single.

Less than an accept may take to fail that was stored all the same: who sends again then is answered.
"""


class RunStarter(Protocol):
    """A supervised task on the local host, another invocation on AWS."""

    def start(self, live: LiveRun) -> None:
        """Begin to generate, unless that was begun before; returns at once."""
        ...


def may_yet_begin(run: Run, within_s: float, *, now: float) -> bool:
    """Whether a queued run was accepted so lately that a process may be about to claim it.

    One that another clock has dated ahead is not waited for: who knows for how long.
    """
    return 0 <= now - run.created_at < within_s

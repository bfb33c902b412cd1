"""Who generates replies."""

from typing import Protocol

from gateway.runs.live_run import LiveRun


class RunStarter(Protocol):
    """A supervised task on the local host, another invocation on AWS."""

    @property
    def may_claim(self) -> bool:
        """Whether a run that is accepted now may be claimed at once, because it begins here at once."""
        ...

    def start(self, live: LiveRun) -> None:
        """Begin to generate, unless that was begun before; returns at once."""
        ...

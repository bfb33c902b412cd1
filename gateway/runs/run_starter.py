"""Who generates replies."""

from typing import Protocol

from gateway.runs.live_run import LiveRun


class RunStarter(Protocol):
    """A supervised task on the local host, another invocation on AWS."""

    def start(self, live: LiveRun) -> None:
        """Begin to generate, unless that was begun before; returns at once."""
        ...

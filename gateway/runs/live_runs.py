"""The runs that are live in this process."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gateway.runs.followers import Followers
from gateway.runs.live_run import LiveRun
from storage.records import Owner, Run


class LiveRuns:
    """Finds a run by its id, and counts those of each owner. One per process.

    Args:
        make: builds the `LiveRun` of an accepted run.

    Attributes:
        followers: the connections that read them.
        forgets: how often `forget` was called. Whoever asks the store for a run, in order to `open` it,
            compares this before and after: if it has grown, the run's session may be deleted, and nobody
            would end the run.
    """

    def __init__(self, make: Callable[[Owner, Run], LiveRun]) -> None:
        self.followers = Followers()
        self.forgets = 0
        self._make = make
        self._runs: dict[str, LiveRun] = {}
        self._under_way: dict[Owner, Counter[str]] = {}

    def all(self) -> list[LiveRun]:
        """Return the live runs, oldest first."""
        return list(self._runs.values())

    def open(self, owner: Owner, run: Run) -> LiveRun:
        """Return the run's live object, made if need be."""
        live = self._runs.get(run.run_id)
        if live is None:
            live = self._runs[run.run_id] = self._make(owner, run)
            self._count_in(owner, run.run_id)
            self.followers.follow_new(live.feed, run.session_id)
        return live

    def find(self, owner: Owner, run_id: str) -> LiveRun | None:
        """Return that owner's live run, or `None`."""
        live = self._runs.get(run_id)
        return live if live is not None and live.owner == owner else None

    def count(self, owner: Owner) -> int:
        """Return how many runs of that owner are being accepted, queued or under way here."""
        return len(self._under_way.get(owner, ()))

    def counts(self, owner: Owner, run_id: str) -> bool:
        """Whether that run is among those."""
        return run_id in self._under_way.get(owner, ())

    @contextmanager
    def accepting(self, owner: Owner, run_id: str) -> Iterator[None]:
        """Count a run from before it is accepted: who asks meanwhile finds its place taken.

        It counts once, however often it is being accepted, and also if it is opened before the end.
        """
        self._count_in(owner, run_id)
        try:
            yield
        finally:
            self._count_out(owner, run_id)

    def _count_in(self, owner: Owner, run_id: str) -> None:
        self._under_way.setdefault(owner, Counter())[run_id] += 1

    def _count_out(self, owner: Owner, run_id: str) -> None:
        runs = self._under_way[owner]
        runs[run_id] -= 1
        if not runs[run_id]:
            del runs[run_id]
        if not runs:
            del self._under_way[owner]

    def of_session(self, owner: Owner, session_id: str) -> list[LiveRun]:
        """Return that owner's live runs in one session, oldest first."""
        return [
            live
            for live in self._runs.values()
            if live.owner == owner and live.run.session_id == session_id
        ]

    def retire(self, live: LiveRun, *, linger_s: float) -> None:
        """Say that a run has ended; it can be resumed from memory for `linger_s` seconds more.

        Readers that are not at its end by then keep their feed.
        """
        self._count_out(live.owner, live.run.run_id)
        asyncio.get_running_loop().call_later(linger_s, self.drop, live)

    def drop(self, live: LiveRun) -> None:
        """Find a run no more; who reads it keeps reading to its end.

        Its id may be another run's by then: a session was forgotten, and its message sent again.
        """
        if self._runs.get(live.run.run_id) is live:
            del self._runs[live.run.run_id]

    def forget(self, owner: Owner, session_id: str) -> list[LiveRun]:
        """Find the runs of a session no more that was deleted, and return them; the caller ends them."""
        self.forgets += 1
        found = self.of_session(owner, session_id)
        for live in found:
            self.drop(live)
        return found

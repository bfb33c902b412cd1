"""The runs that are live in this process, and the feeds that its connections follow."""

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from weakref import WeakSet

from gateway.runs.feed import Feed
from gateway.runs.live_run import LiveRun
from gateway.runs.transport import Transport
from gateway.wire.errors import CloseCode
from storage.records import Owner, Run

SESSIONS_MAX = 16
"""How many sessions one connection may follow at a time."""

BACKLOG_BYTES = 1_048_576
"""How much of answers that have ended a stalled connection may leave unread, besides the longest of them.

Counted are the events that it has not taken. Each such answer is held in memory for it.
"""

STALLED_S = 30.0
"""A connection that has not taken a frame for so long, in seconds, is stalled.

A slow one is not: on the local host, what waits in front of a frame is the socket's 64 KB and a frame of
each other answer that it reads. For eight of them a link of 5 KB/s carries that in time.
"""

_Session = tuple[Owner, str]

log = logging.getLogger(__name__)


class LiveRuns:
    """Finds a run by its id and the feeds of a connection. One per process.

    Args:
        make: builds the `LiveRun` of an accepted run.

    Attributes:
        forgets: how often `forget` was called. What the store said of a run before is not to be opened
            after: nobody would end it.
    """

    def __init__(self, make: Callable[[Owner, Run], LiveRun]) -> None:
        self.forgets = 0
        self._make = make
        self._runs: dict[str, LiveRun] = {}
        self._under_way: dict[Owner, Counter[str]] = {}
        self._feeds: defaultdict[str, WeakSet[Feed]] = defaultdict(WeakSet)
        self._closing: set[asyncio.Task[None]] = set()
        self._subscribers: dict[_Session, set[str]] = {}
        self._subscribed: dict[str, set[_Session]] = {}

    def all(self) -> list[LiveRun]:
        """Return the live runs, oldest first."""
        return list(self._runs.values())

    def open(self, owner: Owner, run: Run) -> LiveRun:
        """Return the run's live object, made if need be."""
        live = self._runs.get(run.run_id)
        if live is None:
            live = self._runs[run.run_id] = self._make(owner, run)
            self._count_in(owner, run.run_id)
            for connection_id in tuple(self._subscribers.get((owner, run.session_id), ())):
                self.follow(live.feed, connection_id, after=0)
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

    def follow(self, feed: Feed, connection_id: str, *, after: int) -> None:
        """Make a connection a reader of that feed, until it leaves or has all of it.

        One that lets answer after answer pile up and takes nothing of them is closed instead. It comes back
        when it reads again, and resumes what it lacks. One that goes on reading is not, whatever it lacks:
        it would come back to the same.
        """
        feeds = [
            each
            for each in self._feeds[connection_id]
            if not each.complete or each.is_ahead_of(connection_id)
        ]
        self._feeds[connection_id] = WeakSet((*feeds, feed))
        feed.follow(connection_id, after=after)
        unread = [
            each.backlog(connection_id, stalled_s=STALLED_S) for each in feeds if each.complete
        ]
        if unread and sum(unread) - max(unread) > BACKLOG_BYTES:
            self._close(connection_id, feed.transport)

    def _close(self, connection_id: str, transport: Transport) -> None:
        self.leave(connection_id)
        closing = transport.close(connection_id, CloseCode.RATE, "too much is unread")
        task = asyncio.create_task(closing)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        log.info("stalled reader closed", extra={"connection_id": connection_id})

    def subscribe(self, owner: Owner, session_id: str, connection_id: str) -> bool:
        """Make a connection a reader of every run of a session that is opened from now on.

        Returns:
            False if it follows `SESSIONS_MAX` sessions already.
        """
        session = owner, session_id
        followed = self._subscribed.setdefault(connection_id, set())
        if session not in followed and len(followed) >= SESSIONS_MAX:
            return False
        followed.add(session)
        self._subscribers.setdefault(session, set()).add(connection_id)
        return True

    def unsubscribe(self, owner: Owner, session_id: str, connection_id: str) -> None:
        """Undo `subscribe`; feeds that the connection follows already it goes on following."""
        session = owner, session_id
        self._subscribed.get(connection_id, set()).discard(session)
        self._drop_subscriber(session, connection_id)

    def _drop_subscriber(self, session: "_Session", connection_id: str) -> None:
        subscribers = self._subscribers.get(session, set())
        subscribers.discard(connection_id)
        if not subscribers:
            self._subscribers.pop(session, None)

    def leave(self, connection_id: str) -> None:
        """Forget a closed connection. Its runs go on."""
        for session in self._subscribed.pop(connection_id, ()):
            self._drop_subscriber(session, connection_id)
        for feed in self._feeds.pop(connection_id, ()):
            feed.unfollow(connection_id)

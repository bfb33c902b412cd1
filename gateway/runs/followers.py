"""Which connections read what: the feeds that each follows, and the sessions it wants to hear of."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence
from weakref import WeakSet

from gateway.runs.feed import Feed
from gateway.runs.transport import Transport
from gateway.wire.errors import CloseCode
from storage.records import Owner

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


class Followers:
    """The connections of this process, as readers. One that is closed must `leave`."""

    def __init__(self) -> None:
        self._feeds: defaultdict[str, WeakSet[Feed]] = defaultdict(WeakSet)
        self._closing: set[asyncio.Task[None]] = set()
        self._subscribers: dict[_Session, set[str]] = {}
        self._subscribed: dict[str, set[_Session]] = {}
        self._connections: dict[Owner, set[str]] = {}
        self._owners: dict[str, Owner] = {}

    def register(self, owner: Owner, connection_id: str) -> None:
        """Know a connection as that owner's; harmless when repeated.

        Whose it was before, if anyone's, has not become its user after all.
        """
        if self._owners.get(connection_id) != owner:
            self._deregister(connection_id)
        self._owners[connection_id] = owner
        self._connections.setdefault(owner, set()).add(connection_id)

    def connections_of(self, owner: Owner) -> Sequence[str]:
        """Return the owner's connections that were registered and have not left."""
        return tuple(self._connections.get(owner, ()))

    def follow_new(self, feed: Feed, session_id: str) -> None:
        """Make all who subscribed to a session readers of a new run in it."""
        for connection_id in tuple(self._subscribers.get((feed.owner, session_id), ())):
            self.follow(feed, connection_id, after=0)

    def follow(self, feed: Feed, connection_id: str, *, after: int) -> None:
        """Make a connection a reader of that feed, until it leaves or has all of it.

        Of one run it reads one feed: another one, made when it resumed that run before, it leaves.

        One that lets answer after answer pile up and takes nothing of them is closed instead. It comes back
        when it reads again, and resumes what it lacks. One that goes on reading is not, whatever it lacks:
        it would come back to the same.
        """
        feeds = []
        for each in self._feeds[connection_id]:
            if each is not feed and each.run_id == feed.run_id:
                each.unfollow(connection_id)
            elif not each.complete or each.is_ahead_of(connection_id):
                feeds.append(each)
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
        self._deregister(connection_id)
        for session in self._subscribed.pop(connection_id, ()):
            self._drop_subscriber(session, connection_id)
        for feed in self._feeds.pop(connection_id, ()):
            feed.unfollow(connection_id)

    def _deregister(self, connection_id: str) -> None:
        owner = self._owners.pop(connection_id, None)
        if owner is None:
            return
        connections = self._connections[owner]
        connections.discard(connection_id)
        if not connections:
            del self._connections[owner]

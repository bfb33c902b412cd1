"""Hints to a user's other connections: a session has changed, read it again."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Protocol

from gateway.runs.transport import GoneError, Transport
from gateway.wire.answers import Notice
from storage.errors import StorageError
from storage.records import Connection, Owner

PATIENCE_S: Final = 0.5
"""How long the store may take, in seconds: a command waits, and no hint is worth more."""

log = logging.getLogger(__name__)


class Neighbours(Protocol):
    """Knows the open connections of every user: `LocalNeighbours` or `SharedNeighbours`."""

    async def register(self, owner: Owner, connection: Connection) -> None:
        """Know a connection as one of that owner's until it closes; harmless when repeated.

        Raises:
            StorageUnavailableError: the store refuses.
        """
        ...

    async def others(self, owner: Owner, connection: Connection) -> Sequence[str]:
        """Return the ids of the owner's registered connections but that one, if their identity holds.

        Where processes share them it may be the newest only.

        Raises:
            StorageUnavailableError: the store refuses.
        """
        ...


class Notices:
    """Tells a user's other connections what no frame of theirs would tell them.

    Best effort: nothing is said again, and what fails is logged. Nobody waits for a frame to be taken, so
    a connection that takes none gets no further one until it does.

    Args:
        neighbours: knows the connections.
        transport: where the frames leave.
    """

    def __init__(self, *, neighbours: Neighbours, transport: Transport) -> None:
        self._neighbours = neighbours
        self._transport = transport
        self._unsent: dict[str, asyncio.Future[None]] = {}

    async def register(self, owner: Owner, connection: Connection) -> None:
        """Have a connection told from now on of what the owner's others change."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._neighbours.register(owner, connection)
        except (StorageError, TimeoutError) as error:
            fields = {"connection_id": connection.connection_id, "cause": _cause(error)}
            log.warning("connection not registered", extra=fields)

    async def session_changed(self, owner: Owner, session_id: str, *, by: Connection) -> None:
        """Tell all but the connection that has changed it."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                others = await self._neighbours.others(owner, by)
        except (StorageError, TimeoutError) as error:
            fields = {"session_id": session_id, "cause": _cause(error)}
            log.warning("change of a session not told", extra=fields)
            return
        frame = Notice(kind="session.changed", session_id=session_id).encode()
        for connection_id in others:
            if connection_id not in self._unsent:
                self._post(connection_id, frame)

    def _post(self, connection_id: str, frame: bytes) -> None:
        with suppress(GoneError):
            pending = self._transport.post(connection_id, frame)
            if pending is not None:
                self._unsent[connection_id] = waiting = asyncio.ensure_future(pending)
                waiting.add_done_callback(lambda sent: self._was_sent(connection_id, sent))

    def _was_sent(self, connection_id: str, sent: asyncio.Future[None]) -> None:
        del self._unsent[connection_id]
        if not sent.cancelled():
            sent.exception()  # its line is gone; whoever posted knows


def _cause(error: StorageError | TimeoutError) -> str:
    return "no answer in time" if isinstance(error, TimeoutError) else str(error)

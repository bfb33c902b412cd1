"""Whose identity still holds, of the connections that read a run in another process."""

import asyncio
import logging
from collections.abc import Callable, Sequence

from gateway.identity.principal import still_holds
from storage.errors import StorageError
from storage.records import RunReader
from storage.repositories import Connections

ASK_AGAIN_S = 5.0
"""How soon the record of a connection is read again that had not been renewed, or could not be read."""

log = logging.getLogger(__name__)


class Identities:
    """Tells which readers may be posted to. Lives as long as one run.

    A reader says when its identity was to expire as it joined. Its connection may have been renewed
    since (`auth`), so its record is read, but only once that time and the grace are over: nearly never.

    Args:
        connections: the records.
        clock: Unix time in seconds.
    """

    def __init__(self, connections: Connections, *, clock: Callable[[], float]) -> None:
        self._connections = connections
        self._clock = clock
        self._renewed_until: dict[str, float] = {}
        self._ask_after: dict[str, float] = {}
        self._ask_nobody_before = 0.0
        self._asking = asyncio.Lock()

    async def holding(self, readers: Sequence[RunReader]) -> list[RunReader]:
        """Return those whose identity holds, or has not been over for longer than the grace.

        Whoever is not known to be renewed is left out; it may be among them the next time. Calls wait for
        each other: who is being looked up for one is not left out by another.
        """
        async with self._asking:
            return [reader for reader in readers if await self._holds(reader)]

    async def _holds(self, reader: RunReader) -> bool:
        name, now = reader.connection_id, self._clock()
        if still_holds(reader.auth_expires_at, now=now):
            return True
        if still_holds(self._renewed_until.get(name, 0.0), now=now):
            return True
        if now < max(self._ask_after.get(name, 0.0), self._ask_nobody_before):
            return False
        self._ask_after[name] = now + ASK_AGAIN_S
        self._renewed_until[name] = await self._expiry(name)
        return still_holds(self._renewed_until[name], now=now)

    async def _expiry(self, connection_id: str) -> float:
        try:
            connection = await self._connections.get(connection_id)
        except StorageError:
            # It may have hung, and a beat that waits for eight of those comes too late.
            self._ask_nobody_before = self._clock() + ASK_AGAIN_S
            log.warning("a renewal cannot be looked up", extra={"connection_id": connection_id})
            return 0.0
        return connection.auth_expires_at if connection is not None else 0.0

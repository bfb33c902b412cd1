"""The open connections of one user, known by each other."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from gateway.identity.principal import still_holds
from gateway.runs.followers import Followers
from storage.records import Connection, Owner, RunReader
from storage.repositories import SharedStore

EVERY_SESSION: Final = "*"
"""Stands for a session's id, which none is, where an owner's connections are kept: as subscribers."""


class LocalNeighbours:
    """Those of this process, all of them. Implements `Neighbours`.

    Args:
        followers: forgets a connection when it closes.
    """

    def __init__(self, followers: Followers) -> None:
        self._followers = followers

    async def register(self, owner: Owner, connection: Connection) -> None:
        """Know a connection as one of that owner's, until it leaves."""
        self._followers.register(owner, connection.connection_id)

    async def others(self, owner: Owner, connection: Connection) -> Sequence[str]:
        """Return the owner's other connections, by their ids."""
        known = self._followers.connections_of(owner)
        return [other for other in known if other != connection.connection_id]


class SharedNeighbours:
    """Those that any process has registered, the newest `MAX_READERS`. Implements `Neighbours`.

    Args:
        store: what the processes share.
        new_reader: makes the row of a connection.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        *,
        store: SharedStore,
        new_reader: Callable[[Connection], RunReader],
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._new_reader = new_reader
        self._clock = clock

    async def register(self, owner: Owner, connection: Connection) -> None:
        """Know a connection as one of that owner's; see `Neighbours.register`.

        Raises:
            StorageUnavailableError: the store refuses.
        """
        subscribers = self._store.of(owner).subscribers
        reader = self._new_reader(connection)
        await subscribers.add(EVERY_SESSION, reader, expires_at=connection.expires_at)

    async def others(self, owner: Owner, connection: Connection) -> Sequence[str]:
        """Return the owner's other connections; see `Neighbours.others`.

        A closed one is forgotten here and not when it closes: whoever learns of that reads no one's data.

        Raises:
            StorageUnavailableError: the store refuses.
        """
        now = self._clock()
        readers = await self._store.of(owner).subscribers.of(EVERY_SESSION, now=now)
        names = [reader.connection_id for reader in readers]
        others = [name for name in names if name != connection.connection_id]
        are_there = await asyncio.gather(*(self._is_there(owner, name, now) for name in others))
        return [name for name, is_there in zip(others, are_there, strict=True) if is_there]

    async def _is_there(self, owner: Owner, connection_id: str, now: float) -> bool:
        connection = await self._store.connections.get(connection_id)
        if connection is None:
            await self._store.of(owner).subscribers.remove(EVERY_SESSION, connection_id)
            return False
        return connection.owner == owner and still_holds(connection.auth_expires_at, now=now)

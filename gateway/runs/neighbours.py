"""The open connections of one user, known by each other."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from gateway.identity.principal import still_holds
from gateway.runs.followers import Followers
from storage.records import MAX_READERS, Connection, Owner, RunReader
from storage.repositories import SharedStore

EVERY_SESSION: Final = "*"
"""Stands for a session's id, which none is, where an owner's connections are kept: as subscribers."""

_ROUNDS: Final = 4
"""How often the newest are read again, each time without those that turned out to be closed."""


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

        A closed one is forgotten here and not when it closes: whoever learns of that may not write what
        is its owner's. As the newest are read first, those in turn hide living ones until they are
        forgotten: hence a few rounds, and what they leave the next call goes on with.

        Raises:
            StorageUnavailableError: the store refuses.
        """
        there: Sequence[str] = ()
        for _ in range(_ROUNDS):
            there, are_all = await self._newest(owner, but=connection.connection_id)
            if are_all:
                break
        return there

    async def _newest(self, owner: Owner, *, but: str) -> tuple[Sequence[str], bool]:
        """Return those of the newest that are there, and whether none took the place of an older one."""
        now = self._clock()
        store = self._store.of(owner)
        readers = await store.subscribers.of(EVERY_SESSION, now=now)
        names = [reader.connection_id for reader in readers if reader.connection_id != but]
        found = await asyncio.gather(*map(self._store.connections.get, names))
        closed = [name for name, known in zip(names, found, strict=True) if known is None]
        await asyncio.gather(*(store.subscribers.remove(EVERY_SESSION, name) for name in closed))
        there = [
            known.connection_id
            for known in found
            if known is not None
            if known.owner == owner and still_holds(known.auth_expires_at, now=now)
        ]
        return there, not closed or len(readers) < MAX_READERS

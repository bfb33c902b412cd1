"""The open connections of the one process that owns the data folder.

A socket dies with its process, so what is known of it lives in memory too: there is nothing that a later
process could do with it, and a connect costs no write.
"""

from collections.abc import Callable

from storage.records import Connection


class LocalConnections:
    """`Connections` of the embedded backend.

    Args:
        clock: Unix time in seconds; decides what has expired.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._open: dict[str, Connection] = {}

    async def save(self, connection: Connection) -> None:
        """Store a connection as it is now."""
        self._open[connection.connection_id] = connection

    async def get(self, connection_id: str) -> Connection | None:
        """Return the connection, or `None` once it is closed or expired."""
        connection = self._open.get(connection_id)
        return connection if connection and connection.expires_at > self._clock() else None

    async def remove(self, connection_id: str) -> None:
        """Forget a closed connection; harmless when repeated."""
        self._open.pop(connection_id, None)

    def purge(self, *, now: float, limit: int) -> int:
        """Forget up to `limit` expired ones and return how many those were."""
        expired = [each for each in self._open.values() if each.expires_at <= now][:limit]
        for connection in expired:
            del self._open[connection.connection_id]
        return len(expired)

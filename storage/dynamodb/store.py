"""The shared backend as a whole: two DynamoDB tables and a store of large bodies, used by many processes."""

import time
from collections.abc import Callable

from storage.blobs.blob_store import BlobStore
from storage.dynamodb.client import DynamoClient
from storage.dynamodb.connections import DynamoConnections
from storage.dynamodb.contents import Contents
from storage.dynamodb.forget import Forgetting
from storage.dynamodb.key_documents import DynamoKeyDocuments
from storage.dynamodb.log_writers import LogWriters
from storage.dynamodb.memories import DynamoMemories
from storage.dynamodb.messages import DynamoMessages
from storage.dynamodb.payloads import DynamoPayloads
from storage.dynamodb.run_log import DynamoRunLog
from storage.dynamodb.runs import DynamoRuns
from storage.dynamodb.sessions import DynamoSessions
from storage.dynamodb.subscribers import DynamoSubscribers
from storage.dynamodb.table import DataTable
from storage.dynamodb.tickets import DynamoTickets
from storage.records import Owner
from storage.repositories import SharedRepositories


class DynamoStore:
    """`SharedStore` over two tables. Making it asks nobody; close it with `aclose`.

    Args:
        client: who is asked. It outlives the store.
        data: name of the table of what belongs to owners.
        door: name of the table of what a connect needs.
        blobs: keeps the text of large messages. It outlives the store.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        client: DynamoClient,
        *,
        data: str,
        door: str,
        blobs: BlobStore,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._table = DataTable(client, data)
        self._blobs = blobs
        self._clock = clock
        self._writers = LogWriters(self._table, clock)
        self._tickets = DynamoTickets(client, door)
        self._connections = DynamoConnections(client, door, clock=clock)
        self._keys = DynamoKeyDocuments(client, door)

    @property
    def tickets(self) -> DynamoTickets:
        """Handshake tickets."""
        return self._tickets

    @property
    def connections(self) -> DynamoConnections:
        """Open connections."""
        return self._connections

    @property
    def keys(self) -> DynamoKeyDocuments:
        """Key documents of token issuers."""
        return self._keys

    def of(self, owner: Owner) -> SharedRepositories:
        """Return the repositories bound to that owner; cheap, no I/O."""
        table, writers = self._table, self._writers
        contents = Contents(owner, self._blobs)
        forgetting = Forgetting(owner, table, contents, self._blobs, writers)
        return SharedRepositories(
            sessions=DynamoSessions(owner, table, forgetting),
            messages=DynamoMessages(owner, table, contents),
            memories=DynamoMemories(owner, table),
            subscribers=DynamoSubscribers(owner, table),
            runs=DynamoRuns(owner, table, contents, writers),
            log=DynamoRunLog(owner, table, writers),
            payloads=DynamoPayloads(owner, table, self._clock),
        )

    async def aclose(self) -> None:
        """Write out what is pending."""
        await self._writers.aclose()

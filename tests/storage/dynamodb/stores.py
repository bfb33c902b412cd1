"""Stores on an engine, with two tables and a folder of blobs of their own for one test."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from storage.blobs.blob_store import BlobStore
from storage.blobs.files import open_file_blobs
from storage.dynamodb.client import DynamoClient, Item
from storage.dynamodb.signed_client import SignedClient
from storage.dynamodb.store import DynamoStore
from storage.dynamodb.tables import create_tables
from storage.repositories import SharedRepositories, SharedStore
from tests.engines.fault_proxy import FaultProxy, fault_proxy
from tests.engines.processes import Engine
from tests.storage.dynamodb.clients import opened, signed
from tests.storage.samples import ANNA, Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """Both tables.

    Attributes:
        url: of the engine, or of what stands before it.
        data, door: their names.
        clock: of every store.
        clients: that were made here.
    """

    url: str
    data: str
    door: str
    blobs: BlobStore
    clock: Clock
    clients: list[SignedClient] = field(default_factory=list)

    def client(self) -> SignedClient:
        """Return one more client; it is closed with the tables."""
        self.clients.append(signed(self.url))
        return self.clients[-1]

    def store(self, client: DynamoClient | None = None) -> DynamoStore:
        """Return one more store, unless told otherwise with a client of its own."""
        client = self.client() if client is None else client
        return DynamoStore(
            client, data=self.data, door=self.door, blobs=self.blobs, clock=self.clock
        )


@asynccontextmanager
async def new_tables(url: str, folder: Path) -> AsyncIterator[Tables]:
    (folder / "shared").mkdir()
    blobs = await open_file_blobs(folder / "shared")
    name = uuid.uuid4().hex
    tables = Tables(url=url, data=f"data-{name}", door=f"door-{name}", blobs=blobs, clock=Clock())
    async with opened(signed(url)) as client:
        await create_tables(client, data=tables.data, door=tables.door)
    try:
        yield tables
    finally:
        for client in tables.clients:
            await client.aclose()
        await blobs.aclose()


@dataclass(frozen=True, slots=True, kw_only=True)
class Faulty:
    """A store whose requests pass through the fault proxy."""

    tables: Tables
    store: SharedStore
    proxy: FaultProxy
    engine: Engine

    @property
    def mine(self) -> SharedRepositories:
        return self.store.of(ANNA)

    async def items(self) -> list[Item]:
        """Return all of the table of data, past the proxy."""
        async with opened(signed(self.engine.url)) as client:
            answer = await client.call("Scan", {"TableName": self.tables.data})
        items: list[Item] = answer["Items"]
        return items


@asynccontextmanager
async def faulty_store(engine: Engine, folder: Path) -> AsyncIterator[Faulty]:
    with fault_proxy(engine) as proxy:
        async with new_tables(proxy.url, folder) as tables:
            store = tables.store()
            try:
                yield Faulty(tables=tables, store=store, proxy=proxy, engine=engine)
            finally:
                proxy.heal()
                await store.aclose()

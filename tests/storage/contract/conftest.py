from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar

import pytest

from storage.repositories import EmbeddedStore, SharedStore, Store
from tests.storage.contract import backends
from tests.storage.contract.backends import Backend, Start
from tests.storage.contract.blob_stores import BLOB_STORES, BlobHost, deviation

S = TypeVar("S", bound=Store)


@pytest.fixture(params=sorted(backends.BACKENDS))
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[Backend[Store]]:
    async with running(request, backends.BACKENDS) as backend:
        yield backend


@pytest.fixture
async def store(backend: Backend[Store]) -> AsyncIterator[Store]:
    async with opened(backend) as store:
        yield store


@pytest.fixture(params=sorted(backends.EMBEDDED))
async def embedded(request: pytest.FixtureRequest) -> AsyncIterator[Backend[EmbeddedStore]]:
    """A backend that lives in the data folder of one process."""
    async with running(request, backends.EMBEDDED) as backend:
        yield backend


@pytest.fixture
async def embedded_store(embedded: Backend[EmbeddedStore]) -> AsyncIterator[EmbeddedStore]:
    async with opened(embedded) as store:
        yield store


@pytest.fixture(params=sorted(backends.SHARED))
async def shared(request: pytest.FixtureRequest) -> AsyncIterator[Backend[SharedStore]]:
    """A backend that many processes use at once."""
    async with running(request, backends.SHARED) as backend:
        yield backend


@pytest.fixture
async def shared_store(shared: Backend[SharedStore]) -> AsyncIterator[SharedStore]:
    async with opened(shared) as store:
        yield store


@pytest.fixture
async def another(shared: Backend[SharedStore]) -> AsyncIterator[SharedStore]:
    """What another process has opened of the same data."""
    async with opened(shared) as store:
        yield store


@asynccontextmanager
async def running(
    request: pytest.FixtureRequest, kinds: Mapping[str, Start[S]]
) -> AsyncIterator[Backend[S]]:
    """Start the backend of a fixture's parameter; a test that it is known to fail is marked."""
    if mark := backends.race(request.param, request.node.originalname):
        request.applymarker(mark)
    async with kinds[request.param](request) as backend:
        yield backend


@asynccontextmanager
async def opened(backend: Backend[S]) -> AsyncIterator[S]:
    store = await backend.open()
    try:
        yield store
    finally:
        await store.aclose()


@pytest.fixture(params=sorted(BLOB_STORES))
async def host(request: pytest.FixtureRequest) -> AsyncIterator[BlobHost]:
    case = request.node.callspec.id.removeprefix(request.param).strip("-")
    if mark := deviation(request.param, request.node.originalname, case):
        request.applymarker(mark)
    async with BLOB_STORES[request.param](request) as host:
        yield host

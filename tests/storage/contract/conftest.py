from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage.repositories import Store
from tests.storage.contract.backends import BACKENDS, Backend
from tests.storage.contract.blob_stores import BLOB_STORES, BlobHost


@pytest.fixture(params=sorted(BACKENDS))
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    async with BACKENDS[request.param](tmp_path) as backend:
        yield backend


@pytest.fixture
async def store(backend: Backend) -> AsyncIterator[Store]:
    store = await backend.open()
    yield store
    await store.aclose()


@pytest.fixture(params=sorted(BLOB_STORES))
async def host(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BlobHost]:
    async with BLOB_STORES[request.param](tmp_path) as host:
        yield host

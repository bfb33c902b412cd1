from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from storage.repositories import Store
from tests.engines.processes import Engine, ministack
from tests.storage.contract.backends import BACKENDS, Backend
from tests.storage.contract.blob_stores import BLOB_STORES, BlobHost, deviation


@pytest.fixture(params=sorted(BACKENDS))
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    async with BACKENDS[request.param](tmp_path) as backend:
        yield backend


@pytest.fixture
async def store(backend: Backend) -> AsyncIterator[Store]:
    store = await backend.open()
    yield store
    await store.aclose()


@pytest.fixture(scope="module")
def strict_ministack() -> Iterator[Engine]:
    """Also checks who has signed a form, and who may do what."""
    with ministack(AUTH="true", AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test") as engine:
        yield engine


@pytest.fixture(params=sorted(BLOB_STORES))
async def host(request: pytest.FixtureRequest) -> AsyncIterator[BlobHost]:
    case = request.node.callspec.id.removeprefix(request.param).strip("-")
    if mark := deviation(request.param, request.node.originalname, case):
        request.applymarker(mark)
    async with BLOB_STORES[request.param](request) as host:
        yield host

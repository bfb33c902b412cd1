import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from storage.dynamodb.signed_client import SignedClient
from storage.dynamodb.tables import create_tables
from tests.engines.fault_proxy import FaultProxy, fault_proxy
from tests.engines.processes import Engine
from tests.storage.dynamodb.clients import Table, opened, signed
from tests.storage.dynamodb.stores import Tables, new_tables


@pytest.fixture(params=["dynoxide", "moto_server"])
def engine(request: pytest.FixtureRequest) -> Engine:
    found: Engine = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def tables(dynoxide: Engine, tmp_path: Path) -> AsyncIterator[Tables]:
    """Both tables on dynoxide, and stores over them."""
    async with new_tables(dynoxide.url, tmp_path) as tables:
        yield tables


@pytest.fixture
def proxy(dynoxide: Engine) -> Iterator[FaultProxy]:
    with fault_proxy(dynoxide) as proxy:
        yield proxy


@pytest.fixture
async def client(engine: Engine) -> AsyncIterator[SignedClient]:
    async with opened(signed(engine.url)) as client:
        yield client


@pytest.fixture
async def table(client: SignedClient) -> Table:
    return await new_table(client)


@pytest.fixture
async def faulty_client(proxy: FaultProxy) -> AsyncIterator[SignedClient]:
    async with opened(signed(proxy.url)) as client:
        yield client


@pytest.fixture
async def faulty_table(faulty_client: SignedClient, proxy: FaultProxy) -> Table:
    """A table on dynoxide, which the client asks through the fault proxy."""
    table = await new_table(faulty_client)
    proxy.asked.clear()
    return table


async def new_table(client: SignedClient) -> Table:
    name = f"test-{uuid.uuid4().hex}"
    await create_tables(client, data=name, door=f"{name}-door")
    return Table(client=client, name=name)

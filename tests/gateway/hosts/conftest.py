from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.gateway.hosts.local_host import Clock, LocalHost, local_host
from tests.gateway.hosts.puppet import Puppet


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder that does not exist yet."""
    return tmp_path / "data"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def puppet() -> Puppet:
    return Puppet()


@pytest.fixture
async def host(folder: Path, puppet: Puppet, clock: Clock) -> AsyncIterator[LocalHost]:
    async with local_host(folder, model=puppet, clock=clock) as running:
        yield running

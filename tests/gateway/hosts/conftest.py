import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.bootstrap.local import KEY_FILE
from gateway.identity.local_key import load_or_create_key
from tests.gateway.hosts.local_host import Clock, LocalHost, local_host
from tests.gateway.hosts.puppet import Puppet


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder that does not exist yet."""
    return tmp_path / "data"


@pytest.fixture(scope="session")
def signing_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / KEY_FILE
    load_or_create_key(path)
    return path


@pytest.fixture
def folder_with_key(tmp_path: Path, signing_key: Path) -> Path:
    """A data folder with nothing in it but a key, which takes a process long to make."""
    path = tmp_path / "data"
    path.mkdir(mode=0o700)
    shutil.copy(signing_key, path / KEY_FILE)
    return path


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

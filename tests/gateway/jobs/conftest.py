from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.engines.processes import Engine
from tests.gateway.jobs.deployment import Deployment, deployment


@pytest.fixture
async def aws(dynoxide: Engine, tmp_path: Path) -> AsyncIterator[Deployment]:
    async with deployment(dynoxide.url, tmp_path) as made:
        yield made

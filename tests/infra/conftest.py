import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines import processes
from tests.gateway.identity.user_pools import make_user_pool
from tests.infra.deployment import Deployment, build, deploy


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the built template and layer, for this machine's Python."""
    return build(tmp_path_factory.mktemp("sam"))


@pytest.fixture(scope="session")
def deployed(built: Path) -> Iterator[Deployment]:
    """The whole on an engine of its own, whose functions answer by the scripted model, fast."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("MAKOTO_")]:
            patch.delenv(name)  # MiniStack hands its own environment to the functions
        with processes.ministack(MAKOTO_SCRIPTED_PACE="400") as engine:
            yield asyncio.run(deploy(engine, built, asyncio.run(make_user_pool(engine, "acme"))))

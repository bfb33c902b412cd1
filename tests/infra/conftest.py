import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines import processes
from tests.engines.processes import Engine
from tests.gateway.identity.user_pools import make_user_pool
from tests.infra.deployment import Deployment, build, deploy


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the built template and layer, for this machine's Python."""
    return build(tmp_path_factory.mktemp("sam"))


@pytest.fixture(scope="session")
def deployed(built: Path) -> Iterator[Deployment]:
    """The whole on an engine of its own that holds functions to their roles; the scripted model answers."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("MAKOTO_")]:
            patch.delenv(name)  # MiniStack hands its own environment to the functions
        with processes.ministack(AUTH="true", MAKOTO_SCRIPTED_PACE="400") as engine:
            yield asyncio.run(_deployed(engine, built))


async def _deployed(engine: Engine, built: Path) -> Deployment:
    deployment = await deploy(engine, built, await make_user_pool(engine, "acme"))
    async with deployment.client("s3") as s3:
        # The bucket refuses what does not come by TLS. MiniStack heeds that, but does not speak TLS here.
        await s3.delete_bucket_policy(Bucket=deployment.outputs["BucketName"])
    return deployment

import asyncio
import os
import socket
from collections.abc import Iterator

import pytest

from layers.archive import Archive
from tests.engines import processes
from tests.engines.processes import Engine
from tests.gateway.identity.user_pools import make_user_pool
from tests.infra.deployment import Deployment, deploy


@pytest.fixture(scope="session")
def page_port() -> int:
    """Of the demo page, whose origin must be known before the template is deployed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture(scope="session")
def deployed(built: Archive, page_port: int) -> Iterator[Deployment]:
    """The whole on an engine of its own that holds functions to their roles; the scripted model answers."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("MAKOTO_")]:
            patch.delenv(name)  # MiniStack hands its own environment to the functions
        with processes.ministack(AUTH="true", MAKOTO_SCRIPTED_PACE="400") as engine:
            yield asyncio.run(_deployed(engine, built, f"http://127.0.0.1:{page_port}"))


async def _deployed(engine: Engine, built: Archive, page: str) -> Deployment:
    pool = await make_user_pool(engine, "acme")
    deployment = await deploy(engine, built, pool, parameters={"AllowedOrigins": page})
    async with deployment.client("s3") as s3:
        # The bucket refuses what does not come by TLS. MiniStack heeds that, but does not speak TLS here.
        await s3.delete_bucket_policy(Bucket=deployment.outputs["BucketName"])
    return deployment

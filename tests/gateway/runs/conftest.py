from asyncio import AbstractEventLoop
from collections.abc import Callable, Mapping

from tests.gateway.runs.virtual_time import VirtualLoop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], AbstractEventLoop]]:
    """No test of this folder waits for real time."""
    return {"virtual": VirtualLoop}

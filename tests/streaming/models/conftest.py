import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import uvloop

from tests.engines.certificate import Certificate, issue

_OVER_THE_NETWORK = {"test_http_pool.py", "test_http_source.py", "test_openai.py"}


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run what talks to a socket on asyncio's loop and on the server's, which is another program."""
    factories = {"asyncio": asyncio.new_event_loop}
    if item.path.name in _OVER_THE_NETWORK:
        factories["uvloop"] = uvloop.new_event_loop
    return factories


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    folder: Path = tmp_path_factory.mktemp("tls")
    return issue(folder)

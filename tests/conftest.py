"""What all tests share."""

import logging
import os
import platform
import sys
from collections.abc import Iterator

import hypothesis
import pytest

from layers import publishing
from layers.archive import Archive
from tests.engines import processes
from tests.engines.processes import Engine

# An example that takes long says something of the machine, not of the code. CI tries the same ones each
# time, so that it judges the change; everybody else tries others.
hypothesis.settings.register_profile(
    "here",
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("here")


def pytest_configure() -> None:
    # asyncio's debug mode warns of slow callbacks: on a busy machine that is no fault of the code, and
    # tests that read the logs must not find it there.
    logging.getLogger("asyncio").addFilter(lambda record: "Executing" not in record.msg)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # pytest-xdist 3.8 names the group of a test where pytest 9.2 does not look: each process would start
    # what the tests of a group share.
    for item in items:
        if grouped := getattr(item, "_nodeid", None):
            item._id = type(item.id).parse(grouped)


@pytest.fixture(scope="session")
def dynoxide() -> Iterator[Engine]:
    with processes.dynoxide() as engine:
        yield engine


@pytest.fixture(scope="session")
def moto_server() -> Iterator[Engine]:
    with processes.moto_server() as engine:
        yield engine


@pytest.fixture(scope="session")
def s3rver() -> Iterator[Engine]:
    with processes.s3rver() as engine:
        yield engine


@pytest.fixture(scope="session")
def ministack() -> Iterator[Engine]:
    with processes.ministack() as engine:
        yield engine


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """The layer, built for this machine's Python: the first test that asks for it takes half a minute."""
    return publishing.build(
        runtime=f"python{sys.version_info.major}.{sys.version_info.minor}",
        architecture={"x86_64": "x86_64", "aarch64": "arm64"}[platform.machine()],
        path=tmp_path_factory.mktemp("layer") / "common.zip",
    ).archive

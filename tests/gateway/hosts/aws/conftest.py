from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.processes import Engine
from tests.gateway.hosts.aws.functions import Functions, running_functions


@pytest.fixture(scope="module")
def functions(
    dynoxide: Engine, moto_server: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Functions]:
    folder: Path = tmp_path_factory.mktemp("functions")
    with running_functions(dynoxide, moto_server, folder) as running:
        yield running

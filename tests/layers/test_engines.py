"""What we rely on in Lambda's layers, and where the engines that stand in for it differ.

Documented at https://docs.aws.amazon.com/lambda/latest/api/API_PublishLayerVersion.html and beside it.
"""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from layers import aws, versions
from layers.errors import LayerError
from layers.publishing import publish
from layers.samconfig import Target
from layers.versions import published
from tests.engines.processes import Engine
from tests.infra.deployment import sdk_for
from tests.layers.zips import small


@pytest.fixture
def target() -> Target:
    return Target(
        stack=f"a-{uuid.uuid4().hex[:12]}",
        runtime="python3.13",
        architecture="arm64",
        overrides=(),
    )


@pytest.fixture(params=["moto_server", "ministack"])
def functions(request: pytest.FixtureRequest, target: Target) -> Iterator[Any]:
    engine: Engine = request.getfixturevalue(request.param)
    with sdk_for(engine), aws.clients(target) as (functions, _):
        yield functions


def test_a_number_is_never_used_again(functions: Any, target: Target, tmp_path: Path) -> None:
    """Else what was rolled back to could be something else."""
    for number in (1, 2):
        publish(functions, target, small(tmp_path / str(number), answers=f"x = {number}"))
    versions.delete(functions, target.layer, 2)
    version, new = publish(functions, target, small(tmp_path / "again", answers="x = 2"))
    assert (version.number, new) == (3, True)
    assert [each.number for each in published(functions, target.layer)] == [3, 1]


def test_all_are_found_however_many(functions: Any, target: Target, tmp_path: Path) -> None:
    """Lambda and MiniStack hand out fifty at a time."""
    zipped = small(tmp_path, answers="x = 1").path.read_bytes()
    for _ in range(51):
        functions.publish_layer_version(LayerName=target.layer, Content={"ZipFile": zipped})
    assert [each.number for each in published(functions, target.layer)] == [*range(51, 0, -1)]


@pytest.mark.xfail(strict=True, reason="neither engine has that limit")
def test_a_description_has_no_more_than_256_characters(
    functions: Any, target: Target, tmp_path: Path
) -> None:
    archive = small(tmp_path, answers="x = 1")
    with pytest.raises(LayerError), aws.one_line():
        functions.publish_layer_version(
            LayerName=target.layer,
            Description=257 * "x",
            Content={"ZipFile": archive.path.read_bytes()},
        )

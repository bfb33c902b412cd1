from collections.abc import Iterator

import pytest

from tests.engines.processes import Engine, ministack


@pytest.fixture(scope="session")
def strict_ministack() -> Iterator[Engine]:
    """MiniStack that also checks who has signed a form, and applies a bucket's CORS rules."""
    with ministack(AUTH="true", AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test") as engine:
        yield engine

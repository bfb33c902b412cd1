from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.turns import finish, generate
from tests.gateway.turns.exchange import Exchange, exchange


@pytest.fixture
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once where the code would wait."""
    monkeypatch.setattr(generate, "CLAIM_WAITS_S", (0.0, 0.0, 0.0))
    monkeypatch.setattr(finish, "RETRIES_S", (0.0, 0.0, 0.0))
    monkeypatch.setattr(finish, "KEEP_TRYING_S", (0.0, 0.0))


@pytest.fixture(params=[True, False], ids=["claimed at once", "claimed later"])
async def chat(
    request: pytest.FixtureRequest, tmp_path: Path, no_waits: None
) -> AsyncIterator[Exchange]:
    """A host that claims when it accepts (as the local one), or one that does it on its own."""
    async with exchange(tmp_path, claim_at_once=request.param) as made:
        yield made

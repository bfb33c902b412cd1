"""The batch that `seal` gets: what becomes of one record, and that it is no other's concern."""

import asyncio
from typing import Any

import pytest

from gateway.hosts.aws import seal
from gateway.jobs.seal import RunAliveError
from storage.records import Owner
from tests.gateway.hosts.aws.functions import failure_event

WITHIN_S = 5.0


def failures(*run_ids: str) -> dict[str, Any]:
    named = [{"tenant_id": "acme", "user_id": "anna", "run_id": run_id} for run_id in run_ids]
    return failure_event(*named)


@pytest.fixture
def sealed(monkeypatch: pytest.MonkeyPatch) -> dict[str, asyncio.Event]:
    """Say of each run when it is sealed; one named `slow` is not before all others are."""
    runs: dict[str, asyncio.Event] = {}

    async def record(_: object, __: Owner, run_id: str, ___: object) -> None:
        if run_id == "alive":
            raise RunAliveError(run_id)
        if run_id == "broken":
            raise ZeroDivisionError
        if run_id == "slow":
            for other in runs.values():
                await other.wait()
        else:
            runs[run_id].set()

    class Opened:
        async def get(self) -> object:
            return object()

    monkeypatch.setattr(seal, "_process", Opened())
    monkeypatch.setattr(seal, "_seal", record)
    return runs


async def test_a_record_that_takes_long_holds_up_no_other(
    sealed: dict[str, asyncio.Event],
) -> None:
    sealed |= {run_id: asyncio.Event() for run_id in ("second", "third")}
    async with asyncio.timeout(WITHIN_S):
        failed = await seal._seal_all(failures("slow", "second", "third"), object())  # type: ignore[arg-type]
    assert failed == []


async def test_only_what_was_not_sealed_comes_again(sealed: dict[str, asyncio.Event]) -> None:
    sealed["well"] = asyncio.Event()
    event = failures("alive", "well", "broken")
    event["Records"].append({"messageId": "strange", "body": "no JSON"})
    failed = await seal._seal_all(event, object())  # type: ignore[arg-type]
    assert failed == ["message-0", "message-2"]

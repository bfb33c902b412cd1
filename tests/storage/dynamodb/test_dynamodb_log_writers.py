"""What a process knows of the logs it writes, and what it reads again when it does not."""

from collections.abc import AsyncIterator

import pytest

from storage import ttl
from storage.dynamodb import log_writers
from storage.dynamodb.store import DynamoStore
from storage.errors import NotRunOwnerError, StorageUnavailableError
from tests.storage.dynamodb.metered import Metered
from tests.storage.dynamodb.stores import Tables
from tests.storage.samples import ANNA, NOW, append, completion, entry, running, send


@pytest.fixture
def meter(tables: Tables) -> Metered:
    return Metered(tables.client())


@pytest.fixture
async def store(tables: Tables, meter: Metered) -> AsyncIterator[DynamoStore]:
    store = tables.store(meter)
    yield store
    await store.aclose()


async def test_who_has_claimed_appends_and_ends_without_reading_the_log(
    store: DynamoStore, meter: Metered
) -> None:
    run = await running(store, send(new=True))
    for number in range(1, 6):
        await append(store.of(ANNA).log, entry(run, number))
    assert meter.reads == 0

    await store.of(ANNA).runs.finish(completion(run, first=6))
    assert "Query" not in meter.calls


async def test_a_claim_that_another_process_made_is_read_once(
    tables: Tables, store: DynamoStore, meter: Metered
) -> None:
    claiming = tables.store()
    run = await running(claiming, send(new=True))
    await append(claiming.of(ANNA).log, entry(run, 1, 4))
    await claiming.aclose()
    for number in range(5, 9):
        await append(store.of(ANNA).log, entry(run, number))

    assert meter.calls == {"GetItem": 1, "Query": 1, "PutItem": 4}


async def test_claiming_again_in_the_middle_of_the_log_goes_on_behind_it(
    tables: Tables, store: DynamoStore
) -> None:
    run = await running(store, send(new=True))
    await append(store.of(ANNA).log, entry(run, 1, 4))
    again = tables.store()
    await again.of(ANNA).runs.claim(run.run_id, claimed_by="claim", lease_until=NOW + 10)
    with pytest.raises(StorageUnavailableError):
        await append(again.of(ANNA).log, entry(run, 6))

    await append(again.of(ANNA).log, entry(run, 5))
    await again.of(ANNA).runs.finish(completion(run, first=6))
    await again.aclose()


async def test_what_was_forgotten_to_save_memory_is_read_again(
    store: DynamoStore, meter: Metered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writers, "_MOST_KNOWN", 2)
    runs = [await running(store, send(f"{n}", session_id=f"{n}", new=True)) for n in range(4)]
    for number in (1, 2):
        for run in runs:
            await append(store.of(ANNA).log, entry(run, number))

    assert meter.calls["Query"] > 0
    for run in runs:
        assert len(await store.of(ANNA).log.read(run.run_id, after=0)) == 2
        with pytest.raises(NotRunOwnerError):
            await append(store.of(ANNA).log, entry(run, 3), claimed_by="stranger")


async def test_closing_waits_for_what_was_appended(tables: Tables) -> None:
    store = tables.store()
    run = await running(store, send(new=True))
    verdicts: list[object] = []
    for number in (1, 2, 3):
        store.of(ANNA).log.append(
            entry(run, number), claimed_by="claim", acknowledge=verdicts.append
        )
    await store.aclose()

    assert verdicts == [None] * 3


async def test_an_entry_outlives_the_time_in_which_its_log_is_replayed(
    tables: Tables, store: DynamoStore
) -> None:
    """Also the first entry of a run that took an hour: `log_until` counts from its end."""
    run = await running(store, send(new=True))
    await append(store.of(ANNA).log, entry(run, 1))
    tables.clock.now = NOW + 3600
    end = completion(run, first=2, at=NOW + 3600)
    await store.of(ANNA).runs.finish(end)
    answer = await tables.client().call("Scan", {"TableName": tables.data})
    expiries = [int(item["ttl"]["N"]) for item in answer["Items"] if "LOG#" in item["sk"]["S"]]

    assert len(expiries) == 2
    assert min(expiries) > end.log_until
    assert max(expiries) <= NOW + 3600 + ttl.LOG + ttl.DAY + 1
    # Nothing else expires: the conversation and its run are kept.
    assert sum("ttl" in item for item in answer["Items"]) == 2

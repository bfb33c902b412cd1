"""Several processes that share a store of key documents."""

import asyncio
import logging
from collections.abc import Callable

import pytest

from gateway.identity.errors import JwksFetchError, KeysUnavailableError
from gateway.identity.jwks import JwksCache, JwksPolicy
from storage.errors import StorageUnavailableError
from storage.records import KeyDocument
from tests.gateway.identity.forge import document, jwk
from tests.gateway.identity.jwks_world import DAY, URL, Clock, Documents, Issuer, kid_of, until

ONE = document(jwk("k1"))
TWO = document(jwk("k1"), jwk("k2", key="second"))
DOWN = StorageUnavailableError("down")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
async def documents() -> Documents:
    return Documents()


@pytest.fixture
def process(issuer: Issuer, documents: Documents, clock: Clock) -> Callable[[], JwksCache]:
    """Start a process: a cache that has loaded nothing yet."""

    def start() -> JwksCache:
        policy = JwksPolicy(store_timeout_s=0.01)
        return JwksCache(URL, fetch=issuer.fetch, clock=clock, documents=documents, policy=policy)

    return start


Process = Callable[[], JwksCache]


async def test_what_one_process_has_fetched_serves_the_next(
    issuer: Issuer, documents: Documents, clock: Clock, process: Process
) -> None:
    assert await kid_of(process(), "k1") == "k1"
    assert documents.kept[URL] == KeyDocument(url=URL, body=ONE, fetched_at=clock.now)
    clock.now += 3600
    cold = process()
    assert await kid_of(cold, "k1") == "k1"
    await cold.settle()
    assert len(issuer.asked) == 1


async def test_a_known_name_asks_neither_the_store_nor_the_issuer(
    issuer: Issuer, documents: Documents, process: Process
) -> None:
    cache = process()
    await cache.find("k1")
    for _ in range(5):
        await cache.find("k1")
    assert (len(issuer.asked), documents.reads, documents.writes) == (1, 1, 1)


async def test_a_cold_process_finds_a_new_key_behind_an_old_document_at_once(
    issuer: Issuer, documents: Documents, clock: Clock, process: Process
) -> None:
    documents.hold(ONE, clock.now - 10)
    issuer.document = TWO
    assert await kid_of(process(), "k2") == "k2"
    assert documents.kept[URL].body == TWO


@pytest.mark.parametrize(("age", "fetches"), [(0, 0), (9.9, 0), (-5, 0), (10, 1), (-11, 1)])
async def test_a_document_of_the_last_ten_seconds_stands_for_a_refresh(
    issuer: Issuer,
    documents: Documents,
    clock: Clock,
    process: Process,
    age: float,
    fetches: int,
) -> None:
    documents.hold(ONE, clock.now - age)
    cache = process()
    for n in range(5):
        assert await cache.find(f"x{n}") is None
    assert len(issuer.asked) == fetches
    assert documents.reads == 1


async def test_unknown_names_fetch_at_most_every_ten_seconds_in_all_processes_together(
    issuer: Issuer, clock: Clock, process: Process
) -> None:
    processes = [process() for _ in range(20)]
    for second in range(30):
        for n, cache in enumerate(processes):
            assert await cache.find(f"x{second}-{n}") is None
        clock.now += 1
    assert len(issuer.asked) == 3


async def test_a_warm_process_takes_over_what_another_has_fetched(
    issuer: Issuer, clock: Clock, process: Process
) -> None:
    warm, other = process(), process()
    await warm.find("k1")
    clock.now += 20
    issuer.document = TWO
    await other.find("k2")
    clock.now += 20
    assert await kid_of(warm, "k2") == "k2"
    assert len(issuer.asked) == 2


async def test_an_older_document_never_replaces_a_newer_one(
    issuer: Issuer, documents: Documents, clock: Clock, process: Process
) -> None:
    cache = process()
    issuer.document = TWO
    await cache.find("k1")
    documents.hold(ONE, clock.now - 60)
    clock.now += 10
    issuer.error = JwksFetchError("no answer")  # so that nothing else brings the newer one back
    with pytest.raises(KeysUnavailableError):
        await cache.find("x")
    assert await kid_of(cache, "k2") == "k2"


async def test_what_another_process_has_fetched_makes_up_for_a_failure_of_ours(
    issuer: Issuer, documents: Documents, clock: Clock, process: Process
) -> None:
    cache = process()
    issuer.error = JwksFetchError("no answer")
    with pytest.raises(KeysUnavailableError):
        await cache.find("x")
    clock.now += 10
    documents.hold(ONE, clock.now - 1)
    assert await cache.find("x") is None


async def test_a_document_from_the_future_is_replaced(
    issuer: Issuer, documents: Documents, clock: Clock, process: Process
) -> None:
    documents.hold(ONE, clock.now + 10 * DAY)  # by a machine whose clock was wrong
    issuer.document = TWO
    assert await kid_of(process(), "k1") == "k1"
    assert documents.kept[URL] == KeyDocument(url=URL, body=TWO, fetched_at=clock.now)


async def test_a_clock_that_is_set_back_does_not_stop_refreshes(
    issuer: Issuer, clock: Clock, process: Process
) -> None:
    cache = process()
    await cache.find("k1")
    clock.now -= 10 * DAY
    issuer.document = TWO
    assert await kid_of(cache, "k2") == "k2"


async def test_a_day_old_document_serves_while_one_refresh_runs_behind(
    issuer: Issuer, documents: Documents, clock: Clock, process: Process
) -> None:
    documents.hold(ONE, clock.now - DAY)
    issuer.document = TWO
    issuer.open.clear()
    cache = process()
    for _ in range(3):
        assert await kid_of(cache, "k1") == "k1"
    await until(lambda: len(issuer.asked) == 1)
    issuer.open.set()
    await cache.settle()  # nothing is left running after it
    assert documents.kept[URL].body == TWO
    assert await kid_of(cache, "k2") == "k2"
    assert len(issuer.asked) == 1


async def test_one_process_refreshes_aged_keys_for_all(
    issuer: Issuer, clock: Clock, process: Process
) -> None:
    processes = [process() for _ in range(5)]
    for cache in processes:
        await cache.find("k1")
    clock.now += DAY
    for cache in processes:
        assert await kid_of(cache, "k1") == "k1"
        await cache.settle()
        clock.now += 60
    assert len(issuer.asked) == 2


async def test_a_name_that_the_store_did_not_bring_is_asked_for_though_another_was_there(
    issuer: Issuer, documents: Documents, clock: Clock, process: Process
) -> None:
    documents.hold(ONE, clock.now - 60)
    documents.open.clear()
    issuer.document = TWO
    cache = process()
    questions = [asyncio.create_task(kid_of(cache, kid)) for kid in ("k1", "k2", "x")]
    await until(lambda: documents.reads == 1)
    documents.open.set()
    assert await asyncio.gather(*questions) == ["k1", "k2", None]
    assert len(issuer.asked) == 1


# One side is down


@pytest.mark.parametrize("error", [DOWN, None], ids=["refuses", "hangs"])
async def test_without_the_store_the_issuer_is_enough(
    issuer: Issuer,
    documents: Documents,
    process: Process,
    error: Exception | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    documents.error = error
    if error is None:
        documents.open.clear()
    cache = process()
    async with asyncio.timeout(5):
        assert await kid_of(cache, "k1") == "k1"
    assert [r.getMessage() for r in caplog.records if r.name == "gateway.identity.jwks"] == [
        "stored keys could not be read",
        "keys could not be stored",
    ]
    assert len(issuer.asked) == 1


async def test_without_the_issuer_the_store_is_enough(
    issuer: Issuer, documents: Documents, clock: Clock, process: Process
) -> None:
    documents.hold(ONE, clock.now - 30 * DAY)
    issuer.error = JwksFetchError("no answer")
    cache = process()
    assert await kid_of(cache, "k1") == "k1"
    await cache.settle()
    assert await kid_of(cache, "k1") == "k1"
    assert len(issuer.asked) == 1


async def test_a_name_that_only_the_issuer_can_tell_is_our_fault_while_it_is_down(
    issuer: Issuer, documents: Documents, clock: Clock, process: Process
) -> None:
    documents.hold(ONE, clock.now - 60)
    issuer.error = JwksFetchError("no answer")
    with pytest.raises(KeysUnavailableError):
        await process().find("k2")
    assert documents.writes == 0


async def test_without_either_it_is_our_fault(
    issuer: Issuer, documents: Documents, process: Process
) -> None:
    documents.error = DOWN
    issuer.error = JwksFetchError("no answer")
    with pytest.raises(KeysUnavailableError):
        await process().find("k1")


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"keys": []}', b" " * 100_000])
async def test_a_stored_document_that_cannot_be_used_is_replaced(
    documents: Documents, clock: Clock, process: Process, body: bytes
) -> None:
    documents.hold(body, clock.now - 1)
    assert await kid_of(process(), "k1") == "k1"
    assert documents.kept[URL].body == ONE


async def test_a_document_without_keys_is_not_stored(
    issuer: Issuer, documents: Documents, process: Process
) -> None:
    issuer.document = b'{"keys": []}'
    with pytest.raises(KeysUnavailableError):
        await process().find("k1")
    assert documents.writes == 0


async def test_what_breaks_in_the_store_is_logged_and_blames_no_caller(
    documents: Documents, process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    documents.error = RuntimeError("defect")
    async with asyncio.timeout(5):
        with pytest.raises(KeysUnavailableError):
            await process().find("k1")
    assert [r.levelno for r in caplog.records if r.exc_info] == [logging.ERROR]


async def test_settling_waits_until_the_document_is_stored(
    documents: Documents, issuer: Issuer, clock: Clock
) -> None:
    cache = JwksCache(URL, fetch=issuer.fetch, clock=clock, documents=documents)
    issuer.open.clear()
    question = asyncio.create_task(cache.find("k1"))
    await until(lambda: len(issuer.asked) == 1)
    question.cancel()  # whoever asked has gone
    documents.open.clear()
    issuer.open.set()
    settled = asyncio.create_task(cache.settle())
    await until(lambda: documents.writes == 1)
    assert not settled.done()
    documents.open.set()
    await settled
    assert documents.kept[URL].body == ONE
    with pytest.raises(asyncio.CancelledError):
        await question

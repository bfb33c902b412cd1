"""When keys are fetched, and what happens when that fails."""

import asyncio
import contextvars
import logging
from collections.abc import AsyncIterator

import pytest

from gateway.identity.errors import JwksFetchError, KeysUnavailableError
from gateway.identity.jwks import JwksCache, JwksPolicy
from tests.gateway.identity.forge import document, jwk
from tests.gateway.identity.jwks_world import DAY, URL, Clock, Issuer, kid_of, until


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
async def cache(issuer: Issuer, clock: Clock) -> AsyncIterator[JwksCache]:
    made = JwksCache(URL, fetch=issuer.fetch, clock=clock)
    yield made
    await made.aclose()


async def test_nothing_is_fetched_before_the_first_question(
    issuer: Issuer, cache: JwksCache
) -> None:
    await cache.settle()
    assert issuer.asked == []


async def test_the_first_question_fetches_the_fixed_url_once(
    issuer: Issuer, cache: JwksCache
) -> None:
    assert await kid_of(cache, "k1") == "k1"
    assert await kid_of(cache, "k1") == "k1"
    assert issuer.asked == [URL]


async def test_many_first_questions_share_one_fetch(issuer: Issuer, cache: JwksCache) -> None:
    issuer.open.clear()
    questions = [asyncio.create_task(kid_of(cache, kid)) for kid in ["k1", "k2"] * 50]
    await until(lambda: len(issuer.asked) == 1)
    issuer.open.set()
    assert await asyncio.gather(*questions) == ["k1", None] * 50
    assert len(issuer.asked) == 1


async def test_many_unknown_names_share_one_fetch(
    issuer: Issuer, cache: JwksCache, clock: Clock
) -> None:
    await cache.find("k1")
    clock.now += 10
    issuer.document = document(jwk("k1"), jwk("new", key="second"))
    issuer.open.clear()
    kids = [f"x{n}" for n in range(100)] + ["new"]
    questions = [asyncio.create_task(kid_of(cache, kid)) for kid in kids]
    await until(lambda: len(issuer.asked) == 2)
    issuer.open.set()
    assert await asyncio.gather(*questions) == [None] * 100 + ["new"]
    assert len(issuer.asked) == 2


async def test_a_known_name_never_waits_for_a_fetch(
    issuer: Issuer, cache: JwksCache, clock: Clock
) -> None:
    await cache.find("k1")
    clock.now += 10
    issuer.open.clear()
    waiting = asyncio.create_task(cache.find("x"))
    await until(lambda: len(issuer.asked) == 2)
    async with asyncio.timeout(5):
        assert await kid_of(cache, "k1") == "k1"
    assert not waiting.done()
    issuer.open.set()
    assert await waiting is None


@pytest.mark.parametrize(("later", "fetches"), [(0, 1), (9.9, 1), (10, 2), (3600, 2)])
async def test_unknown_names_fetch_at_most_every_ten_seconds(
    issuer: Issuer, cache: JwksCache, clock: Clock, later: float, fetches: int
) -> None:
    await cache.find("k1")
    clock.now += later
    for n in range(20):
        assert await cache.find(f"x{n}") is None
    assert len(issuer.asked) == fetches


async def test_a_rotated_key_is_found_ten_seconds_later(
    issuer: Issuer, cache: JwksCache, clock: Clock
) -> None:
    await cache.find("k1")
    issuer.document = document(jwk("k2", key="second"))
    assert await cache.find("k2") is None  # asked a moment ago: not again so soon
    clock.now += 10
    assert await kid_of(cache, "k2") == "k2"
    assert await cache.find("k1") is None  # the issuer has withdrawn it


async def test_an_absent_name_starts_no_other_fetch_for_half_a_minute(
    issuer: Issuer, cache: JwksCache, clock: Clock
) -> None:
    assert await cache.find("gone") is None
    for _ in range(2):
        clock.now += 14
        assert await cache.find("gone") is None
    assert len(issuer.asked) == 1
    clock.now += 2
    assert await cache.find("gone") is None
    assert len(issuer.asked) == 2


async def test_an_absent_name_is_found_once_another_question_brought_it(
    issuer: Issuer, cache: JwksCache, clock: Clock
) -> None:
    assert await cache.find("late") is None
    issuer.document = document(jwk("late"))
    clock.now += 10
    await cache.find("other")
    assert await kid_of(cache, "late") == "late"


async def test_the_list_of_absent_names_is_bounded(issuer: Issuer, clock: Clock) -> None:
    cache = JwksCache(
        URL,
        fetch=issuer.fetch,
        clock=clock,
        policy=JwksPolicy(absent_limit=3, absent_s=10**6, refresh_gap_s=0),
    )
    for n in range(10):
        await cache.find(f"x{n}")
    assert len(cache._absent_since) == 3
    fetches = len(issuer.asked)
    await cache.find("x9")
    assert len(issuer.asked) == fetches
    await cache.find("x0")
    assert len(issuer.asked) == fetches + 1


async def test_day_old_keys_serve_while_one_refresh_runs_behind(
    issuer: Issuer, cache: JwksCache, clock: Clock
) -> None:
    await cache.find("k1")
    clock.now += DAY - 1
    await cache.find("k1")
    assert len(issuer.asked) == 1
    clock.now += 1
    issuer.document = document(jwk("k2", key="second"))
    issuer.open.clear()
    for _ in range(5):
        assert await kid_of(cache, "k1") == "k1"
    await until(lambda: len(issuer.asked) == 2)
    issuer.open.set()
    await cache.settle()
    assert await kid_of(cache, "k2") == "k2"
    assert await cache.find("k1") is None
    assert len(issuer.asked) == 2


FAILURES: dict[str, Exception | bytes] = {
    "the fetch fails": JwksFetchError("status 500"),
    "the document is no JSON": b"<html>",
    "the document has no usable key": b'{"keys": []}',
    "the fetch breaks its contract": RuntimeError("defect"),
}


def fail(issuer: Issuer, failure: Exception | bytes) -> None:
    if isinstance(failure, bytes):
        issuer.document = failure
    else:
        issuer.error = failure


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES.keys())
async def test_a_failed_refresh_keeps_the_old_keys(
    issuer: Issuer, cache: JwksCache, clock: Clock, failure: Exception | bytes
) -> None:
    await cache.find("k1")
    fail(issuer, failure)
    for _ in range(3):
        clock.now += 30 * DAY
        assert await kid_of(cache, "k1") == "k1"
        await cache.settle()
    assert len(issuer.asked) == 4
    assert await kid_of(cache, "k1") == "k1"


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES.keys())
async def test_no_key_ever_loaded_is_our_fault_not_the_callers(
    issuer: Issuer, cache: JwksCache, failure: Exception | bytes
) -> None:
    fail(issuer, failure)
    with pytest.raises(KeysUnavailableError):
        await cache.find("k1")


async def test_an_unknown_name_is_our_fault_while_the_issuer_cannot_be_asked(
    issuer: Issuer, cache: JwksCache, clock: Clock
) -> None:
    await cache.find("k1")
    clock.now += 10
    issuer.error = JwksFetchError("no answer")
    with pytest.raises(KeysUnavailableError):
        await cache.find("k2")
    with pytest.raises(KeysUnavailableError):  # nor is it remembered as absent
        await cache.find("k2")
    assert len(issuer.asked) == 2
    clock.now += 10
    issuer.error = None
    assert await cache.find("k2") is None


async def test_a_cold_start_tries_again_after_a_second(
    issuer: Issuer, cache: JwksCache, clock: Clock
) -> None:
    issuer.error = JwksFetchError("no answer")
    for later in (0, 0.9):
        clock.now += later
        with pytest.raises(KeysUnavailableError):
            await cache.find("k1")
    assert len(issuer.asked) == 1
    issuer.error = None
    clock.now += 0.1
    assert await kid_of(cache, "k1") == "k1"


async def test_a_slow_cold_start_is_not_asked_twice_at_once(
    issuer: Issuer, cache: JwksCache, clock: Clock
) -> None:
    issuer.open.clear()
    first = asyncio.create_task(kid_of(cache, "k1"))
    await until(lambda: len(issuer.asked) == 1)
    clock.now += 2
    second = asyncio.create_task(kid_of(cache, "k1"))
    for _ in range(5):
        await asyncio.sleep(0)
    issuer.open.set()
    assert await asyncio.gather(first, second) == ["k1", "k1"]
    assert len(issuer.asked) == 1


async def test_a_fetch_that_takes_too_long_has_failed(
    issuer: Issuer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    cache = JwksCache(URL, fetch=issuer.fetch, clock=clock, policy=JwksPolicy(timeout_s=0.01))
    issuer.open.clear()
    async with asyncio.timeout(5):
        with pytest.raises(KeysUnavailableError):
            await cache.find("k1")
    assert issuer.cancelled == 1
    assert [r.levelname for r in caplog.records if r.name == "gateway.identity.jwks"] == ["WARNING"]


async def test_a_cancelled_question_leaves_the_fetch_to_the_others(
    issuer: Issuer, cache: JwksCache
) -> None:
    issuer.open.clear()
    first = asyncio.create_task(cache.find("k1"))
    second = asyncio.create_task(kid_of(cache, "k1"))
    await until(lambda: len(issuer.asked) == 1)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    issuer.open.set()
    assert await second == "k1"
    assert issuer.cancelled == 0
    assert len(issuer.asked) == 1


async def test_closing_stops_the_fetch_and_answers_those_who_wait(
    issuer: Issuer, cache: JwksCache
) -> None:
    issuer.open.clear()
    question = asyncio.create_task(cache.find("k1"))
    await until(lambda: len(issuer.asked) == 1)
    async with asyncio.timeout(5):
        await cache.aclose()
        assert issuer.cancelled == 1
        with pytest.raises(KeysUnavailableError):
            await question


async def test_a_cache_closed_before_its_first_fetch_blames_no_caller(
    issuer: Issuer, cache: JwksCache
) -> None:
    await cache.aclose()
    with pytest.raises(KeysUnavailableError):
        await cache.find("k1")
    assert issuer.asked == []


async def test_a_shared_refresh_does_not_log_as_the_connection_that_began_it(
    issuer: Issuer, clock: Clock
) -> None:
    connection = contextvars.ContextVar("connection", default="none")
    seen: list[str] = []

    async def fetch(url: str) -> bytes:
        seen.append(connection.get())
        return await issuer.fetch(url)

    connection.set("c-1")
    await JwksCache(URL, fetch=fetch, clock=clock).find("k1")
    assert seen == ["none"]


async def test_a_closed_cache_fetches_nothing_more(
    issuer: Issuer, cache: JwksCache, clock: Clock
) -> None:
    await cache.find("k1")
    await cache.aclose()
    clock.now += 30 * DAY
    assert await kid_of(cache, "k1") == "k1"
    assert await cache.find("x") is None
    assert len(issuer.asked) == 1


async def test_a_defect_in_the_fetch_is_logged_with_its_trace(
    issuer: Issuer, cache: JwksCache, caplog: pytest.LogCaptureFixture
) -> None:
    issuer.error = RuntimeError("defect")
    with pytest.raises(KeysUnavailableError):
        await cache.find("k1")
    (record,) = (r for r in caplog.records if r.levelno == logging.ERROR)
    assert record.exc_info is not None


async def test_a_failure_is_logged_without_a_trace(
    issuer: Issuer, cache: JwksCache, caplog: pytest.LogCaptureFixture
) -> None:
    issuer.error = JwksFetchError("status 500")
    with pytest.raises(KeysUnavailableError):
        await cache.find("k1")
    (record,) = (r for r in caplog.records if r.name == "gateway.identity.jwks")
    assert (record.levelno, record.exc_info) == (logging.WARNING, None)
    assert vars(record)["cause"] == "status 500"


@pytest.mark.parametrize(
    "url",
    [
        "http://issuer.example/jwks.json",
        "http://localhost.evil.example/jwks.json",
        "http://127.0.0.1@evil.example/jwks.json",
        "http://10.0.0.1/jwks.json",
        "ftp://issuer.example/jwks.json",
        "file:///etc/jwks.json",
        "https:///jwks.json",
        "issuer.example/jwks.json",
        "",
    ],
)
async def test_a_url_that_others_could_answer_for_is_refused(
    issuer: Issuer, clock: Clock, url: str
) -> None:
    with pytest.raises(ValueError, match="https"):
        JwksCache(url, fetch=issuer.fetch, clock=clock)


@pytest.mark.parametrize(
    "url",
    [
        "https://issuer.example/.well-known/jwks.json",
        "http://localhost:8080/jwks.json",
        "http://127.0.0.1:9/jwks",
        "http://[::1]:9/jwks",
    ],
)
async def test_https_and_loopback_urls_are_taken(issuer: Issuer, clock: Clock, url: str) -> None:
    cache = JwksCache(url, fetch=issuer.fetch, clock=clock)
    assert await kid_of(cache, "k1") == "k1"
    assert issuer.asked == [url]

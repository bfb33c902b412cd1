import asyncio
import gzip
from collections.abc import AsyncIterator

import pytest

from streaming.models import http_source
from streaming.models.byte_source import ByteSource
from streaming.models.errors import ModelAuthError, ModelProtocolError, ModelUnavailableError
from streaming.models.http_head import RequestHead, post_head
from streaming.models.http_pool import ConnectionPool
from streaming.models.http_source import post
from tests.streaming.models.openai_endpoint import (
    Do,
    OpenAIEndpoint,
    openai_endpoint,
    plain,
    status,
    stream,
)

BODY = b'{"model": "m"}'


@pytest.fixture
async def endpoint() -> AsyncIterator[OpenAIEndpoint]:
    async with openai_endpoint() as running:
        yield running


@pytest.fixture
async def pool(endpoint: OpenAIEndpoint) -> AsyncIterator[ConnectionPool]:
    opened = ConnectionPool(head(endpoint).origin)
    yield opened
    await opened.aclose()


def head(endpoint: OpenAIEndpoint) -> RequestHead:
    return post_head(endpoint.base_url, [(b"X-Key", b"secret")])


async def read_all(source: ByteSource) -> None:
    while await source.read():
        pass


async def test_it_reads_to_the_end_and_ever_after(
    endpoint: OpenAIEndpoint, pool: ConnectionPool
) -> None:
    endpoint.will(stream(b"a"))
    source = await post(pool, head(endpoint), BODY)

    assert [await source.read() for _ in range(3)] == [b"a", b"", b""]
    await source.aclose()
    assert endpoint.requests[0].raw == BODY
    assert endpoint.requests[0].headers["X-Key"] == "secret"


async def test_what_was_read_to_its_end_leaves_its_connection_for_the_next(
    endpoint: OpenAIEndpoint, pool: ConnectionPool
) -> None:
    for _ in range(2):
        endpoint.will(stream(b"a"))
        source = await post(pool, head(endpoint), BODY)
        await read_all(source)
        await source.aclose()

    assert endpoint.requests[0].connection == endpoint.requests[1].connection


async def test_closing_cuts_what_was_not_read(
    endpoint: OpenAIEndpoint, pool: ConnectionPool
) -> None:
    endpoint.will(stream(b"a", Do.STALL))
    source = await post(pool, head(endpoint), BODY)
    await source.read()
    await source.aclose()

    async with asyncio.timeout(1):
        await endpoint.requests[0].disconnected.wait()


async def test_a_broken_connection_is_unavailable(
    endpoint: OpenAIEndpoint, pool: ConnectionPool
) -> None:
    endpoint.will(stream(b"a", Do.RESET))
    source = await post(pool, head(endpoint), BODY)

    with pytest.raises(ModelUnavailableError) as caught:
        await read_all(source)
    await source.aclose()
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "content_type", ["text/event-stream", "text/event-stream; charset=utf-8", "Text/Event-Stream"]
)
async def test_an_event_stream_is_known_by_its_type(
    endpoint: OpenAIEndpoint, pool: ConnectionPool, content_type: str
) -> None:
    endpoint.will(stream(b"a", content_type=content_type))

    source = await post(pool, head(endpoint), BODY)

    await source.aclose()


@pytest.mark.parametrize(
    "coding", [{"Content-Encoding": "gzip"}, {"Content-Encoding": "identity, br"}]
)
async def test_a_server_that_compresses_unasked_breaks_the_protocol(
    endpoint: OpenAIEndpoint, pool: ConnectionPool, coding: dict[str, str]
) -> None:
    body = gzip.compress(b"data: {}\n\n")
    endpoint.will(plain(200, body, content_type="text/event-stream", headers=coding))

    with pytest.raises(ModelProtocolError, match="compressed"):
        await post(pool, head(endpoint), BODY)


async def test_a_server_may_say_that_it_does_not_compress(
    endpoint: OpenAIEndpoint, pool: ConnectionPool
) -> None:
    endpoint.will(
        plain(
            200,
            b"a",
            content_type="text/event-stream",
            headers={"Content-Encoding": "Identity"},
        )
    )

    source = await post(pool, head(endpoint), BODY)

    assert await source.read() == b"a"
    await source.aclose()


async def test_the_length_of_an_error_does_not_matter(
    endpoint: OpenAIEndpoint, pool: ConnectionPool
) -> None:
    endpoint.will(stream(b"x" * 200_000, Do.STALL, content_type="text/html"))

    with pytest.raises(ModelProtocolError):
        await post(pool, head(endpoint), BODY)


async def test_no_redirect_is_followed(endpoint: OpenAIEndpoint, pool: ConnectionPool) -> None:
    endpoint.will(
        plain(307, b"", content_type="text/plain", headers={"Location": endpoint.base_url})
    )

    with pytest.raises(ModelProtocolError):
        await post(pool, head(endpoint), BODY)
    assert len(endpoint.requests) == 1


async def test_no_cookie_is_kept(endpoint: OpenAIEndpoint, pool: ConnectionPool) -> None:
    endpoint.will(plain(200, b"", content_type="text/event-stream", headers={"Set-Cookie": "a=b"}))
    for _ in range(2):
        source = await post(pool, head(endpoint), BODY)
        await source.aclose()

    assert "Cookie" not in endpoint.requests[1].headers


async def test_an_error_that_was_read_leaves_its_connection_for_the_next(
    endpoint: OpenAIEndpoint, pool: ConnectionPool
) -> None:
    endpoint.will(status(503))
    for _ in range(2):
        with pytest.raises(ModelUnavailableError):
            await post(pool, head(endpoint), BODY)

    assert endpoint.requests[0].connection == endpoint.requests[1].connection


async def test_an_error_whose_body_breaks_is_known_by_its_status(
    endpoint: OpenAIEndpoint, pool: ConnectionPool
) -> None:
    endpoint.will(stream(b"{", Do.RESET, content_type="application/json", status=401))

    with pytest.raises(ModelAuthError) as caught:
        await post(pool, head(endpoint), BODY)
    assert caught.value.__context__ is None


async def test_an_error_whose_body_stalls_is_known_by_its_status(
    endpoint: OpenAIEndpoint, pool: ConnectionPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_source, "ERROR_BODY_SECONDS", 0.05)
    endpoint.will(stream(b'{"error": {', Do.STALL, status=401))

    with pytest.raises(ModelAuthError):
        await post(pool, head(endpoint), BODY)
    async with asyncio.timeout(5):
        await endpoint.closed()


async def test_cancelling_in_the_body_of_an_error_closes_the_connection(
    endpoint: OpenAIEndpoint, pool: ConnectionPool
) -> None:
    endpoint.will(stream(b"{", Do.STALL, content_type="application/json", status=500))
    asking = asyncio.create_task(post(pool, head(endpoint), BODY))
    received = await endpoint.received(1)
    await asyncio.sleep(0.05)  # either way, before the body or in it, the same must happen
    asking.cancel()

    with pytest.raises(asyncio.CancelledError):
        await asking
    async with asyncio.timeout(5):
        await received.disconnected.wait()

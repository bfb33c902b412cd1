import asyncio
import gzip
from collections.abc import AsyncIterator

import aiohttp
import pytest
from multidict import CIMultiDict
from yarl import URL

from streaming.models.byte_source import ByteSource
from streaming.models.errors import ModelProtocolError, ModelUnavailableError
from streaming.models.http_source import RequestHead, open_session, post
from tests.streaming.models.openai_endpoint import (
    Do,
    OpenAIEndpoint,
    openai_endpoint,
    plain,
    stream,
)

BODY = b'{"model": "m"}'


@pytest.fixture
async def endpoint() -> AsyncIterator[OpenAIEndpoint]:
    async with openai_endpoint() as running:
        yield running


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with open_session() as opened, asyncio.timeout(10):
        yield opened


def head(endpoint: OpenAIEndpoint) -> RequestHead:
    return RequestHead(url=URL(endpoint.base_url), headers=CIMultiDict({"X-Key": "secret"}))


async def read_all(source: ByteSource) -> None:
    while await source.read():
        pass


async def test_it_reads_to_the_end_and_ever_after(
    endpoint: OpenAIEndpoint, session: aiohttp.ClientSession
) -> None:
    endpoint.will(stream(b"a"))
    source = await post(session, head(endpoint), BODY)

    assert [await source.read() for _ in range(3)] == [b"a", b"", b""]
    await source.aclose()
    assert endpoint.requests[0].raw == BODY
    assert endpoint.requests[0].headers["X-Key"] == "secret"


async def test_what_was_read_to_its_end_leaves_its_connection_for_the_next(
    endpoint: OpenAIEndpoint, session: aiohttp.ClientSession
) -> None:
    for _ in range(2):
        endpoint.will(stream(b"a"))
        source = await post(session, head(endpoint), BODY)
        await read_all(source)
        await source.aclose()

    assert endpoint.requests[0].connection == endpoint.requests[1].connection


async def test_closing_cuts_what_was_not_read(
    endpoint: OpenAIEndpoint, session: aiohttp.ClientSession
) -> None:
    endpoint.will(stream(b"a", Do.STALL))
    source = await post(session, head(endpoint), BODY)
    await source.read()
    await source.aclose()

    async with asyncio.timeout(1):
        await endpoint.requests[0].disconnected.wait()


async def test_a_broken_connection_is_unavailable(
    endpoint: OpenAIEndpoint, session: aiohttp.ClientSession
) -> None:
    endpoint.will(stream(b"a", Do.RESET))
    source = await post(session, head(endpoint), BODY)

    with pytest.raises(ModelUnavailableError) as caught:
        await read_all(source)
    await source.aclose()
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "content_type", ["text/event-stream", "text/event-stream; charset=utf-8", "Text/Event-Stream"]
)
async def test_an_event_stream_is_known_by_its_type(
    endpoint: OpenAIEndpoint, session: aiohttp.ClientSession, content_type: str
) -> None:
    endpoint.will(stream(b"a", content_type=content_type))

    source = await post(session, head(endpoint), BODY)

    await source.aclose()


async def test_a_server_that_compresses_unasked_is_read(
    endpoint: OpenAIEndpoint, session: aiohttp.ClientSession
) -> None:
    endpoint.will(
        plain(
            200,
            gzip.compress(b"data: {}\n\n"),
            content_type="text/event-stream",
            headers={"Content-Encoding": "gzip"},
        )
    )
    source = await post(session, head(endpoint), BODY)

    assert await source.read() == b"data: {}\n\n"
    await source.aclose()


async def test_the_length_of_an_error_does_not_matter(
    endpoint: OpenAIEndpoint, session: aiohttp.ClientSession
) -> None:
    endpoint.will(stream(b"x" * 200_000, Do.STALL, content_type="text/html"))

    with pytest.raises(ModelProtocolError):
        await post(session, head(endpoint), BODY)


async def test_no_redirect_is_followed(
    endpoint: OpenAIEndpoint, session: aiohttp.ClientSession
) -> None:
    endpoint.will(
        plain(307, b"", content_type="text/plain", headers={"Location": endpoint.base_url})
    )

    with pytest.raises(ModelProtocolError):
        await post(session, head(endpoint), BODY)
    assert len(endpoint.requests) == 1


async def test_no_cookie_is_kept(endpoint: OpenAIEndpoint, session: aiohttp.ClientSession) -> None:
    endpoint.will(plain(200, b"", content_type="text/event-stream", headers={"Set-Cookie": "a=b"}))
    # By name, because cookies of a bare address would be ignored anyway.
    url = URL(endpoint.base_url).with_host("localhost")
    for _ in range(2):
        source = await post(session, RequestHead(url=url, headers=CIMultiDict()), BODY)
        await source.aclose()

    assert "Cookie" not in endpoint.requests[1].headers

"""The page that is served for a gateway on another host."""

import asyncio
from typing import Any

import pytest

from gateway.routes.http_app import make_http_app
from gateway.routes.page import Elsewhere, page_router

AWS = Elsewhere(
    socket_url="wss://a1b2.execute-api.eu-west-1.amazonaws.com/dev",
    tickets_url="https://c3d4.execute-api.eu-west-1.amazonaws.com/v1/tickets?a=1&b=2",
    payload_origins=("https://bucket.s3.eu-west-1.amazonaws.com",),
)


async def index_of(elsewhere: Elsewhere) -> tuple[dict[str, str], str]:
    """Ask the app for `/`; return its headers and text."""
    app = make_http_app([page_router(elsewhere)], origins=())
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1:8766")],
        "scheme": "http",
        "server": ("127.0.0.1", 8766),
        "client": None,
    }
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    async with asyncio.timeout(10):
        await app(scope, receive, send)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return headers, b"".join(message.get("body", b"") for message in sent[1:]).decode()


def connect_sources(headers: dict[str, str]) -> set[str]:
    rules = headers["content-security-policy"].split("; ")
    (rule,) = [rule for rule in rules if rule.startswith("connect-src ")]
    return set(rule.split()[1:])


async def test_the_page_may_reach_that_gateway_alone() -> None:
    headers, _ = await index_of(AWS)
    assert connect_sources(headers) == {
        "wss://a1b2.execute-api.eu-west-1.amazonaws.com",
        "https://a1b2.execute-api.eu-west-1.amazonaws.com",
        "https://c3d4.execute-api.eu-west-1.amazonaws.com",
        "https://bucket.s3.eu-west-1.amazonaws.com",
    }


async def test_the_page_is_told_where_the_gateway_is() -> None:
    _, text = await index_of(AWS)
    head = text[: text.index("<title>")]
    assert f'<meta name="makoto-gateway" content="{AWS.socket_url}">' in head
    assert "/v1/tickets?a=1&amp;b=2" in head


async def test_without_tickets_the_page_is_told_of_none() -> None:
    headers, text = await index_of(Elsewhere(socket_url="ws://127.0.0.1:9/v1/ws"))
    assert connect_sources(headers) == {"ws://127.0.0.1:9", "http://127.0.0.1:9"}
    assert "makoto-tickets" not in text


async def test_tickets_may_be_sold_where_the_page_is() -> None:
    headers, text = await index_of(
        Elsewhere(socket_url="wss://sockets.example/dev", tickets_url="/v1/tickets")
    )
    assert connect_sources(headers) == {
        "wss://sockets.example",
        "https://sockets.example",
        "'self'",
    }
    assert '<meta name="makoto-tickets" content="/v1/tickets">' in text


@pytest.mark.parametrize("url", ["//evil.example/", "v1/tickets", "https:///v1", "javascript:1"])
async def test_tickets_are_sold_at_an_address_or_a_path(url: str) -> None:
    with pytest.raises(ValueError, match="no https or http URL"):
        Elsewhere(socket_url="wss://sockets.example/dev", tickets_url=url)


@pytest.mark.parametrize("url", ['wss://x.example/"><script>', "wss://x.example/<b>"])
async def test_an_address_cannot_become_markup(url: str) -> None:
    _, text = await index_of(Elsewhere(socket_url=url))
    assert url not in text

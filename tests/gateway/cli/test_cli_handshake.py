"""A terminal that comes in with tickets, as on a platform that knows them only."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from gateway.cli import client as client_module
from gateway.cli.client import TerminalClient
from gateway.cli.failure import CommandFailedError
from gateway.cli.handshake import ticketed
from tests.gateway.cli.fake_gateway import (
    DONE,
    STARTED,
    Client,
    FakeGateway,
    delta,
    fake_gateway,
    whole_answer,
)
from tests.gateway.hosts.local_host import local_host


class Seller:
    """Sells tickets `T1`, `T2` and so on, unless it was told to answer something else."""

    def __init__(self) -> None:
        self.url = ""
        self.tokens: list[str] = []
        self.others: list[web.Response] = []

    async def sell(self, request: web.Request) -> web.Response:
        self.tokens.append(request.headers.get("Authorization", ""))
        if self.others:
            return self.others.pop(0)
        return web.json_response({"ticket": f"T{len(self.tokens)}", "expires_at": 1})


@pytest.fixture
async def seller() -> AsyncIterator[Seller]:
    made = Seller()
    app = web.Application()
    app.router.add_post("/v1/tickets", made.sell)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/tickets"
    yield made
    await runner.cleanup()


@asynccontextmanager
async def ticket_holder(gateway: FakeGateway, seller: Seller) -> AsyncIterator[TerminalClient]:
    async with (
        asyncio.timeout(5),
        TerminalClient(gateway.url, "t0ken", tickets_url=seller.url) as client,
    ):
        yield client


async def test_a_ticket_opens_the_socket_of_a_real_host(tmp_path: Path) -> None:
    async with (
        asyncio.timeout(20),
        local_host(tmp_path) as host,
        TerminalClient(
            host.socket_url, host.token("aiko"), tickets_url=f"{host.url}v1/tickets"
        ) as client,
    ):
        events = [event async for event in client.answer("c1", "echo 誠", None)]
    assert "".join(event.get("text", "") for event in events) == "誠"


async def test_the_token_buys_the_ticket_and_goes_nowhere_else(seller: Seller) -> None:
    async with fake_gateway(whole_answer) as gateway, ticket_holder(gateway, seller) as client:
        assert [event["type"] async for event in client.answer("c1", "Hi", None)][-1] == "done"
    assert seller.tokens == ["Bearer t0ken"]
    assert gateway.targets == ["/v1/ws?ticket=T1"]
    assert "t0ken" not in str(gateway.headers)


async def test_a_cut_connection_is_opened_again_with_another_ticket(
    seller: Seller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "RETRIES_S", (0.0, 0.0))
    seller_is_down = web.Response(status=503)

    async def cut(client: Client) -> None:
        await client.hello()
        await client.accept()
        await client.events(1, STARTED, delta("a"))
        seller.others.append(seller_is_down)  # for the first attempt to come back

    async def rest(client: Client) -> None:
        await client.hello()
        assert (await client.hear("resume"))["after"] == 2
        await client.events(3, delta("b"), DONE)

    async with fake_gateway(cut, rest) as gateway, ticket_holder(gateway, seller) as client:
        events = [event async for event in client.answer("c1", "Hi", None)]
    assert "".join(event.get("text", "") for event in events) == "ab"
    assert gateway.targets == ["/v1/ws?ticket=T1", "/v1/ws?ticket=T3"]


async def test_what_the_address_has_in_its_query_stays(seller: Seller) -> None:
    url = await ticketed("wss://x.example/dev?a=1&b=", seller.url, "t0ken")
    assert url == "wss://x.example/dev?a=1&b=&ticket=T1"


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (401, '{"error": {"message": "The sign-in has expired."}}', "The sign-in has expired."),
        (403, '{"message": "Forbidden"}', "it answers 403, and no ticket"),
        (502, "<html>", "it answers 502, and no ticket"),
        (200, "[]", "it answers 200, and no ticket"),
        (200, "{}", "it answers 200, and no ticket"),
        (302, "", "it answers 302, and no ticket"),
    ],
)
async def test_a_seller_that_sells_none_is_one_line(
    seller: Seller, status: int, body: str, says: str
) -> None:
    seller.others.append(web.Response(status=status, text=body, headers={"Location": "/"}))
    with pytest.raises(CommandFailedError) as caught:
        await ticketed("ws://127.0.0.1:9/", seller.url, "t0ken")
    assert str(caught.value) == f"cannot buy a ticket at {seller.url}: {says}"


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/", "nonsense", "", "ftp://x.example/"])
async def test_a_seller_that_is_nowhere_is_one_line(url: str) -> None:
    with pytest.raises(CommandFailedError, match="cannot buy a ticket at") as caught:
        await ticketed("ws://127.0.0.1:9/", url, "t0ken")
    assert "\n" not in str(caught.value)


async def test_a_token_that_fits_no_header_buys_nothing(seller: Seller) -> None:
    with pytest.raises(CommandFailedError, match="the token is empty, or no token"):
        await ticketed("ws://127.0.0.1:9/", seller.url, "two\nlines")
    assert seller.tokens == []

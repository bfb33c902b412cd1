"""The demo page of another server, as for a gateway on API Gateway: it comes in with tickets."""

import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Request, Route, WebSocket, expect

from tests.gateway.web.chat_page import ChatPage
from tests.gateway.web.conftest import StartServer
from tests.gateway.web.gateway_server import MAKOTO, GatewayServer

pytestmark = pytest.mark.browser

REFUSED = "Failed to load resource|ERR_CONNECTION|WebSocket connection to"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def serving_page(port: int, *options: str) -> Iterator[str]:
    """Run `makoto page`; return its address."""
    command = [MAKOTO, "page", "--port", str(port), *options]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().removeprefix("Open ").strip()
    finally:
        process.terminate()
        process.communicate(timeout=20)


@pytest.fixture
def gateway_and_page(start_server: StartServer) -> Iterator[tuple[GatewayServer, str]]:
    port = free_port()
    server = start_server(scripted_pace="0", allowed_origins=f"http://127.0.0.1:{port}")
    socket_url = server.url.replace("http", "ws") + "v1/ws"
    with serving_page(
        port, "--gateway", socket_url, "--tickets", f"{server.url}v1/tickets"
    ) as address:
        yield server, address


@pytest.fixture
def gateway(gateway_and_page: tuple[GatewayServer, str]) -> GatewayServer:
    return gateway_and_page[0]


@pytest.fixture
def chat(browser: Browser, gateway_and_page: tuple[GatewayServer, str]) -> Iterator[ChatPage]:
    """The page, which asks for a token."""
    page = browser.new_context(locale="en-GB").new_page()
    page.set_default_timeout(15_000)
    chat = ChatPage(page=page, url=gateway_and_page[1])
    page.goto(chat.url)
    yield chat
    faults = chat.faults
    page.context.close()
    assert faults == []


def sign_in(chat: ChatPage, token: str) -> None:
    chat.page.get_by_label("Token (JWT)").fill(token)
    chat.page.get_by_role("button", name="Sign in", exact=True).click()


def test_the_page_of_another_server_chats_uploads_and_fetches(
    chat: ChatPage, gateway: GatewayServer
) -> None:
    sockets: list[WebSocket] = []
    requests: list[Request] = []
    chat.page.on("websocket", lambda ws: sockets.append(ws))
    chat.page.on("request", lambda request: requests.append(request))
    sign_in(chat, gateway.token("hanako"))
    chat.wait_until_connected()
    expect(chat.ask("echo こんにちは")).to_have_text("こんにちは")
    long = "長い文章。" * 4_000
    expect(chat.ask(f"echo {long}")).to_have_text(long)
    expect(chat.ask("large")).to_contain_text("A large reply.")
    assert [bool(re.search(r"/v1/ws\?ticket=[\w-]{22}$", ws.url)) for ws in sockets] == [True]
    assert not [request.url for request in requests if "demo" in request.url]


def test_each_connection_buys_a_ticket_and_nobody_is_asked_for_the_token_again(
    chat: ChatPage, gateway: GatewayServer
) -> None:
    sockets: list[WebSocket] = []
    chat.page.on("websocket", lambda ws: sockets.append(ws))
    chat.expected_faults.append(REFUSED)
    sign_in(chat, gateway.token("hanako"))
    chat.wait_until_connected()
    chat.ask("echo before")
    gateway.kill()
    expect(chat.page.locator("#connection")).to_have_text(re.compile("lost|Connecting"))
    gateway.start()
    chat.wait_until_connected()
    expect(chat.ask("echo after")).to_have_text("after")
    assert len(sockets) >= 2
    assert len({ws.url for ws in sockets}) == len(sockets)
    assert chat.page.locator("#sign-in").is_hidden()


def test_a_token_that_buys_no_ticket_is_asked_for_again(
    chat: ChatPage, gateway: GatewayServer
) -> None:
    chat.expected_faults.append(r"status of 401")
    sign_in(chat, "not.a.token")
    expect(chat.page.locator("#sign-in-error")).to_contain_text("was not accepted")
    sign_in(chat, gateway.token("hanako"))
    chat.wait_until_connected()


def test_the_page_says_why_no_ticket_is_sold(chat: ChatPage, gateway: GatewayServer) -> None:
    chat.expected_faults.append(r"status of 503")
    headers = {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Headers": "*"}
    body = '{"error": {"code": "internal", "message": "Try again.", "retryable": true}}'

    def refuse(route: Route) -> None:
        route.fulfill(status=503, headers=headers, body=body)

    chat.page.route("**/v1/tickets", refuse)
    sign_in(chat, gateway.token("hanako"))
    expect(chat.page.locator("#notice")).to_contain_text("Try again. What you write is kept.")
    chat.page.unroute("**/v1/tickets", refuse)
    chat.page.get_by_role("button", name="Now", exact=True).click()
    chat.wait_until_connected()


def test_the_page_says_that_the_handshake_fails(chat: ChatPage, gateway: GatewayServer) -> None:
    chat.expected_faults.append(REFUSED)
    chat.page.add_init_script("""window.WebSocket = class extends WebSocket {
      constructor(url) { super(url.replace("/v1/ws", "/nowhere")); }
    }""")
    chat.page.reload()
    sign_in(chat, gateway.token("hanako"))
    expect(chat.page.locator("#notice")).to_contain_text("token, origin or address are wrong")


def test_the_log_of_the_gateway_holds_no_ticket(chat: ChatPage, gateway: GatewayServer) -> None:
    sockets: list[WebSocket] = []
    chat.page.on("websocket", lambda ws: sockets.append(ws))
    sign_in(chat, gateway.token("hanako"))
    chat.wait_until_connected()
    ticket = sockets[0].url.partition("ticket=")[2]
    gateway.stop()
    assert ticket
    assert ticket not in gateway.log()
    chat.expected_faults.append(REFUSED)

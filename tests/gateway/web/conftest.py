import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from gateway.bootstrap.local import KEY_FILE
from gateway.identity.local_key import load_or_create_key
from tests.gateway.web.chat_page import ChatPage
from tests.gateway.web.gateway_server import GatewayServer

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--no-sandbox", "--disable-background-networking", "--disable-dev-shm-usage"]

StartServer = Callable[..., GatewayServer]
OpenPage = Callable[..., ChatPage]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium for the tests of one module: a loop runs with it that other modules cannot have."""
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        reason = "Chromium is missing: apt-get install chromium"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield running
        running.close()


@pytest.fixture(scope="session")
def signing_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key for every server: making one takes longer than many a test."""
    path = tmp_path_factory.mktemp("key") / KEY_FILE
    load_or_create_key(path)
    return path


@pytest.fixture
def start_server(tmp_path: Path, signing_key: Path) -> Iterator[StartServer]:
    """Starts gateways with settings such as `scripted_pace="20"`."""
    with servers(tmp_path, signing_key) as start:
        yield start


@contextmanager
def servers(folder: Path, signing_key: Path) -> Iterator[StartServer]:
    """Yield what starts gateways, each in a folder of its own; stop them in the end."""
    started: list[GatewayServer] = []

    def start(**settings: str) -> GatewayServer:
        named = {f"MAKOTO_{name.upper()}": value for name, value in settings.items()}
        server = GatewayServer(folder / f"gateway{len(started)}", named)
        server.data.mkdir(mode=0o700, parents=True)
        shutil.copy(signing_key, server.data)
        started.append(server)
        server.start()
        return server

    try:
        yield start
    finally:
        for server in started:
            server.stop()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Opens the page of a server in a browser of its own, or in a further tab of another page's.

    The browser must have nothing to complain of.
    """
    opened: list[tuple[Page, ChatPage]] = []

    def open_it(
        server: GatewayServer,
        fragment: str = "",
        *,
        tab_of: ChatPage | None = None,
        **context: object,
    ) -> ChatPage:
        options = {"viewport": {"width": 1280, "height": 820}, "locale": "en-GB", **context}
        where = tab_of.page.context if tab_of else browser.new_context(**options)
        page = where.new_page()
        page.set_default_timeout(15_000)
        chat = ChatPage(page=page, url=server.url)
        opened.append((page, chat))
        chat.open(fragment)
        return chat

    yield open_it
    faults = [fault for _, chat in opened for fault in chat.faults]
    for page, _ in opened:
        page.context.close()
    assert faults == []


@pytest.fixture
def chat(start_server: StartServer, open_page: OpenPage) -> ChatPage:
    """The page of a gateway whose scripted model does not dawdle."""
    return open_page(start_server(scripted_pace="200"))

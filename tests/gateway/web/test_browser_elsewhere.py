"""The client on a page of another origin, as somebody's own site would use it."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.gateway.web.conftest import StartServer

pytestmark = pytest.mark.browser

PAGE = """<!doctype html>
<title>A page of somebody else</title>
<link rel="icon" href="data:,">
<script type="module">
  import { MakotoClient } from "GATEWAYweb/makoto.js";
  const url = "GATEWAYv1/ws".replace("http", "ws");
  window.client = new MakotoClient({ url, token: async () => "TOKEN" });
  window.ask = async (content) => (await client.send(content).done).text;
</script>
"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Another web server: its origin and its folder."""
    folder = tmp_path / "site"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()
        thread.join(10)


def test_an_allowed_page_chats_uploads_and_fetches(
    start_server: StartServer, browser: Browser, site: tuple[str, Path]
) -> None:
    origin, folder = site
    server = start_server(scripted_pace="0", allowed_origins=origin)
    page = browser.new_page()
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    filled = PAGE.replace("GATEWAY", server.url).replace("TOKEN", server.token("hanako"))
    (folder / "index.html").write_text(filled)
    page.goto(origin)
    page.wait_for_function("window.client !== undefined")
    assert page.evaluate("ask('echo こんにちは')") == "こんにちは"
    long = "長い文章。" * 4_000
    assert page.evaluate("(text) => ask(`echo ${text}`)", long) == long
    assert page.evaluate("ask('large')").count("A large reply.") == 819
    assert page.evaluate("client.sessions().then(({ items }) => items.length)") == 3
    page.evaluate("client.close()")
    page.close()
    assert faults == []


def test_a_page_that_is_not_allowed_gets_nothing(
    start_server: StartServer, browser: Browser, site: tuple[str, Path]
) -> None:
    origin, folder = site
    server = start_server(scripted_pace="0")
    page = browser.new_page()
    filled = PAGE.replace("GATEWAY", server.url).replace("TOKEN", server.token("hanako"))
    (folder / "index.html").write_text(filled)
    page.goto(origin)
    page.wait_for_function("window.client !== undefined")
    state = """new Promise((resolve) => {
      client.on("state", ({ state }) => state === "connecting" || resolve(state));
      client.connect().catch(() => {});
    })"""
    assert page.evaluate(state) == "waiting"
    told = """new Promise((resolve) => client.on("state", ({ error }) => error && resolve(error.code)))"""
    assert page.evaluate(told) == "client.network"
    page.close()

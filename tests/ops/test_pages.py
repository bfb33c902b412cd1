"""The page of the README on another origin, and the demo page behind the proxy, in Chromium."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.ops.browser import open_page
from tests.ops.examples import example, with_changes
from tests.ops.gateway_process import running_gateway
from tests.ops.nginx_process import NAME, running_nginx

pytestmark = pytest.mark.browser


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def files_served(folder: Path) -> Iterator[str]:
    """Serve a folder as `python3 -m http.server` does; gives the origin."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://localhost:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(timeout=10)


def test_a_page_of_another_origin_chats_as_the_readme_shows(tmp_path: Path) -> None:
    folder = tmp_path / "page"
    folder.mkdir()
    with (
        files_served(folder) as origin,
        running_gateway(tmp_path / "data", MAKOTO_ALLOWED_ORIGINS=origin) as gateway,
    ):
        page_text = with_changes(
            example("README.md", "own-page"), {"127.0.0.1:8765": f"127.0.0.1:{gateway.port}"}
        )
        (folder / "index.html").write_text(page_text)
        with open_page() as page:
            page.on("dialog", lambda dialog: dialog.accept(gateway.token()))
            page.goto(origin)
            for text in ("echo 誠 <b>1</b>", "recall"):
                page.get_by_role("textbox").fill(text)
                page.get_by_role("button").click()
                expect(page.locator("#mood")).to_have_text("neutral, stop")
                page.evaluate("document.querySelector('#mood').textContent = ''")
            expect(page.locator("#answer")).to_contain_text("echo 誠 <b>1</b>")


@pytest.mark.proxy
def test_the_demo_page_works_behind_the_proxy_with_a_pasted_token(tmp_path: Path) -> None:
    with (
        running_gateway(
            tmp_path / "data",
            MAKOTO_ALLOWED_ORIGINS=f"https://{NAME}",
            MAKOTO_TRUSTED_PROXIES="127.0.0.1",
        ) as gateway,
        running_nginx(tmp_path, gateway_port=gateway.port) as nginx,
        open_page(
            f"--host-resolver-rules=MAP {NAME}:443 127.0.0.1:{nginx.tls_port}",
            "--ignore-certificate-errors",
        ) as page,
    ):
        page.goto(f"https://{NAME}/")
        page.get_by_label("Token (JWT)").fill(gateway.token())
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator("#connection")).to_have_text("Connected")
        page.get_by_label("Message", exact=True).fill("echo through the proxy")
        page.keyboard.press("Enter")
        expect(page.locator(".reply .text")).to_have_text("through the proxy")

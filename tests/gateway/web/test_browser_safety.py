"""The page under attack: model text that would be markup, other people's tokens, no token at all."""

import pytest
from playwright.sync_api import Error, expect

from tests.gateway.web.chat_page import OFFLINE, ChatPage
from tests.gateway.web.conftest import OpenPage, StartServer

pytestmark = pytest.mark.browser

ATTACKS = [
    "<script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 1'>",
    "[click](javascript:window.hacked=1)",
    "[click](data:text/html,<script>opener.hacked=1</script>)",
    "```\n</code></pre><img src=x onerror='window.hacked = 1'>\n```",
    "| <svg onload='window.hacked = 1'> |\n|---|\n| <b>x</b> |",
    "<style>*{display:none}</style><iframe srcdoc='<script>parent.hacked=1</script>'></iframe>",
    "<a href='javascript:window.hacked=1' onclick='window.hacked=1'>click</a>",
]


def test_text_of_a_model_never_becomes_markup(chat: ChatPage) -> None:
    for text in ATTACKS:
        chat.ask(f"echo {text}")
    page = chat.page
    markup = "script, img, svg, iframe, style, object, form, [onclick], [onerror], [style]"
    assert page.locator(".turns").locator(markup).count() == page.locator(".turns svg.icon").count()
    assert page.locator(".turns a").count() == 0
    for text in page.locator(".turns").get_by_text("click", exact=True).all():
        text.click()
    expect(page.locator(".reply .text").first).to_have_text(ATTACKS[0])
    assert page.evaluate("window.hacked") is None
    page.reload()
    expect(page.locator(".reply")).to_have_count(len(ATTACKS))
    assert page.evaluate("window.hacked") is None


def test_titles_and_memories_never_become_markup(chat: ChatPage) -> None:
    chat.ask("Remember that <img src=x onerror='window.hacked = 1'> is my name")
    chat.page.get_by_role("button", name="Memories", exact=True).click()
    expect(chat.page.locator("#memories")).to_contain_text("<img src=x")
    expect(chat.sessions).to_contain_text("<img src=x")
    assert chat.page.evaluate("window.hacked") is None


def test_links_lead_out_without_a_trace(chat: ChatPage) -> None:
    chat.ask("echo see [the docs](https://example.org/a?b=1) or https://example.org/c.")
    links = chat.texts.get_by_role("link")
    expect(links).to_have_count(2)
    for link in links.all():
        expect(link).to_have_attribute("target", "_blank")
        expect(link).to_have_attribute("rel", "noopener noreferrer")
    expect(links.nth(1)).to_have_attribute("href", "https://example.org/c")


ENFORCE_TRUSTED_TYPES = """
new MutationObserver((_, observer) => {
  if (!document.head) return;
  observer.disconnect();
  const policy = document.createElement("meta");
  policy.httpEquiv = "Content-Security-Policy";
  policy.content = "require-trusted-types-for 'script'; trusted-types 'none'";
  document.head.prepend(policy);
}).observe(document, { childList: true, subtree: true });
"""


def test_the_page_needs_no_markup_even_where_that_is_forbidden(chat: ChatPage) -> None:
    chat.page.add_init_script(ENFORCE_TRUSTED_TYPES)
    chat.page.reload()
    chat.wait_until_connected()
    chat.ask("Show me Markdown")
    chat.page.get_by_role("button", name="Memories", exact=True).click()
    assert chat.faults == []
    chat.expected_faults.append("TrustedHTML|require-trusted-types-for")
    with pytest.raises(Error, match="TrustedHTML"):
        chat.page.evaluate("document.body.innerHTML = 'x'")


def test_without_demo_tokens_the_page_asks_for_one(
    start_server: StartServer, open_page: OpenPage
) -> None:
    server = start_server(scripted_pace="0")
    chat = open_page(server)
    chat.expected_faults += [r"Failed to load resource.*404"]
    chat.page.route("**/v1/demo/token", lambda route: route.fulfill(status=404, body="{}"))
    chat.page.reload()
    dialog = chat.page.get_by_role("dialog", name="Sign in with a token")
    expect(dialog).to_be_visible()
    dialog.get_by_label("Token (JWT)").fill("not a token")
    dialog.get_by_role("button", name="Sign in").click()
    expect(dialog.get_by_role("alert")).to_contain_text("That is not a JWT")
    dialog.get_by_label("Token (JWT)").fill(server.token("hanako"))
    dialog.get_by_role("button", name="Sign in").click()
    chat.wait_until_connected()
    expect(dialog).to_be_hidden()
    assert chat.ask("echo in").inner_text() == "in"
    stored = chat.page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")
    assert "eyJ" not in stored


def test_a_token_is_not_asked_for_again_when_the_server_was_away(
    start_server: StartServer, open_page: OpenPage
) -> None:
    server = start_server(scripted_pace="0")
    chat = open_page(server)
    chat.expected_faults += [r"Failed to load resource.*404", *OFFLINE]
    chat.page.route("**/v1/demo/token", lambda route: route.fulfill(status=404, body="{}"))
    chat.page.reload()
    dialog = chat.page.get_by_role("dialog", name="Sign in with a token")
    dialog.get_by_label("Token (JWT)").fill(server.token("hanako"))
    dialog.get_by_role("button", name="Sign in").click()
    chat.wait_until_connected()
    server.kill()
    # It is told once a wait is long enough to be read: how long they are is drawn by lot.
    expect(chat.page.locator("#notice")).to_contain_text("Connection lost", timeout=60_000)
    expect(dialog).to_be_hidden()
    server.start()
    chat.wait_until_connected()
    assert chat.ask("echo in").inner_text() == "in"
    expect(dialog).to_be_hidden()


def test_a_token_that_is_refused_is_asked_for_again(
    start_server: StartServer, open_page: OpenPage
) -> None:
    server = start_server(scripted_pace="0")
    chat = open_page(server)
    chat.expected_faults += [
        r"Failed to load resource.*40[14]",
        r"WebSocket connection to .* failed",
    ]
    chat.page.route("**/v1/demo/token", lambda route: route.fulfill(status=404, body="{}"))
    chat.page.reload()
    dialog = chat.page.get_by_role("dialog", name="Sign in with a token")
    dialog.get_by_label("Token (JWT)").fill("e30.e30.c2ln")
    dialog.get_by_role("button", name="Sign in").click()
    expect(dialog.get_by_role("alert")).to_contain_text("The last token was not accepted")
    dialog.get_by_label("Token (JWT)").fill(server.token("hanako"))
    dialog.get_by_role("button", name="Sign in").click()
    chat.wait_until_connected()

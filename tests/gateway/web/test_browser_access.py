"""The page by keyboard, by ear, in large type, and without colours of its own.

The rules are those of WCAG 2.2 and of the ARIA Authoring Practices.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.gateway.web.chat_page import LONG, OFFLINE, ChatPage
from tests.gateway.web.conftest import OpenPage, StartServer, servers
from tests.gateway.web.gateway_server import GatewayServer

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, signing_key: Path) -> Iterator[GatewayServer]:
    """One gateway for all, and one person: what a test leaves behind, the next finds in the lists."""
    with servers(tmp_path_factory.mktemp("gateway"), signing_key) as start:
        yield start(scripted_pace="100")


@pytest.fixture
def chat(server: GatewayServer, open_page: OpenPage) -> ChatPage:
    return open_page(server)


HEAR = """
window.heard = [];
const listen = () => new MutationObserver((records) => {
  for (const { target, addedNodes } of records) {
    const at = target.nodeType === 1 ? target : target.parentElement;
    const region = at?.closest("[aria-live], [role=status], [role=log], [role=alert]");
    const isSpoken = region && region.getAttribute("aria-live") !== "off";
    if (isSpoken) heard.push([...addedNodes].map((node) => node.textContent).join(" "));
  }
}).observe(document, { subtree: true, childList: true, characterData: true });
listen();
"""
"""Note what a screen reader is told to say by itself."""

WITHOUT_STORAGE = """
for (const name of ["localStorage", "sessionStorage"]) {
  Object.defineProperty(window, name, { get() { throw new DOMException("no", "SecurityError"); } });
}
"""


def heard(chat: ChatPage) -> list[str]:
    """Return what was said since the last time that was asked."""
    said: list[str] = chat.page.evaluate("heard.splice(0)")
    return [text for text in said if text]


def focused(chat: ChatPage) -> str:
    """Return the id or the name of what has the focus."""
    script = "(({ id, ariaLabel, tagName }) => id || ariaLabel || tagName)(document.activeElement)"
    name: str = chat.page.evaluate(script)
    return name


def test_an_answer_is_said_once_and_whole(chat: ChatPage) -> None:
    chat.page.evaluate(HEAR)
    chat.ask("Show me Markdown")
    expect(chat.page.locator("#spoken")).to_contain_text("And a quotation.")
    words = heard(chat)
    assert words[0] == "Makoto is writing."
    assert len(words) == 2, words
    assert 'print("Hello, <world>!\\n")' in words[1]
    assert "Copy" not in words[1]

    chat.ask("Remember that I like green tea")
    expect(chat.page.locator("#spoken")).to_contain_text("Remembered: I like green tea")

    chat.say(LONG)
    chat.wait_for_text(40)
    chat.page.keyboard.press("Escape")
    chat.wait_until_idle()
    expect(chat.page.locator("#spoken")).to_contain_text(re.compile(r"Stopped$"))


def test_an_old_conversation_is_not_read_out(chat: ChatPage) -> None:
    chat.ask("Hello")
    chat.page.add_init_script(HEAR)
    chat.page.reload()
    chat.wait_until_connected()
    expect(chat.replies).to_have_count(1)
    assert heard(chat) == []


def test_a_countdown_is_not_read_out(start_server: StartServer, open_page: OpenPage) -> None:
    server = start_server(scripted_pace="200")
    chat = open_page(server)
    chat.expected_faults += OFFLINE
    chat.page.evaluate(HEAR)
    server.kill()
    notice = chat.page.locator("#notice")
    expect(notice).to_contain_text("Trying again in", timeout=20_000)
    before = notice.inner_text()
    expect(notice).not_to_have_text(before)
    expect(notice).not_to_be_empty()
    assert heard(chat) == ["Connection lost; what you write is kept."]
    server.start()
    notice.get_by_role("button", name="Now").click()
    expect(notice).to_be_hidden()
    assert heard(chat)[-1] == "Connected again."


def test_the_skip_link_leaves_the_conversation_open(chat: ChatPage) -> None:
    chat.ask("Hello")
    address = chat.page.url
    chat.page.locator(".skip").focus()
    expect(chat.page.locator(".skip")).to_be_in_viewport()
    chat.page.keyboard.press("Enter")
    expect(chat.field).to_be_focused()
    expect(chat.replies).to_have_count(1)
    assert chat.page.url == address


def test_the_conversation_scrolls_by_keyboard(chat: ChatPage) -> None:
    chat.ask("Show me Markdown")
    chat.ask("Show me Markdown")
    page = chat.page
    page.get_by_role("button", name="Memories", exact=True).focus()
    page.keyboard.press("Tab")
    assert focused(chat) == "transcript"
    expect(page.get_by_role("region", name="Conversation")).to_be_focused()
    page.keyboard.press("Home")
    expect(page.locator("#transcript")).to_have_js_property("scrollTop", 0)


def test_what_is_pressed_does_not_lose_the_focus(chat: ChatPage) -> None:
    chat.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    chat.ask("Show me Markdown")
    copy = chat.page.get_by_role("button", name="Copy the answer")
    copy.press("Enter")
    expect(chat.page.locator("#spoken")).to_contain_text("Copied")
    expect(copy).to_be_focused()
    chat.page.get_by_role("button", name="Answer again").press("Enter")
    expect(chat.field).to_be_focused()
    chat.wait_until_idle()


def test_what_is_hidden_from_the_mouse_is_not_hidden_from_the_keyboard(chat: ChatPage) -> None:
    """The actions of a conversation, also going backwards; what is deleted leaves the focus nearby."""
    page = chat.page
    for text in ("Hello", "Hello again"):
        page.get_by_role("button", name="New conversation").click()
        chat.ask(text)
    page.get_by_role("button", name="Theme").focus()
    page.keyboard.press("Shift+Tab")
    assert focused(chat).startswith("Delete: ")
    expect(page.locator(".row-actions :focus")).to_be_in_viewport(ratio=1)
    page.keyboard.press("Shift+Tab")
    assert focused(chat).startswith("Rename: ")
    page.keyboard.press("Tab")
    before = chat.sessions.count()
    page.keyboard.press("Enter")
    page.get_by_role("dialog").get_by_role("button", name="Delete").press("Enter")
    expect(chat.sessions).to_have_count(before - 1)
    expect(page.locator(".session:focus")).to_have_count(1)


def test_memories_stay_where_they_are_when_more_come(chat: ChatPage) -> None:
    for thing in ("chess", "rain"):
        chat.ask(f"Remember that I like {thing}")
    page = chat.page
    page.get_by_role("button", name="Memories", exact=True).click()
    page.get_by_role("button", name="Forget: I like chess").focus()
    page.evaluate("document.querySelector('#message').value = 'Remember that I like snow'")
    page.evaluate("document.querySelector('#composer').requestSubmit()")
    page.evaluate("document.querySelector('#memories [aria-label*=chess]').focus()")
    expect(page.get_by_role("button", name="Forget: I like snow")).to_be_visible()
    assert focused(chat) == "Forget: I like chess"
    chat.wait_until_idle()


def test_letters_grow_with_the_browsers_own_size(chat: ChatPage) -> None:
    """Success criterion 1.4.4: text of twice the size, and nothing is cut off."""
    chat.ask("Show me Markdown")
    page = chat.page
    size = "(selector) => parseFloat(getComputedStyle(document.querySelector(selector)).fontSize)"
    names = [".said-text", "#title", ".session", ".chip", ".hint", "#message", ".text code"]
    before = [page.evaluate(size, name) for name in names]
    page.evaluate("document.documentElement.style.fontSize = '200%'")
    assert [page.evaluate(size, name) for name in names] == [2 * each for each in before]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    cut = """() => [...document.querySelectorAll("button")].filter((each) => each.checkVisibility())
      .filter((each) => each.scrollHeight > each.clientHeight + 1).map((each) => each.outerHTML)"""
    assert page.evaluate(cut) == []


def test_forced_colours_and_still_pictures(start_server: StartServer, open_page: OpenPage) -> None:
    server = start_server(scripted_pace="20")
    chat = open_page(server, forced_colors="active", reduced_motion="reduce")
    chat.say(LONG)
    chat.wait_for_text(20)
    page = chat.page
    outline = "(selector) => getComputedStyle(document.querySelector(selector)).outlineStyle"
    assert page.evaluate(outline, "#composer") == "solid", "where one writes"
    assert page.evaluate(outline, ".sessions .current") == "solid", "what is open"
    assert page.evaluate("document.getAnimations().length") == 0


def test_a_browser_that_keeps_nothing(server: GatewayServer, open_page: OpenPage) -> None:
    page = open_page(server).page.context.new_page()
    page.add_init_script(WITHOUT_STORAGE)
    chat = ChatPage(page=page, url=server.url)
    chat.open()
    chat.ask("Hello")
    page.get_by_role("button", name="Theme").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    assert chat.faults == []


def test_a_keyboard_that_covers_the_page(chat: ChatPage) -> None:
    """As on iOS: the visual viewport shrinks, the layout's does not."""
    page = chat.page
    cover = """(height) => {
      Object.defineProperty(visualViewport, "height", { value: height, configurable: true });
      visualViewport.dispatchEvent(new Event("resize"));
    }"""
    page.evaluate(cover, 420)
    box = page.locator("#composer").bounding_box()
    assert box is not None
    assert box["y"] + box["height"] <= 420
    page.evaluate(cover, 820)
    assert page.evaluate("document.querySelector('.app').offsetHeight") == 820

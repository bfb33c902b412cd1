"""Conversations and memories in the page, in a real Chromium against a real gateway."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, expect

from tests.gateway.web.chat_page import ChatPage
from tests.gateway.web.conftest import OpenPage, StartServer

pytestmark = pytest.mark.browser


def row_of(chat: ChatPage, title: str) -> Locator:
    row = chat.page.locator(".sessions li", has=chat.page.get_by_text(title, exact=True))
    row.hover()
    return row


def test_conversations_are_listed_newest_first_and_opened(chat: ChatPage) -> None:
    chat.ask("echo first")
    chat.page.get_by_role("button", name="New conversation").click()
    expect(chat.said).to_have_count(0)
    expect(chat.field).to_be_focused()
    chat.ask("echo second")
    expect(chat.sessions).to_have_text(["echo second", "echo first"])
    chat.sessions.nth(1).click()
    expect(chat.said).to_have_text(["echo first"])
    expect(chat.texts).to_have_text(["first"])
    expect(chat.sessions.nth(1)).to_have_attribute("aria-current", "page")
    chat.page.go_back()
    expect(chat.said).to_have_text(["echo second"])
    expect(chat.page.locator("#title")).to_have_text("echo second")


def test_renaming(chat: ChatPage) -> None:
    chat.ask("Hello")
    row_of(chat, "Hello").get_by_role("button", name="Rename").click()
    title = chat.page.get_by_role("textbox", name="Title")
    expect(title).to_be_focused()
    title.fill("お茶の話")
    title.press("Enter")
    expect(chat.sessions).to_have_text(["お茶の話"])
    expect(chat.sessions).to_be_focused()
    expect(chat.page.locator("#title")).to_have_text("お茶の話")
    for cut_off in ("#title", ".session-title"):
        expect(chat.page.locator(cut_off)).to_have_attribute("title", "お茶の話")
    row_of(chat, "お茶の話").get_by_role("button", name="Rename").click()
    title.fill("no")
    title.press("Escape")
    expect(chat.sessions).to_have_text(["お茶の話"])
    chat.page.reload()
    expect(chat.sessions).to_have_text(["お茶の話"])
    expect(chat.page).to_have_title("お茶の話 · Makoto")


def test_deleting_asks_first(chat: ChatPage) -> None:
    chat.ask("echo gone")
    question = chat.page.get_by_role("dialog")
    for answer, left in [("Keep", 1), ("Delete", 0)]:
        row_of(chat, "echo gone").get_by_role("button", name="Delete").click()
        expect(question).to_contain_text("“echo gone” and its messages will be gone for good.")
        question.get_by_role("button", name=answer).click()
        expect(chat.sessions).to_have_count(left)
    expect(chat.said).to_have_count(0)
    expect(chat.page.get_by_text("What shall we talk about?")).to_be_visible()
    chat.page.reload()
    expect(chat.page.get_by_text("No conversations yet.")).to_be_visible()


def test_the_link_to_a_conversation_that_is_gone_leads_to_a_new_one(
    start_server: StartServer, open_page: OpenPage
) -> None:
    chat = open_page(start_server(scripted_pace="200"), "#session=nowhere")
    expect(chat.page.get_by_text("This conversation does not exist any more.")).to_be_visible()
    expect(chat.page).to_have_url(chat.url)
    chat.ask("echo here")
    expect(chat.sessions).to_have_text(["echo here"])


def test_memories_are_shown_and_forgotten(chat: ChatPage) -> None:
    page = chat.page
    chat.ask("Remember that I like green tea")
    page.locator(".chip.memory", has_text="I like green tea").click()
    panel = page.get_by_role("complementary", name="Memories")
    expect(panel.get_by_text("I like green tea")).to_be_visible()

    page.get_by_role("button", name="New conversation").click()
    chat.ask("Recall")
    expect(chat.texts).to_contain_text("Memories I was given:")
    expect(chat.texts.locator("blockquote").first).to_have_text("I like green tea")

    panel.get_by_role("button", name="Forget: I like green tea").click()
    page.get_by_role("dialog").get_by_role("button", name="Forget").click()
    expect(panel.get_by_text("Nothing yet.")).to_be_visible()
    expect(panel.get_by_role("button", name="Close memories")).to_be_focused()
    chat.ask("Recall")
    expect(chat.texts.last.locator("blockquote").first).to_have_text("none")
    page.keyboard.press("Escape")


_COUNT_CHIPS_THAT_GO = """() => {
  window.gone = 0;
  const isChip = (node) => node.classList?.contains("chip");
  new MutationObserver((changes) => {
    for (const { removedNodes } of changes) window.gone += [...removedNodes].filter(isChip).length;
  }).observe(document.getElementById("turns"), { childList: true, subtree: true });
}"""


def test_what_is_known_of_an_answer_appears_once(chat: ChatPage) -> None:
    chat.page.evaluate(_COUNT_CHIPS_THAT_GO)
    chat.ask("Remember that I like green tea")
    expect(chat.page.locator(".chip")).to_have_count(3)
    assert chat.page.evaluate("window.gone") == 0


def test_memories_are_shown_with_their_answers_after_a_reload_until_they_are_forgotten(
    chat: ChatPage,
) -> None:
    page = chat.page
    tea, cats = (f"Remember that I like {what}" for what in ("green tea", "cats"))
    chip = page.locator(".chip.memory")
    for question in (tea, "echo no memory", cats):
        chat.ask(question)
    page.reload()
    expect(chip).to_have_text(["I like green tea", "I like cats"])
    for turn, remembered in ((0, "I like green tea"), (2, "I like cats")):
        expect(chat.replies.nth(turn).locator(".chip.memory")).to_have_text(remembered)
    chip.first.click()
    page.get_by_role("button", name="Forget: I like green tea").click()
    page.get_by_role("dialog").get_by_role("button", name="Forget").click()
    expect(chip).to_have_text(["I like cats"])
    page.reload()
    expect(chip).to_have_text(["I like cats"])


_SCROLL_UP = """() => {
  document.getElementById("transcript").scrollTop = 100;
  const said = [...document.querySelectorAll(".said-text")];
  return [said.length, said[0].innerText, said[0].getBoundingClientRect().top];
}"""


def long(number: int) -> str:
    """A question that makes a page of the history short: its bytes count."""
    return f"echo {number} " + "長い" * 600


@pytest.mark.parametrize("question", ["echo answer {}".format, long], ids=["short", "long"])
def test_older_messages_come_as_one_scrolls_up_and_nothing_moves(
    start_server: StartServer, open_page: OpenPage, question: Callable[[int], str]
) -> None:
    chat = open_page(start_server(scripted_pace="0"))
    asked = [question(number) for number in range(12)]
    for each in asked:
        chat.ask(each)
    chat.page.reload()
    expect(chat.texts.last).to_have_text(asked[-1].removeprefix("echo "))
    expect(chat.texts.last).to_be_in_viewport()
    assert chat.said.count() < len(asked)
    while chat.said.count() < len(asked):
        known, first, top = chat.page.evaluate(_SCROLL_UP)
        if known == len(asked):
            break
        expect(chat.said.nth(known)).to_be_attached()
        box = chat.said.get_by_text(first, exact=True).bounding_box()
        assert box is not None
        assert box["y"] == pytest.approx(top, abs=2)
    expect(chat.said).to_have_text(asked)
    expect(chat.texts).to_have_text([each.removeprefix("echo ") for each in asked])
    expect(chat.page.get_by_role("button", name="Show earlier messages")).to_be_hidden()


def test_a_tall_window_is_filled(start_server: StartServer, open_page: OpenPage) -> None:
    chat = open_page(start_server(scripted_pace="0"), viewport={"width": 1280, "height": 2_400})
    asked = [f"echo answer {number}" for number in range(12)]
    for each in asked:
        chat.ask(each)
    chat.page.reload()
    expect(chat.said).to_have_text(asked)


def test_light_dark_and_as_the_system(chat: ChatPage) -> None:
    background = "() => getComputedStyle(document.body).backgroundColor"
    chat.page.emulate_media(color_scheme="light")
    light = chat.page.evaluate(background)
    chat.page.emulate_media(color_scheme="dark")
    dark = chat.page.evaluate(background)
    assert light != dark
    toggle = chat.page.get_by_role("button", name=re.compile("^Theme"))
    toggle.click()
    expect(toggle).to_have_accessible_name("Theme: light")
    assert chat.page.evaluate(background) == light
    chat.page.reload()
    assert chat.page.evaluate(background) == light
    toggle.click()
    assert chat.page.evaluate(background) == dark


def test_the_theme_changes_where_nothing_can_be_kept(chat: ChatPage) -> None:
    chat.page.evaluate("() => { Storage.prototype.setItem = () => { throw new Error('full'); }; }")
    chat.page.get_by_role("button", name="Theme: as the system").click()
    expect(chat.page.locator("html")).to_have_attribute("data-theme", "light")

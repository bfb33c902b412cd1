"""The page on a telephone: 390 by 844 points, by touch."""

import pytest
from playwright.sync_api import expect

from tests.gateway.web.chat_page import ChatPage
from tests.gateway.web.conftest import OpenPage, StartServer

pytestmark = pytest.mark.browser

PHONE = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}
SMALL = "button, [role=button], textarea, summary"


@pytest.fixture
def phone(start_server: StartServer, open_page: OpenPage) -> ChatPage:
    return open_page(start_server(scripted_pace="200"), **PHONE)


BEYOND = """
() => [...document.querySelectorAll("#main *")].filter((element) => {
  const { left, right, width } = element.getBoundingClientRect();
  return width && (left < 0 || right > innerWidth) && !element.closest("pre, .table, .unseen");
}).map((element) => element.outerHTML.slice(0, 80))
"""


def assert_fits(chat: ChatPage) -> None:
    """Nothing but what scrolls by itself reaches beyond the screen."""
    assert chat.page.evaluate("[innerWidth, document.documentElement.scrollWidth]") == [390, 390]
    assert chat.page.evaluate(BEYOND) == []


def test_a_chat_by_touch(phone: ChatPage) -> None:
    page = phone.page
    assert_fits(phone)
    page.get_by_role("button", name="日本語で話して").tap()
    phone.wait_until_idle()
    expect(phone.texts).to_contain_text("私は台本どおり")
    assert page.evaluate("document.activeElement.id") != "message", "no keyboard over the answer"
    phone.field.tap()
    phone.field.fill(
        f"echo {'longword' * 50}\n\n```\n{'code ' * 100}\n```\n{'| 長い内容 ' * 9}|\n{'|--' * 9}|"
    )
    page.get_by_role("button", name="Send").tap()
    phone.wait_until_idle()
    expect(phone.replies).to_have_count(2)
    assert_fits(phone)
    box = phone.field.bounding_box()
    assert box is not None
    assert box["y"] + box["height"] <= 844


def test_the_drawers(phone: ChatPage) -> None:
    page = phone.page
    phone.ask("Remember that I am a gardener")
    opener = page.get_by_role("button", name="Conversations")
    drawer = page.get_by_role("complementary", name="Conversations")
    expect(drawer).to_be_hidden()
    opener.tap()
    expect(drawer).to_be_visible()
    expect(page.get_by_role("button", name="Close conversations")).to_be_focused()
    expect(drawer.get_by_role("button", name="Rename")).to_be_visible()
    page.keyboard.press("Escape")
    expect(drawer).to_be_hidden()
    expect(opener).to_be_focused()

    opener.tap()
    page.touchscreen.tap(380, 400)
    expect(drawer).to_be_hidden()

    opener.tap()
    drawer.get_by_role("button", name="New conversation").tap()
    expect(drawer).to_be_hidden()
    expect(phone.said).to_have_count(0)

    page.get_by_role("button", name="Memories", exact=True).tap()
    memories = page.get_by_role("complementary", name="Memories")
    expect(memories.get_by_text("I am a gardener")).to_be_in_viewport()
    page.get_by_role("button", name="Close memories").tap()
    expect(memories).to_be_hidden()


def test_what_is_touched_is_large_enough(phone: ChatPage) -> None:
    """WCAG 2.2, success criterion 2.5.5: targets of at least 44 by 44 points."""
    phone.ask("Show me Markdown")
    phone.ask("Remember that I like green tea")
    for name in ("Memories", "Conversations"):
        phone.page.get_by_role("button", name=name, exact=True).tap()
        for target in phone.page.locator(SMALL).all():
            box = target.bounding_box() if target.is_visible() else None
            if box is not None:
                assert min(box["width"], box["height"]) >= 43.9, target.evaluate("e => e.outerHTML")
        phone.page.keyboard.press("Escape")

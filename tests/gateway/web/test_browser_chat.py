"""Chatting in the page, in a real Chromium against a real gateway."""

import re

import pytest
from playwright.sync_api import expect

from tests.gateway.web.chat_page import LONG, ChatPage
from tests.gateway.web.conftest import OpenPage, StartServer

pytestmark = pytest.mark.browser


def test_a_whole_chat(chat: ChatPage) -> None:
    page = chat.page
    expect(page.get_by_role("heading", name="What shall we talk about?")).to_be_visible()
    expect(chat.field).to_be_focused()

    answer = chat.ask("Show me Markdown")
    expect(answer.get_by_role("heading", name="A table")).to_be_visible()
    expect(answer.get_by_role("table")).to_contain_text("less haste")
    expect(answer.locator("pre code")).to_have_text('print("Hello, <world>!\\n")')
    expect(page.locator(".chip").nth(0)).to_contain_text("neutral")
    expect(page.locator(".chip").nth(1)).to_contain_text("general")

    expect(page.locator("#title")).to_have_text("Show me Markdown")
    expect(chat.sessions).to_have_text(["Show me Markdown"])
    expect(page.get_by_text("What shall we talk about?")).to_be_hidden()

    chat.ask("日本語で話して")
    expect(chat.texts.last).to_contain_text("この会話の2番目です")
    expect(chat.texts.last).to_have_attribute("lang", "ja")
    expect(chat.said).to_have_text(["Show me Markdown", "日本語で話して"])


def test_text_appears_while_it_is_written(start_server: StartServer, open_page: OpenPage) -> None:
    chat = open_page(start_server(scripted_pace="20"))
    chat.say(LONG)
    early = chat.wait_for_text(20)
    assert len(early) < 600
    expect(chat.live).to_have_count(1)
    expect(chat.texts.last).to_contain_text(early[: len(early) // 2])
    expect(chat.texts.last).to_have_text(re.compile(rf".{{{len(early) + 40},}}", re.DOTALL))


@pytest.mark.parametrize("by", ["button", "Escape"])
def test_stop_keeps_what_was_written(
    start_server: StartServer, open_page: OpenPage, by: str
) -> None:
    chat = open_page(start_server(scripted_pace="20"))
    chat.say(LONG)
    chat.wait_for_text(40)
    if by == "button":
        chat.page.get_by_role("button", name="Stop the answer").click()
    else:
        chat.page.keyboard.press("Escape")
    chat.wait_until_idle()
    expect(chat.page.locator(".label")).to_have_text("Stopped")
    kept = chat.texts.inner_text()
    assert 40 <= len(kept) < 1_500
    expect(chat.page.get_by_role("button", name="Stop the answer")).to_be_hidden()

    chat.page.reload()
    expect(chat.texts).to_have_text(kept, use_inner_text=True)
    expect(chat.page.locator(".label")).to_have_text("Stopped")


def test_regenerate_puts_the_new_answer_in_place_of_the_old(chat: ChatPage) -> None:
    chat.ask("Hello")
    chat.page.get_by_role("button", name="Answer again").click()
    expect(chat.live).to_have_count(0)
    expect(chat.replies).to_have_count(1)
    expect(chat.said).to_have_text(["Hello"])
    expect(chat.texts).to_contain_text("Your message has 5 characters and is number 1")
    chat.page.reload()
    expect(chat.replies).to_have_count(1)
    expect(chat.said).to_have_text(["Hello"])


@pytest.mark.parametrize(
    ("message", "label"),
    [
        ("fail", "No answer: The model is not available."),
        ("fail later", "The answer broke off: The model is not available."),
        ("filter", "Stopped by the content filter"),
        ("truncate", "Cut off at the length limit"),
    ],
)
def test_an_answer_that_failed_says_so_and_can_be_tried_again(
    chat: ChatPage, message: str, label: str
) -> None:
    chat.ask(message)
    expect(chat.page.locator(".label").first).to_have_text(re.compile(re.escape(label)))
    chat.page.get_by_role("button", name="Try again").click()
    expect(chat.live).to_have_count(0)
    expect(chat.page.locator(".label").first).to_have_text(re.compile(re.escape(label)))
    expect(chat.replies).to_have_count(1)


@pytest.mark.parametrize(
    ("message", "label"),
    [
        ("stall", "No answer: The model took too long."),
        ("stall later", "The answer broke off: The model took too long."),
    ],
)
def test_a_model_that_is_silent_for_too_long_is_told_of_once_before_and_after_a_reload(
    start_server: StartServer, open_page: OpenPage, message: str, label: str
) -> None:
    deadlines = {"first_token_s": "0.5", "between_chunks_s": "0.5"}
    chat = open_page(start_server(scripted_pace="0", **deadlines))
    chat.ask(message)
    expect(chat.page.locator(".label")).to_have_text(label)
    chat.page.reload()
    expect(chat.page.locator(".label")).to_have_text(label)


def test_a_message_that_will_never_be_taken_can_be_edited_instead_of_sent_again(
    start_server: StartServer, open_page: OpenPage
) -> None:
    chat = open_page(start_server(scripted_pace="0", content_bytes="2000"))
    chat.say("echo " + "long " * 500)
    refused = chat.status("Not sent: This is larger than allowed.")
    expect(refused).to_be_visible()
    expect(chat.spoken).to_have_text("Not sent: This is larger than allowed.")
    expect(chat.page.get_by_role("button", name="Send again")).to_have_count(0)
    chat.field.fill("written meanwhile")
    chat.page.get_by_role("button", name="Edit", exact=True).click()
    expect(refused).to_have_count(0)
    expect(chat.said).to_have_count(0)
    expect(chat.page.get_by_text("What shall we talk about?")).to_be_visible()
    expect(chat.field).to_be_focused()
    expect(chat.field).to_have_value(re.compile(r"^echo (long ){499}long\n\nwritten meanwhile$"))
    assert chat.ask("echo short").inner_text() == "short"


def test_a_message_whose_turn_has_not_come_says_that_it_waits(
    start_server: StartServer, open_page: OpenPage
) -> None:
    chat = open_page(start_server(scripted_pace="30"))
    chat.say(LONG)
    chat.wait_for_text(20)
    chat.say("echo second")
    waits = chat.page.get_by_text("Waiting…")
    expect(waits).to_be_visible()
    expect(waits).to_have_count(1)
    chat.page.reload()
    expect(waits).to_be_visible()
    expect(waits).to_have_count(1)
    chat.page.keyboard.press("Escape")
    expect(chat.texts.last).to_have_text("second")
    expect(waits).to_have_count(0)


def test_messages_wait_for_the_answer_before_them(
    start_server: StartServer, open_page: OpenPage
) -> None:
    chat = open_page(start_server(scripted_pace="150"))
    chat.say(LONG)
    chat.wait_for_text(20)
    chat.say("echo second")
    chat.say("echo third")
    chat.wait_until_idle()
    expect(chat.texts).to_have_count(3)
    expect(chat.texts.nth(1)).to_have_text("second")
    expect(chat.texts.nth(2)).to_have_text("third")


def test_copying(start_server: StartServer, open_page: OpenPage) -> None:
    chat = open_page(
        start_server(scripted_pace="0"), permissions=["clipboard-read", "clipboard-write"]
    )
    chat.ask("Show me Markdown")
    chat.page.get_by_role("button", name="Copy", exact=True).click()
    expect(chat.page.get_by_role("button", name="Copied")).to_be_visible()
    assert chat.page.evaluate("navigator.clipboard.readText()") == 'print("Hello, <world>!\\n")'
    chat.page.get_by_role("button", name="Copy the answer").click()
    assert "| `long` | more text |" in chat.page.evaluate("navigator.clipboard.readText()")


def test_the_keyboard_alone(chat: ChatPage) -> None:
    keyboard = chat.page.keyboard
    keyboard.type("echo one")
    keyboard.press("Shift+Enter")
    keyboard.type("two")
    keyboard.press("Enter")
    expect(chat.texts).to_have_text("one\ntwo", use_inner_text=True)
    expect(chat.field).to_be_focused()
    expect(chat.field).to_have_value("")
    keyboard.press("Enter")
    expect(chat.said).to_have_count(1)


def test_the_enter_of_an_input_method_does_not_send(chat: ChatPage) -> None:
    session = chat.page.context.new_cdp_session(chat.page)
    chat.field.focus()
    session.send(
        "Input.imeSetComposition", {"text": "にほん", "selectionStart": 3, "selectionEnd": 3}
    )
    chat.field.dispatch_event("keydown", {"key": "Enter", "isComposing": True, "bubbles": True})
    chat.field.dispatch_event("keydown", {"key": "Enter", "keyCode": 229, "bubbles": True})
    expect(chat.said).to_have_count(0)
    session.send("Input.insertText", {"text": "日本"})
    expect(chat.field).to_have_value("日本")
    chat.page.keyboard.press("Enter")
    expect(chat.said).to_have_text(["日本"])
    chat.wait_until_idle()


def test_scrolling_up_stops_the_following(start_server: StartServer, open_page: OpenPage) -> None:
    chat = open_page(start_server(scripted_pace="60"), viewport={"width": 900, "height": 420})
    box = chat.page.locator("#transcript")
    chat.say(LONG)
    chat.wait_for_text(900)
    gap = "e => e.scrollHeight - e.scrollTop - e.clientHeight"
    chat.page.wait_for_function(f"({gap})(document.querySelector('#transcript')) < 48")
    box.hover()
    chat.page.mouse.wheel(0, -200)
    latest = chat.page.get_by_role("button", name="Latest")
    expect(latest).to_be_visible()
    top = box.evaluate("e => e.scrollTop")
    seen = len(chat.texts.last.inner_text())
    chat.wait_for_text(seen + 200)
    assert box.evaluate("e => e.scrollTop") == top
    latest.click()
    chat.wait_until_idle()
    assert box.evaluate(gap) < 48


def test_a_long_message_is_folded(chat: ChatPage) -> None:
    chat.ask("echo " + "word " * 600)
    expect(chat.said).to_have_class(re.compile("folded"))
    chat.page.get_by_role("button", name="Show all of it").click()
    expect(chat.said).not_to_have_class(re.compile("folded"))

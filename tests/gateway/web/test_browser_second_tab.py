"""A conversation in two tabs: what is asked in one appears in the other, live, once and in its place."""

import json
import re
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import WebSocketRoute, expect

from tests.gateway.web.chat_page import ANSWER_MS, LONG, SENTENCES, ChatPage, sentences
from tests.gateway.web.conftest import OpenPage, StartServer

pytestmark = pytest.mark.browser

TwoTabs = Callable[..., tuple[ChatPage, ChatPage]]


@pytest.fixture
def two_tabs(start_server: StartServer, open_page: OpenPage) -> TwoTabs:
    """Opens a conversation on two devices, or in two tabs of one browser, once a question is answered."""

    def open_both(*, pace: str, one_browser: bool = False) -> tuple[ChatPage, ChatPage]:
        server = start_server(scripted_pace=pace)
        left = open_page(server)
        left.ask("echo one")
        tab_of = left if one_browser else None
        right = open_page(server, f"#{urlsplit(left.page.url).fragment}", tab_of=tab_of)
        expect(right.texts).to_have_text(["one"])
        return left, right

    return open_both


def says(*texts: str) -> list[re.Pattern[str]]:
    return [re.compile(f"^{re.escape(text)}$") for text in texts]


def test_a_question_in_one_tab_appears_in_the_other_with_its_answer_streaming(
    two_tabs: TwoTabs,
) -> None:
    left, right = two_tabs(pace="120")

    left.say(LONG)
    expect(right.said).to_have_text(["echo one", LONG])
    expect(right.live).to_have_count(1)
    right.wait_for_text(40)
    left.wait_until_idle()
    right.wait_until_idle()
    expect(right.replies).to_have_count(2)
    assert sentences(right.texts.last.inner_text()) == SENTENCES
    assert right.texts.last.inner_text() == left.texts.last.inner_text()

    right.ask("echo three")
    expect(left.said).to_have_text(["echo one", LONG, "echo three"])
    expect(left.texts.last).to_have_text("three", timeout=ANSWER_MS)
    expect(left.replies).to_have_count(3)


@pytest.mark.parametrize("one_browser", [True, False], ids=["tab", "device"])
def test_a_question_that_waits_for_its_turn_appears_elsewhere_at_once(
    two_tabs: TwoTabs, one_browser: bool
) -> None:
    left, right = two_tabs(pace="30", one_browser=one_browser)
    left.say(LONG)
    expect(right.said).to_have_count(2)
    right.wait_for_text(20)
    left.say("echo three")
    expect(right.said).to_have_text(["echo one", LONG, "echo three"])
    expect(right.live).to_have_count(2)
    expect(right.page.get_by_text("Waiting…")).to_be_visible()
    left.page.keyboard.press("Escape")
    expect(right.texts.last).to_have_text("three", timeout=ANSWER_MS)
    expect(right.replies).to_have_count(3)


def test_a_question_that_waits_for_its_turn_appears_elsewhere_as_soon_as_it_is_announced(
    two_tabs: TwoTabs,
) -> None:
    left, right = two_tabs(pace="30")
    upstream: list[WebSocketRoute] = []
    right.page.route_web_socket(
        re.compile("/v1/ws"), lambda socket: upstream.append(socket.connect_to_server())
    )
    right.page.reload()
    expect(right.texts).to_have_text(["one"])
    left.say(LONG)
    right.wait_for_text(20)
    left.say("echo three")
    expect(left.live).to_have_count(2)
    session_id = urlsplit(left.page.url).fragment.removeprefix("session=")
    upstream[-1].send(json.dumps({"type": "subscribe", "session_id": session_id}))
    expect(right.said).to_have_text(["echo one", LONG, "echo three"])
    assert "sentence 25 of" not in right.texts.nth(1).inner_text()
    left.page.keyboard.press("Escape")
    expect(right.texts.last).to_have_text("three", timeout=ANSWER_MS)
    expect(right.replies).to_have_count(3)


def test_both_tabs_asking_at_once_show_both_in_the_same_order(two_tabs: TwoTabs) -> None:
    left, right = two_tabs(pace="200")
    for n in range(3):
        for chat, name in ((left, "left"), (right, "right")):
            chat.field.fill(f"echo {name} {n}")
        for chat in (left, right):
            chat.field.press("Enter")
    for chat in (left, right):
        expect(chat.replies).to_have_count(7, timeout=ANSWER_MS)
        chat.wait_until_idle()
        expect(chat.said).to_have_count(7)
    order = left.said.all_inner_texts()
    assert sorted(order[1:]) == [f"echo {name} {n}" for name in ("left", "right") for n in range(3)]
    for chat in (left, right):
        expect(chat.said).to_have_text(order)
        expect(chat.texts).to_have_text([text.removeprefix("echo ") for text in order])
    right.page.reload()
    expect(right.said).to_have_text(order)
    expect(right.texts).to_have_text([text.removeprefix("echo ") for text in order])


def test_a_tab_that_is_reloaded_in_the_middle_of_the_other_ones_answer_shows_it_once(
    two_tabs: TwoTabs,
) -> None:
    left, right = two_tabs(pace="120")
    left.say(LONG)
    right.wait_for_text(40)
    right.page.reload()
    right.wait_until_connected()
    expect(right.live).to_have_count(1)
    right.wait_until_idle()
    expect(right.said).to_have_text(["echo one", LONG])
    expect(right.replies).to_have_count(2)
    assert sentences(right.texts.last.inner_text()) == SENTENCES


def test_what_was_asked_while_a_tab_was_cut_off_is_there_when_it_is_back(two_tabs: TwoTabs) -> None:
    left, right = two_tabs(pace="0")
    lines: list[WebSocketRoute] = []
    is_cut_off = False

    def carry(socket: WebSocketRoute) -> None:
        if is_cut_off:
            socket.close(code=1012, reason="cut")
        else:
            lines.append(socket)
            socket.connect_to_server()

    right.page.route_web_socket(re.compile("/v1/ws"), carry)
    right.page.reload()
    right.wait_until_connected()
    expect(right.texts).to_have_text(["one"])
    is_cut_off = True
    lines[-1].close(code=1012, reason="cut")
    expect(right.page.locator("#connection")).not_to_have_text("Connected")
    left.ask("echo two")
    left.ask("echo three")
    right.say("echo four")
    is_cut_off = False
    right.wait_until_connected()
    for chat in (left, right):
        expect(chat.texts).to_have_text(says("one", "two", "three", "four"), timeout=ANSWER_MS)
        expect(chat.said).to_have_text(says("echo one", "echo two", "echo three", "echo four"))


def test_another_answer_takes_the_place_of_the_first_one_in_both_tabs(two_tabs: TwoTabs) -> None:
    left, right = two_tabs(pace="120")
    left.say(LONG)
    right.wait_for_text(40)
    right.page.keyboard.press("Escape")
    for chat in (left, right):
        expect(chat.page.locator(".label")).to_have_text("Stopped")
    left.page.get_by_role("button", name="Try again").click()
    expect(right.live).to_have_count(1)
    for chat in (left, right):
        chat.wait_until_idle()
        expect(chat.replies).to_have_count(2)
        assert sentences(chat.texts.last.inner_text()) == SENTENCES


def test_an_answer_stays_in_both_tabs_when_another_one_is_stopped_before_its_first_word(
    two_tabs: TwoTabs,
) -> None:
    left, right = two_tabs(pace="0")
    hold_regenerate_until_cancel(left)
    left.page.get_by_role("button", name="Answer again").click()
    expect(left.live).to_have_count(1)
    expect(left.texts).to_have_text([""])
    left.page.keyboard.press("Escape")
    expect(left.texts).to_have_text(["one"])
    expect(left.page.get_by_role("button", name="Answer again")).to_be_visible()
    left.wait_until_idle()
    right.ask("echo two")
    for chat in (left, right):
        expect(chat.texts).to_have_text(["one", "two"])
        expect(chat.page.locator(".label")).to_have_count(0)


def hold_regenerate_until_cancel(chat: ChatPage) -> None:
    """Have a cancel overtake what it cancels, so that the model is not asked."""

    def carry(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()
        held: list[str] = []

        def pass_on(frame: str | bytes) -> None:
            kind = json.loads(frame)["type"]
            if kind == "regenerate":
                held.append(str(frame))
                return
            server.send(frame)
            while held and kind == "cancel":
                server.send(held.pop())

        socket.on_message(pass_on)

    chat.page.route_web_socket(re.compile("/v1/ws"), carry)
    chat.page.reload()
    chat.wait_until_connected()
    expect(chat.texts).to_have_text(["one"])


def is_told_that_it_is_gone(chat: ChatPage) -> None:
    expect(chat.page.get_by_text("This conversation does not exist any more.")).to_be_visible()
    expect(chat.said).to_have_count(0)
    expect(chat.page.locator("#title")).to_have_text("New conversation")
    expect(chat.page).to_have_url(chat.url)


@pytest.mark.parametrize("one_browser", [True, False], ids=["tab", "device"])
def test_a_conversation_that_is_deleted_in_the_middle_of_an_answer_is_gone_elsewhere_too(
    two_tabs: TwoTabs, one_browser: bool
) -> None:
    left, right = two_tabs(pace="30", one_browser=one_browser)
    right.say(LONG)
    right.wait_for_text(20)
    left.delete("echo one")
    is_told_that_it_is_gone(right)
    right.ask("echo here")
    expect(right.page.get_by_text("This conversation does not exist any more.")).to_be_hidden()
    expect(right.said).to_have_text(["echo here"])
    expect(right.sessions).to_have_text(["echo here"])


@pytest.mark.parametrize("one_browser", [True, False], ids=["tab", "device"])
def test_an_idle_conversation_that_is_deleted_is_gone_elsewhere_too(
    two_tabs: TwoTabs, one_browser: bool
) -> None:
    left, right = two_tabs(pace="0", one_browser=one_browser)
    left.delete("echo one")
    is_told_that_it_is_gone(right)
    expect(right.sessions).to_have_count(0)


def test_the_lists_of_two_devices_agree(two_tabs: TwoTabs) -> None:
    left, right = two_tabs(pace="0")
    left.rename("echo one", "First of all")
    expect(right.page.locator("#title")).to_have_text("First of all")
    expect(right.sessions).to_have_text(["First of all"])

    right.page.get_by_role("button", name="New conversation").click()
    right.ask("echo two")
    expect(left.sessions).to_have_text(["echo two", "First of all"])
    expect(left.said).to_have_text(["echo one"])

    left.rename("echo two", "The other")
    expect(right.page.locator("#title")).to_have_text("The other")
    expect(right.said).to_have_text(["echo two"])
    right.delete("First of all")
    is_told_that_it_is_gone(left)
    expect(left.sessions).to_have_text(["The other"])


def test_an_answer_that_is_written_elsewhere_is_marked_in_the_list_until_it_has_ended(
    two_tabs: TwoTabs,
) -> None:
    left, right = two_tabs(pace="30")
    right.page.clock.install()
    right.page.reload()
    right.wait_until_connected()
    left.page.get_by_role("button", name="New conversation").click()
    left.say(LONG)
    pulse = right.page.locator(".sessions .pulse")
    expect(pulse).to_be_visible()
    left.page.keyboard.press("Escape")
    left.wait_until_idle()
    right.page.clock.run_for(10_000)
    expect(pulse).to_have_count(0)


def keep_notices_from(chat: ChatPage) -> None:
    """Let no hint come to a page that a session has changed, as on a bad line."""

    def carry(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()
        server.on_message(
            lambda frame: None if "session.changed" in str(frame) else socket.send(frame)
        )

    chat.page.route_web_socket(re.compile("/v1/ws"), carry)
    chat.page.reload()
    chat.wait_until_connected()
    expect(chat.texts).to_have_text(["one"])


def test_a_message_to_a_conversation_that_was_deleted_elsewhere_is_back_in_the_field(
    two_tabs: TwoTabs,
) -> None:
    left, right = two_tabs(pace="0")
    keep_notices_from(right)
    left.delete("echo one")
    expect(left.sessions).to_have_count(0)
    right.say("echo kept")
    is_told_that_it_is_gone(right)
    expect(right.field).to_have_value("echo kept")
    expect(right.field).to_be_focused()
    right.field.press("Enter")
    expect(right.texts).to_have_text(["kept"])
    expect(left.sessions).to_have_text(["echo kept"])


def test_a_message_that_waits_over_a_reload_for_a_conversation_deleted_meanwhile_is_kept(
    two_tabs: TwoTabs,
) -> None:
    left, right = two_tabs(pace="0")
    is_cut_off = True

    def carry(socket: WebSocketRoute) -> None:
        if not is_cut_off:
            socket.connect_to_server()

    right.page.route_web_socket(re.compile("/v1/ws"), carry)
    right.page.reload()
    right.say("echo kept")
    expect(right.page.get_by_text("Sending…")).to_be_visible()
    assert right.page.evaluate("sessionStorage.length") == 1
    left.delete("echo one")
    expect(left.sessions).to_have_count(0)
    is_cut_off = False
    right.page.reload()
    is_told_that_it_is_gone(right)
    expect(right.field).to_have_value("echo kept")
    assert right.page.evaluate("sessionStorage.length") == 0


def test_an_open_conversation_alone_is_followed(
    start_server: StartServer, open_page: OpenPage
) -> None:
    server = start_server(scripted_pace="0")
    left = open_page(server)
    left.ask("echo one")
    right = open_page(server)
    right.ask("echo other")
    left.ask("echo two")
    right.sessions.filter(has_text="echo one").click()
    expect(right.texts).to_have_text(["one", "two"])
    left.ask("echo three")
    expect(right.texts).to_have_text(["one", "two", "three"])
    right.page.get_by_role("button", name="New conversation").click()
    left.ask("echo four")
    right.ask("echo new")
    expect(right.texts).to_have_text(["new"])


def test_many_changes_elsewhere_are_read_together_and_again_after_a_refusal(
    two_tabs: TwoTabs,
) -> None:
    left, right = two_tabs(pace="0")
    pages: list[WebSocketRoute] = []
    asked: list[str] = []
    refused: list[str] = []
    may_read = True

    def carry(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()
        pages.append(socket)

        def forward(message: str | bytes) -> None:
            command = json.loads(message)
            if command["type"] in ("sessions", "history"):
                asked.append(command["type"])
            if command["type"] in ("sessions", "history") and not may_read:
                refused.append(command["type"])
                error = {"code": "rate.limited", "message": "Not so fast.", "retryable": True}
                socket.send(json.dumps({"type": "error", "id": command["id"], **error}))
            else:
                server.send(message)

        socket.on_message(forward)

    right.page.route_web_socket(re.compile("/v1/ws"), carry)
    right.page.clock.install()
    right.page.reload()
    right.wait_until_connected()
    expect(right.texts).to_have_text(["one"])
    asked.clear()
    may_read = False
    left.rename("echo one", "First of all")
    changed = {"type": "notice", "kind": "session.changed"}
    changed["session_id"] = left.page.evaluate("location.hash.slice('#session='.length)")
    for _ in range(60):
        pages[-1].send(json.dumps(changed))
    while set(refused) != {"sessions", "history"}:
        right.page.wait_for_timeout(50)  # milliseconds, in which the page's commands come
    may_read = True
    right.page.clock.run_for(10_000)
    expect(right.sessions).to_have_text(["First of all"])
    assert asked.count("sessions") <= 3
    assert asked.count("history") <= 3

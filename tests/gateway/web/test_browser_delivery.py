"""Nothing is lost or doubled in the page: reloads, cuts, a killed server, large texts."""

import json
import re
import time

import pytest
from playwright.sync_api import Route, WebSocketRoute, expect

from tests.gateway.web.chat_page import ANSWER_MS, LONG, OFFLINE, SENTENCES, ChatPage, sentences
from tests.gateway.web.conftest import OpenPage, StartServer

pytestmark = pytest.mark.browser


def test_a_killed_server_leaves_the_partial_answer_once_and_interrupted(
    start_server: StartServer, open_page: OpenPage
) -> None:
    server = start_server(scripted_pace="20")
    chat = open_page(server)
    chat.expected_faults += OFFLINE
    chat.say(LONG)
    seen = chat.wait_for_text(120)

    server.kill()
    expect(chat.page.locator("#connection")).to_have_text("Connection lost")
    expect(chat.texts).to_contain_text(seen[:100], use_inner_text=True)
    server.start()
    chat.wait_until_connected()
    chat.wait_until_idle()

    expect(chat.page.locator(".label")).to_have_text("Interrupted")
    expect(chat.said).to_have_text([LONG])
    expect(chat.replies).to_have_count(1)
    kept = chat.texts.inner_text()
    assert kept.startswith(seen)
    assert kept.count("This is sentence 1 of") == 1
    assert len(kept) < 1_500

    chat.page.reload()
    expect(chat.replies).to_have_count(1)
    expect(chat.texts).to_have_text(kept, use_inner_text=True)
    expect(chat.page.locator(".label")).to_have_text("Interrupted")
    chat.page.get_by_role("button", name="Try again").click()
    chat.wait_for_text(20)
    expect(chat.replies).to_have_count(1)
    chat.page.keyboard.press("Escape")
    chat.wait_until_idle()


def test_what_a_crashed_server_had_shown_and_not_logged_gives_way_to_the_log(
    start_server: StartServer, open_page: OpenPage
) -> None:
    server = start_server(scripted_pace="20")
    chat = open_page(server)
    chat.expected_faults += OFFLINE
    resumed: list[int] = []
    is_refused = True

    def show_what_is_in_no_log(socket: WebSocketRoute) -> None:
        upstream = socket.connect_to_server()

        def forward(message: str | bytes) -> None:
            command = json.loads(message)
            if command["type"] == "resume":
                resumed.append(command["after"])
            upstream.send(message)

        def back(message: str | bytes) -> None:
            frame = json.loads(message)
            if is_refused and frame["type"] == "events" and frame["first_seq"] > 5:
                for event in frame["events"]:
                    if event["type"] == "content.delta":
                        event["text"] = event["text"].upper()
                frame["volatile"] = True
            socket.send(json.dumps(frame))

        socket.on_message(forward)
        upstream.on_message(back)

    chat.page.route_web_socket(re.compile("/v1/ws"), show_what_is_in_no_log)
    chat.page.reload()
    chat.wait_until_connected()
    chat.say(LONG)
    expect(chat.texts).to_contain_text("THIS IS SENTENCE", use_inner_text=True, timeout=ANSWER_MS)
    is_refused = False
    server.kill()
    expect(chat.page.locator("#connection")).to_have_text("Connection lost")
    expect(chat.texts).to_contain_text("THIS IS SENTENCE", use_inner_text=True)
    server.start()
    expect(chat.page.locator(".label")).to_have_text("Interrupted", timeout=ANSWER_MS)
    kept = chat.texts.inner_text()
    assert "SENTENCE" not in kept
    assert kept.count("sentence 1 of") == 1
    assert set(resumed) == {5}
    chat.page.reload()
    expect(chat.texts).to_have_text(kept, use_inner_text=True)


def test_a_message_written_while_the_server_is_away_is_sent_once_it_is_back(
    start_server: StartServer, open_page: OpenPage
) -> None:
    server = start_server(scripted_pace="0")
    chat = open_page(server)
    chat.expected_faults += OFFLINE
    chat.ask("echo before")
    server.kill()
    expect(chat.page.locator("#connection")).to_have_text("Connection lost")
    chat.say("echo later")
    expect(chat.page.get_by_text("Sending…")).to_be_visible()
    expect(chat.page.locator("#notice")).to_contain_text("what you write is kept")
    server.start()
    expect(chat.texts).to_have_text(["before", "later"], timeout=30_000)
    expect(chat.page.locator("#notice")).to_be_hidden()
    expect(chat.said).to_have_text(["echo before", "echo later"])


def test_a_reload_in_the_middle_goes_on_with_the_same_answer(
    start_server: StartServer, open_page: OpenPage
) -> None:
    chat = open_page(start_server(scripted_pace="40"))
    chat.say(LONG)
    seen = chat.wait_for_text(120)
    chat.page.reload()
    chat.wait_until_connected()
    expect(chat.live).to_have_count(1)
    expect(chat.texts).to_contain_text(seen[:100], use_inner_text=True)
    chat.wait_until_idle()
    expect(chat.said).to_have_text([LONG])
    expect(chat.replies).to_have_count(1)
    whole = chat.texts.inner_text()
    assert sentences(whole) == SENTENCES


def test_a_reload_before_a_message_is_acknowledged_sends_it_once(
    start_server: StartServer, open_page: OpenPage
) -> None:
    chat = open_page(start_server(scripted_pace="0"))
    sent: list[str] = []
    is_answer_lost = True

    def lose_answers(socket: WebSocketRoute) -> None:
        upstream = socket.connect_to_server()

        def forward(message: str | bytes) -> None:
            if '"type":"send"' in str(message):
                sent.append(str(message))
            upstream.send(message)

        def back(message: str | bytes) -> None:
            if not (sent and is_answer_lost):
                socket.send(message)

        socket.on_message(forward)
        upstream.on_message(back)

    chat.page.route_web_socket(re.compile("/v1/ws"), lose_answers)
    chat.page.reload()
    chat.wait_until_connected()
    chat.say("echo only once")
    chat.page.wait_for_function("sessionStorage.length === 1")
    expect(chat.page.get_by_text("Sending…")).to_be_visible()
    is_answer_lost = False
    chat.page.reload()
    expect(chat.texts).to_have_text(["only once"])
    expect(chat.said).to_have_text(["echo only once"])
    expect(chat.sessions).to_have_text(["echo only once"])
    assert len(sent) == 2
    assert sent[0] == sent[1]
    assert chat.page.evaluate("sessionStorage.length") == 0


class Refusing:
    """Has the server carry out commands, and the page told that it could not.

    Attributes:
        sent: the commands of these types, as they came.
        code: what the page is told, as long as there is any.
    """

    def __init__(
        self, chat: ChatPage, commands: tuple[str, ...], code: str, *, retryable: bool
    ) -> None:
        self.sent: list[dict[str, object]] = []
        self.code: str | None = code
        self._commands = commands
        self._retryable = retryable
        chat.page.route_web_socket(re.compile("/v1/ws"), self._carry)
        chat.page.reload()
        chat.wait_until_connected()

    def _carry(self, socket: WebSocketRoute) -> None:
        upstream = socket.connect_to_server()

        def forward(message: str | bytes) -> None:
            command = json.loads(message)
            if command["type"] in self._commands:
                self.sent.append(command)
            upstream.send(message)

        def back(message: str | bytes) -> None:
            frame = json.loads(message)
            if self.code and self.sent and frame["type"] == "accepted":
                error = {"type": "error", "id": frame["id"], "code": self.code}
                told = {"message": "Not just now.", "retryable": self._retryable}
                socket.send(json.dumps(error | told))
            elif not (self.code and self.sent and frame["type"] == "events"):
                socket.send(message)

        socket.on_message(forward)
        upstream.on_message(back)


def test_a_message_whose_storing_is_in_doubt_is_sent_again_and_stored_once(
    start_server: StartServer, open_page: OpenPage
) -> None:
    chat = open_page(start_server(scripted_pace="5"))
    refusing = Refusing(chat, ("send",), "storage.unavailable", retryable=True)
    sending_again = chat.status("Sending again… Not just now.")
    chat.say("echo once")
    expect(sending_again).to_be_visible()
    expect(chat.spoken).to_have_text("Sending again… Not just now.")
    held_back = chat.page.locator("#held-back")
    chat.say("too early")
    expect(held_back).to_have_text("Not sent: the first message was still on its way.")
    expect(chat.spoken).to_contain_text("Not sent: the first message was still on its way.")
    expect(held_back).to_be_visible()
    expect(chat.field).to_have_value("too early")
    chat.field.fill("")
    expect(held_back).to_be_hidden()
    refusing.code = None
    expect(chat.texts).to_have_text(["once"])
    chat.wait_until_idle()
    first, *more = refusing.sent
    assert more
    assert all(command == first for command in more)

    refusing.code = "storage.unavailable"
    chat.say(LONG)
    expect(sending_again).to_be_visible()
    chat.page.keyboard.press("Escape")
    expect(sending_again).to_be_hidden()
    expect(chat.page.locator(".said-status", has_text="Stopping…")).to_be_visible()
    refusing.code = None
    expect(chat.page.locator(".label:visible")).to_have_text("Stopped", timeout=ANSWER_MS)
    chat.page.reload()
    expect(chat.texts).to_have_count(2)
    expect(chat.said).to_have_text(["echo once", LONG])
    expect(chat.sessions).to_have_text(["echo once"])


def test_what_may_be_stored_is_asked_for_again_by_its_own_id(
    start_server: StartServer, open_page: OpenPage
) -> None:
    chat = open_page(start_server(scripted_pace="0"))
    refusing = Refusing(chat, ("send", "regenerate"), "internal", retryable=False)
    chat.say("echo one")
    send_again = chat.page.get_by_role("button", name="Send again")
    send_again.click()
    expect(send_again).to_be_visible()
    refusing.code = None
    send_again.click()
    expect(chat.texts).to_have_text(["one"])
    expect(chat.sessions).to_have_text(["echo one"])

    refusing.code = "internal"
    answer_again = chat.page.get_by_role("button", name="Answer again")
    answer_again.click()
    refused = chat.status("Not answered again: Not just now.")
    expect(refused).to_be_visible()
    expect(chat.spoken).to_contain_text("Not answered again: Not just now.")
    refusing.code = None
    answer_again.click()
    expect(refused).to_be_hidden()
    expect(chat.texts).to_have_text(["one"])
    answer_again.click()
    chat.wait_until_idle()
    expect(chat.said).to_have_text(["echo one"])
    ids = [command["id"] for command in refusing.sent]
    assert [ids.index(each) for each in ids] == [0, 0, 0, 3, 3, 5]


def test_what_one_user_has_left_unsent_waits_for_him_and_the_next_one_does_not_see_it(
    start_server: StartServer, open_page: OpenPage
) -> None:
    server = start_server(scripted_pace="0")
    chat = open_page(server)
    sockets: list[WebSocketRoute] = []
    is_cut_off = False

    def carry(socket: WebSocketRoute) -> None:
        sockets.append(socket)
        if not is_cut_off:
            socket.connect_to_server()

    chat.page.route_web_socket(re.compile("/v1/ws"), carry)
    chat.page.reload()
    chat.wait_until_connected()
    is_cut_off = True
    sockets[0].close(code=1012, reason="cut")
    chat.say("echo mine")
    expect(chat.page.get_by_text("Sending…")).to_be_visible()

    other = {"token": server.token("other"), "expires_at": int((time.time() + 600) * 1e3)}
    demo_token = re.compile("/v1/demo/token")
    chat.page.route(demo_token, lambda route: route.fulfill(json=other))
    is_cut_off = False
    chat.page.reload()
    chat.wait_until_connected()
    expect(chat.said).to_have_count(0)
    expect(chat.page.locator("#welcome")).to_be_visible()
    expect(chat.field).to_have_value("")
    expect(chat.sessions).to_have_count(0)

    chat.page.unroute(demo_token)
    chat.page.reload()
    expect(chat.texts).to_have_text(["mine"])
    expect(chat.said).to_have_text(["echo mine"])
    expect(chat.sessions).to_have_count(1)


def test_a_cut_in_the_middle_shows_no_seam(start_server: StartServer, open_page: OpenPage) -> None:
    server = start_server(scripted_pace="40")
    chat = open_page(server)
    cuts: list[WebSocketRoute] = []
    chat.page.route_web_socket(
        re.compile("/v1/ws"), lambda socket: (cuts.append(socket), socket.connect_to_server())
    )
    chat.page.reload()
    chat.wait_until_connected()
    chat.say(LONG)
    for length in (60, 300, 600):
        chat.wait_for_text(length)
        cuts[-1].close(code=1012, reason="cut")
        chat.wait_until_connected()
    chat.wait_until_idle()
    assert len(cuts) == 4
    whole = chat.texts.inner_text()
    assert sentences(whole) == SENTENCES


def test_a_text_above_the_limit_of_a_frame_is_uploaded(
    start_server: StartServer, open_page: OpenPage
) -> None:
    chat = open_page(start_server(scripted_pace="0"))
    puts: list[str] = []
    chat.page.on(
        "request", lambda request: puts.append(request.url) if request.method == "PUT" else None
    )
    text = "誠に長い文章です。" * 2_000  # 54,000 bytes in 18,000 characters
    answer = chat.ask(f"echo {text}")
    expect(answer).to_have_text(text)
    assert len(puts) == 1
    chat.page.reload()
    expect(chat.texts).to_have_text(text)
    expect(chat.said).to_contain_text(text[-50:])


def test_a_part_too_large_for_a_frame_is_fetched(chat: ChatPage) -> None:
    fetched: list[str] = []
    chat.page.on("request", lambda r: fetched.append(r.url) if "/v1/payloads/" in r.url else None)
    answer = chat.ask("large")
    expect(answer).to_have_text(
        re.compile(r"^I am the scripted demo model.*(A large reply\. ?){819}")
    )
    assert len(fetched) == 1


def test_a_fetch_that_fails_is_repeated_by_resuming(chat: ChatPage) -> None:
    failures = [1]

    def fail_once(route: Route) -> None:
        if failures:
            failures.pop()
            route.fulfill(status=200, body="something else")
        else:
            route.continue_()

    chat.page.route(re.compile("/v1/payloads/"), fail_once)
    answer = chat.ask("large")
    expect(answer).to_contain_text("A large reply.")
    assert failures == []

"""Nothing is lost or doubled in the page: reloads, cuts, a killed server, large texts."""

import json
import re

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

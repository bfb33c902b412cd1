"""From one connection to the next as a person sees it: not at all, as long as there is a server."""

import pytest
from playwright.sync_api import WebSocket, expect

from tests.gateway.web.chat_page import ANSWER_MS, LONG, OFFLINE, SENTENCES, ChatPage, sentences
from tests.gateway.web.conftest import OpenPage, StartServer

pytestmark = pytest.mark.browser

_NOTE_STATES = """() => {
  const line = document.getElementById("connection");
  const shown = () => document.querySelector(".reply .text")?.innerText.length ?? 0;
  window.states = [];
  new MutationObserver(() => window.states.push([line.textContent, shown()]))
    .observe(line, { childList: true });
}"""

_CONNECT_UNTIL_ANSWERED = """() => {
  const isConnected = document.getElementById("connection").textContent === "Connected";
  if (!isConnected) dispatchEvent(new Event("online")); // or it waits, half a minute after many attempts
  return [...document.querySelectorAll(".reply .text")].at(-1).innerText === "later";
}"""


def states(chat: ChatPage) -> list[tuple[str, int]]:
    """What the page has said of its connection since, and how much of the answer was there then."""
    seen: list[tuple[str, int]] = chat.page.evaluate("window.states")
    return seen


def test_connections_that_live_shorter_than_an_answer_are_never_missed(
    start_server: StartServer, open_page: OpenPage
) -> None:
    chat = open_page(start_server(scripted_pace="30", lifetime_s="12"))
    chat.page.add_init_script(
        "Math.random = () => 1"
    )  # the next connection has three seconds to be made
    chat.page.reload()
    chat.wait_until_connected()
    sockets: list[WebSocket] = []
    chat.page.on("websocket", lambda socket: sockets.append(socket))
    chat.page.evaluate(_NOTE_STATES)
    chat.say(LONG)
    chat.wait_for_text(60)
    chat.wait_until_idle()
    assert sentences(chat.texts.inner_text()) == SENTENCES
    expect(chat.replies).to_have_count(1)
    chat.ask("echo still there")
    assert sockets, "the answer was over before its connection"
    assert states(chat) == []
    assert len([socket for socket in sockets if not socket.is_closed()]) <= 2


def test_a_server_that_is_restarted_finishes_the_answer_and_is_missed_no_longer_than_it_is_away(
    start_server: StartServer, open_page: OpenPage
) -> None:
    server = start_server(scripted_pace="100", shutdown_s="60")
    chat = open_page(server)
    chat.expected_faults += OFFLINE
    chat.page.evaluate(_NOTE_STATES)
    chat.say(LONG)
    chat.wait_for_text(60)
    server.ask_to_stop()
    chat.wait_until_idle()
    assert sentences(chat.texts.inner_text()) == SENTENCES
    server.wait()
    expect(chat.page.locator("#connection")).not_to_have_text("Connected")
    lost, shown = states(chat)[0]
    assert lost in {
        "Connection lost",
        "Connecting…",
    }  # that is, the next one was being made just then
    assert shown > 0.9 * len(chat.texts.inner_text())
    chat.say("echo later")
    server.start()
    chat.page.wait_for_function(_CONNECT_UNTIL_ANSWERED, polling=250, timeout=2 * ANSWER_MS)
    expect(chat.said).to_have_text([LONG, "echo later"])
    expect(chat.replies).to_have_count(2)

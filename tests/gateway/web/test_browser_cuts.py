"""The client in a real browser, cut off at every moment of an answer: the text is there, once."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser

from tests.gateway.web.conftest import servers
from tests.gateway.web.cutting_proxy import CuttingProxy, Fate, Frame, Line, cutting_proxy

pytestmark = pytest.mark.browser

FRAMES_MAX = 60

TEXT = (
    '誠です。「引用」は "so" と書き、改行は\n\t\\n と書く。'
    "🌸👩‍👩‍👧‍👦🇯🇵 𠮷野家 é e\u0301 </b> \u2028 "
    "いろはにほへと ちりぬるを わかよたれそ つねならむ うゐのおくやま けふこえて あさきゆめみし ゑひもせす。"
)

ASK = """async ({ plans, token, text }) => {
  const { MakotoClient } = await import("/web/makoto.js");
  const within = (promise, what) => Promise.race([
    promise,
    new Promise((_, reject) => setTimeout(() => reject(new Error(`never: ${what()}`)), 40_000)),
  ]);
  const ask = async (plan, connections) => {
    const opened = [];
    const client = new MakotoClient({
      url: `${location.origin.replace("http", "ws")}/v1/ws?plan=${plan}`,
      token: async () => token,
      random: () => 0,
      WebSocket: class extends WebSocket {
        constructor(...address) {
          super(...address);
          opened.push(this);
        }
      },
    });
    const states = [];
    client.on("state", ({ state }) => states.push(state));
    const run = client.send(`echo ${text}`);
    let shown = "";
    run.on("update", (events) => {
      for (const event of events) shown += event.type === "content.delta" ? event.text : "";
    });
    await within(run.done, () => `${plan} ${run.state} ${run.text.length} ${states}`);
    const isThere = () => opened.length >= connections && opened.at(-1).readyState === WebSocket.OPEN;
    while (!isThere()) await new Promise((resolve) => setTimeout(resolve, 5));
    const { items } = await client.history(run.sessionId);
    client.close();
    const types = [];
    for await (const { type } of run) types.push(type);
    return {
      shown, types, states,
      text: run.text,
      reason: run.end.reason,
      stored: items.map(({ role, content }) => [role, content]),
    };
  };
  const asking = Object.entries(plans).map(async ([plan, connections]) => {
    return [plan, await ask(plan, connections)];
  });
  return Object.fromEntries(await within(Promise.all(asking), () => "all connections"));
}"""

Answer = dict[str, Any]

Ask = Callable[[Mapping[str, "Untouched"]], dict[str, Answer]]


@dataclass
class Untouched:
    """Carries everything and notes what the page has heard.

    Attributes:
        connections: how many the client makes, at least.
    """

    connections: int = 1
    lines: list[Line] = field(default_factory=list)

    def opened(self, line: Line) -> bool:
        self.lines.append(line)
        return True

    def judge(self, line: Line, sender: Literal["page", "server"], frame: Frame) -> Fate:
        return "carry"


@dataclass
class CutAfter(Untouched):
    """Cuts the first connection after so many frames of the server."""

    frames: int = 0

    def judge(self, line: Line, sender: Literal["page", "server"], frame: Frame) -> Fate:
        is_last = line.number == 1 and sender == "server" and len(line.heard) + 1 == self.frames
        return "carry and cut" if is_last else "carry"


@dataclass
class CutAt(Untouched):
    """Cuts the first connection at the first frame of a type, which is lost."""

    sender: str = "server"
    type: str = ""

    def judge(self, line: Line, sender: Literal["page", "server"], frame: Frame) -> Fate:
        is_lost = line.number == 1 and sender == self.sender and frame["type"] == self.type
        return "cut" if is_lost else "carry"


@dataclass
class CutAtEveryPart(Untouched):
    """Cuts each connection after the first part of the answer that it has carried."""

    def judge(self, line: Line, sender: Literal["page", "server"], frame: Frame) -> Fate:
        return "carry and cut" if frame["type"] == "events" else "carry"


@dataclass
class HandOver(Untouched):
    """Has the client go to a second connection in the middle, and cuts one or both on the way.

    The first connection brings nothing more until then, or the answer might end before.

    Attributes:
        at: what the second connection has carried when the cut comes; empty for its handshake.
        cuts: the numbers of the connections that are cut then.
    """

    at: str = ""
    cuts: frozenset[int] = frozenset()
    parts: int = 0

    def opened(self, line: Line) -> bool:
        super().opened(line)
        if line.number == 2 and not self.at:
            self._cut_others(line)
            return 2 not in self.cuts
        return True

    def judge(self, line: Line, sender: Literal["page", "server"], frame: Frame) -> Fate:
        if line.number == 1 and frame["type"] == "events":
            self.parts += 1
            if self.parts == 10:
                line.say({"type": "goaway", "reason": "deploy", "deadline": 0})
                if self.cuts:
                    line.flowing.clear()
        if line.number == 2 and frame["type"] == self.at and self.at not in line.heard:
            self._cut_others(line)
            return "carry and cut" if 2 in self.cuts else "carry"
        return "carry"

    def _cut_others(self, line: Line) -> None:
        for other in self.lines:
            other.flowing.set()
            if other is not line and other.number in self.cuts:
                other.cut()


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory, signing_key: Path
) -> Iterator[tuple[CuttingProxy, str]]:
    """A gateway behind a proxy, and a token for it."""
    folder = tmp_path_factory.mktemp("cuts")
    with cutting_proxy() as proxy, servers(folder, signing_key) as start:
        server = start(scripted_pace="60", live_runs="100", allowed_origins=proxy.origin)
        proxy.target = server.port
        yield proxy, server.token("hanako")


@pytest.fixture
def ask(browser: Browser, served: tuple[CuttingProxy, str]) -> Iterator[Ask]:
    """Asks the same in one client per plan, all at a time; returns what became of each answer."""
    proxy, token = served
    page = browser.new_page()
    page.route("**/web/page.js", lambda route: route.abort())  # the clients alone shall talk
    page.goto(proxy.origin)

    def ask_all(plans: Mapping[str, Untouched]) -> dict[str, Answer]:
        proxy.plans.update(plans)
        connections = {name: plan.connections for name, plan in plans.items()}
        asked = {"plans": connections, "token": token, "text": TEXT}
        answers: dict[str, Answer] = page.evaluate(ASK, asked)
        return answers

    yield ask_all
    page.close()


def check(answers: dict[str, Answer]) -> None:
    """Every answer is byte-equal to what was asked for, ended once and stored once."""
    for name, answer in answers.items():
        assert answer["text"] == answer["shown"] == TEXT, name
        assert answer["types"].count("started") == answer["types"].count("done") == 1, name
        assert answer["types"][-1] == "done", name
        assert answer["reason"] == "stop", name
        assert answer["stored"] == [["assistant", TEXT], ["user", f"echo {TEXT}"]], name


def test_a_cut_after_each_single_frame_of_an_answer_loses_and_doubles_nothing(ask: Ask) -> None:
    whole = Untouched()
    check(ask({"whole": whole}))
    frames = whole.lines[0].heard[:-1]  # but for the page of the history
    assert frames[:3] == ["ready", "accepted", "events"]
    assert 30 < len(frames) <= FRAMES_MAX

    plans = {str(n): CutAfter(frames=n, connections=2) for n in range(1, len(frames) + 1)}
    check(ask(plans))
    for n, plan in plans.items():
        assert len(plan.lines[0].heard) == int(n)
        assert len(plan.lines) == 2


def test_a_cut_around_accepted_and_before_the_first_event_loses_and_doubles_nothing(
    ask: Ask,
) -> None:
    plans = {
        "send is lost": CutAt(sender="page", type="send", connections=2),
        "accepted is lost": CutAt(type="accepted", connections=2),
        "the first event is lost": CutAt(type="events", connections=2),
    }
    check(ask(plans))
    heard = {
        name: [frame for frame in plan.lines[0].heard if frame != "notice"]  # of the other pages
        for name, plan in plans.items()
    }
    assert heard == {
        "send is lost": ["ready"],
        "accepted is lost": ["ready"],
        "the first event is lost": ["ready", "accepted"],
    }


def test_a_connection_that_is_cut_after_every_part_brings_the_whole_answer(ask: Ask) -> None:
    plan = CutAtEveryPart()
    check(ask({"every part": plan}))
    assert len(plan.lines) > 5


def test_a_hand_over_shows_no_seam_wherever_it_is_cut(ask: Ask) -> None:
    moments = ("", "hello", "ready", "resume", "resumed", "events")
    plans = {
        f"{sorted(cuts)} at {moment or 'handshake'}": HandOver(
            at=moment, cuts=cuts, connections=3 if 2 in cuts else 2
        )
        for moment in moments
        for cuts in (frozenset({1}), frozenset({2}), frozenset({1, 2}))
    }
    smooth = HandOver(connections=2)
    answers = ask({**plans, "smooth": smooth})
    check(answers)
    assert answers["smooth"]["states"] == ["connecting", "ready", "closed"]
    assert [line.number for line in smooth.lines] == [1, 2]
    assert "goaway" not in smooth.lines[0].heard
    assert smooth.lines[1].heard[:3] == ["ready", "resumed", "events"]
    assert smooth.lines[0].heard[-1] == "events"
    for name, plan in plans.items():
        assert len(plan.lines) == plan.connections, name
        if plan.cuts != {1, 2}:
            assert "waiting" not in answers[name]["states"], name

"""Runs read over the @connections API: a real log of events, readers and transport, over HTTP."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import orjson
import pytest

from gateway.frames.pace import PER_WRITE, Pace
from gateway.frames.spill import Spill
from gateway.hosts.aws import connections_api as client
from gateway.hosts.aws import transport as rules
from gateway.hosts.aws.connections_api import ConnectionsApi
from gateway.hosts.aws.transport import ConnectionsTransport
from gateway.runs.live_run import LiveRun
from gateway.wire.events import content_delta
from gateway.wire.limits import MESSAGE_BYTES, SPILL_ABOVE_BYTES
from tests.engines.connections_api import BROKEN, CREDENTIALS, REGION, TOO_MANY, connections_api
from tests.engines.connections_api import ConnectionsApi as FakeApi
from tests.engines.fault_proxy import Answer, Fault
from tests.gateway.runs.fakes import ANNA, NOW, FakeBlobs, FakeLog, FakePayloads, a_run
from tests.gateway.runs.virtual_time import idle

TOKEN_EVERY_S = 0.01
TOKENS = [f"トークン{number} 🌊 " for number in range(80)]
TEXT = "".join(TOKENS)
LAST = "the last word"


class Process:
    """Live runs of one process that share a transport, as in an invocation of `reply`."""

    def __init__(self, api: FakeApi) -> None:
        self.api = api
        self.gone: list[str] = []
        self.blobs = FakeBlobs()
        self.client = ConnectionsApi(url=api.url, region=REGION, credentials=CREDENTIALS)
        self.transport = ConnectionsTransport(self.client, on_gone=self._on_gone)

    async def _on_gone(self, connection_id: str) -> None:
        self.gone.append(connection_id)

    def run(self, run_id: str = "run-1", *readers: str) -> LiveRun:
        live = LiveRun(
            owner=ANNA,
            run=a_run(run_id),
            claimed_by="claim-1",
            log=FakeLog(at_once=True),
            transport=self.transport,
            spill=Spill(store=FakePayloads(), blobs=self.blobs, clock=lambda: NOW),  # type: ignore[arg-type]
            spill_until=NOW + 1_000,
            pace=Pace(PER_WRITE),
        )
        for reader in readers or ("c1",):
            live.feed.follow(reader, after=0)
        return live

    def frames(self, connection_id: str = "c1", run_id: str = "run-1") -> list[dict[str, Any]]:
        frames = map(orjson.loads, self.api.arrived(connection_id))
        return [self._fetched(frame) for frame in frames if frame["run_id"] == run_id]

    def text(self, connection_id: str = "c1", run_id: str = "run-1") -> str:
        """What a client shows, which drops what it has and takes nothing beyond a gap."""
        events: list[dict[str, Any]] = []
        for frame in self.frames(connection_id, run_id):
            assert frame["first_seq"] <= len(events) + 1, "a gap"
            events[frame["first_seq"] - 1 :] = frame["events"]
        return "".join(event["text"] for event in events)

    def _fetched(self, frame: dict[str, Any]) -> dict[str, Any]:
        if frame["type"] == "payload":
            frame = orjson.loads(self.blobs.bodies[frame["url"].removeprefix("/blobs/")])
        assert frame["type"] == "events"
        return frame


@asynccontextmanager
async def on(api: FakeApi) -> AsyncIterator[Process]:
    process = Process(api)
    try:
        yield process
    finally:
        await process.transport.settle(within_s=0)
        await process.client.aclose()


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with connections_api() as api:
        api.delay_s = 0.03
        yield api


@pytest.fixture
async def process(api: FakeApi) -> AsyncIterator[Process]:
    async with on(api) as process:
        yield process


async def say(live: LiveRun, tokens: list[str] = TOKENS) -> None:
    """Emit as a model does, and wait until every reader has it all."""
    for token in tokens:
        live.emit([content_delta(token)])
        await asyncio.sleep(TOKEN_EVERY_S)
    await live.settle()
    await live.feed.delivered()


async def test_a_reply_takes_one_post_for_many_tokens_and_its_first_word_leaves_at_once(
    api: FakeApi, process: Process
) -> None:
    live = process.run()
    began = time.monotonic()
    live.emit([content_delta(TOKENS[0])])
    await idle()
    assert live.feed.frames_posted == 1
    await say(live, TOKENS[1:])
    assert process.frames()[0]["events"] == [{"type": "content.delta", "text": TOKENS[0]}]
    assert process.text() == TEXT
    # 80 tokens in 0.8 s or, on a busy machine, more.
    assert len(api.requests) <= (time.monotonic() - began) / PER_WRITE.every_s + 2
    assert len(api.requests) < len(TOKENS) / 2


async def test_all_that_came_while_posts_are_refused_goes_in_one_frame(
    api: FakeApi, process: Process
) -> None:
    """Flushes every tenth of a second, while the API refuses to take any."""
    live = process.run()
    live.emit([content_delta("first ")])
    await live.feed.delivered()
    while not api.arrived("c1"):
        await asyncio.sleep(0.001)
    api.fail(TOO_MANY, times=sys.maxsize)
    for token in TOKENS:
        live.emit([content_delta(token)])
        await asyncio.sleep(TOKEN_EVERY_S)
    await live.settle()
    assert 429 in api.statuses()
    api.relent()
    await live.feed.delivered()
    assert process.text() == "first " + TEXT
    assert len(api.arrived("c1")) == 3, "the first, the one that was refused, the rest"


async def test_a_limit_on_posts_widens_the_interval_and_loses_nothing(api: FakeApi) -> None:
    """Four processes with two runs each want 80 posts a second; the account has 20."""
    api.per_second = 20
    async with on(api) as one, on(api) as two, on(api) as three, on(api) as four:
        runs = [
            (process, process.run(f"run-{number}", f"c{index}{number}"), f"c{index}{number}")
            for index, process in enumerate((one, two, three, four))
            for number in (1, 2)
        ]
        await asyncio.gather(*(say(live) for _, live, _ in runs))
        for process, live, connection_id in runs:
            assert process.text(connection_id, live.run.run_id) == TEXT


async def test_runs_that_share_a_connection_take_turns(api: FakeApi, process: Process) -> None:
    runs = [process.run(f"run-{number}") for number in range(4)]
    await asyncio.gather(*(say(live) for live in runs))
    assert not api.overlapping
    for live in runs:
        assert process.text(run_id=live.run.run_id) == TEXT
    order = [orjson.loads(frame)["run_id"] for frame in api.arrived("c1")]
    counts = [order.count(live.run.run_id) for live in runs]
    assert max(counts) - min(counts) <= 2


async def test_a_reader_that_left_delays_nobody_and_its_row_is_removed_once(
    api: FakeApi, process: Process
) -> None:
    api.gone.add("left")
    live = process.run("run-1", "c1", "left")
    other = process.run("run-2", "left")
    await asyncio.gather(say(live), say(other))
    assert process.text() == TEXT
    assert live.feed.readers == ("c1",)
    assert other.feed.readers == ()
    assert process.gone == ["left"]
    assert api.statuses().count(410) == 1


async def test_a_reader_that_takes_nothing_delays_nobody(
    api: FakeApi, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "FAULT_PAUSE_S", 0.01)
    api.fail(BROKEN, times=rules.ATTEMPTS, connection_id="broken")
    live = process.run("run-1", "c1", "broken")
    await say(live)
    assert process.text() == TEXT
    assert live.feed.readers == ("c1",)
    assert not process.gone  # its client asks to resume


@pytest.mark.parametrize(
    "fault",
    [Fault.LOSE_REPLY, Fault.CUT, BROKEN, Answer(status=403), Fault.HANG, Fault.HANG_AFTER],
    ids=["lost reply", "cut", "500", "403", "hang", "late reply"],
)
async def test_faults_on_the_way_are_not_seen(
    api: FakeApi, process: Process, monkeypatch: pytest.MonkeyPatch, fault: Fault | Answer
) -> None:
    monkeypatch.setattr(client, "ATTEMPT_S", 0.4)
    api.fail(fault, times=2)
    live = process.run()
    speaking = asyncio.create_task(say(live))
    while len(api.requests) < 4:
        await asyncio.sleep(0.005)
    api.fail(fault)
    await speaking
    await say(live, [LAST])  # on a busy machine all was said before the third fault was set
    assert process.text() == TEXT + LAST
    arrived = api.arrived("c1")
    doubled = sum(one == next_one for one, next_one in pairwise(arrived))
    assert doubled >= (3 if fault in (Fault.LOSE_REPLY, Fault.HANG_AFTER) else 0)


async def test_an_abandoned_invocation_posts_nothing_more(api: FakeApi, process: Process) -> None:
    live = process.run()
    speaking = asyncio.create_task(say(live))
    while len(api.arrived("c1")) < 2:
        await asyncio.sleep(0.005)
    speaking.cancel()
    await process.transport.settle(within_s=0)
    arrived = len(api.requests)
    live.emit([content_delta("more")])  # as something would that was frozen with the process
    await live.settle()
    assert live.feed.readers == ()
    assert len(api.requests) == arrived


# Sizes


def text_of_bytes(kind: str, size: int) -> str:
    """Return a text whose event, as JSON, has that many bytes or up to 5 less."""
    room = size - len(content_delta(""))
    character, width = {
        "ascii": ("a", 1),
        "japanese": ("誠", 3),
        "emoji": ("🌊", 4),
        "escaped": ("\x01", 6),
    }[kind]
    text = character * (room // width)
    assert size - 6 < len(content_delta(text)) <= size
    return text


@pytest.mark.parametrize("blobs_fail", [False, True], ids=["blobs", "no blobs"])
@pytest.mark.parametrize("kind", ["ascii", "japanese", "emoji", "escaped"])
@pytest.mark.parametrize("size", [SPILL_ABOVE_BYTES, 32_768, MESSAGE_BYTES, 400_000])
async def test_frames_are_within_limits_whatever_a_text_is_made_of(
    api: FakeApi, process: Process, size: int, kind: str, blobs_fail: bool
) -> None:
    """One event around each limit, then the same text in tokens that all come at once."""
    api.delay_s = 0.0
    process.blobs.failing = blobs_fail
    around = [text_of_bytes(kind, size + more) for more in (-7, 0, 7)]
    live = process.run()
    for text in around:
        live.emit([content_delta(text)])
        await live.settle()
    await live.feed.delivered()
    assert process.text() == "".join(around)
    tokens = process.run("run-2")
    tokens.emit([content_delta(around[1][at : at + 5]) for at in range(0, len(around[1]), 5)])
    await tokens.settle()
    await tokens.feed.delivered()
    assert process.text(run_id="run-2") == around[1]
    assert set(api.statuses()) == {200}
    # A frame ends at about 8 KB; one event alone may fill it to 10 KB; what is larger is announced.
    assert max(map(len, api.arrived("c1"))) <= SPILL_ABOVE_BYTES + 200

"""Frames one by one, and what may overtake them."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosedOK

from gateway.hosts.local.inbox import AHEAD_CHARACTERS, AHEAD_MAX, LONG_S, Inbox
from tests.gateway.runs.virtual_time import idle


class FakeWs:
    """Frames that have come; the connection is closed behind them, or stays open."""

    def __init__(self, *frames: str, closed: bool = False) -> None:
        self.frames = list(frames)
        self.closed = closed
        self.came = asyncio.Event()
        self.transport = SimpleNamespace(abort=self.abort)

    def abort(self) -> None:
        self.closed = True
        self.came.set()

    async def recv(self) -> str:
        while not self.frames:
            if self.closed:
                raise ConnectionClosedOK(None, None)
            self.came.clear()
            await self.came.wait()
        return self.frames.pop(0)

    def send(self, *frames: str) -> None:
        self.frames += frames
        self.came.set()


class Obeyed:
    """Notes what overtakes, and holds it until `goes_on`."""

    def __init__(self) -> None:
        self.begun: list[str | bytes] = []
        self.goes_on = asyncio.Event()

    async def __call__(self, frame: str | bytes) -> None:
        self.begun.append(frame)
        await self.goes_on.wait()
        if frame == "stop broken":
            raise ZeroDivisionError


async def take_long() -> None:
    """Let a frame take long, and let what that begins go on as far as it can."""
    await asyncio.sleep(LONG_S * 1.1)
    await idle()


Open = Callable[[FakeWs], Inbox]


@pytest.fixture
def obeyed() -> Obeyed:
    return Obeyed()


@pytest.fixture
def open_inbox(obeyed: Obeyed) -> Open:
    def make(ws: Any) -> Inbox:
        return Inbox(ws, overtakes=lambda frame: str(frame).startswith("stop"), carry_out=obeyed)

    return make


async def test_frames_come_in_their_order_and_then_the_end(open_inbox: Open) -> None:
    inbox = open_inbox(FakeWs("a", "stop", "b", closed=True))
    assert [await inbox.next() for _ in range(3)] == ["a", "stop", "b"]
    with pytest.raises(ConnectionClosedOK):
        await inbox.next()
    await inbox.aclose()


async def test_what_takes_no_time_is_not_overtaken(open_inbox: Open, obeyed: Obeyed) -> None:
    ws = FakeWs("a", "stop")
    inbox = open_inbox(ws)
    await inbox.next()
    await asyncio.sleep(LONG_S * 0.9)
    assert (await inbox.next(), obeyed.begun) == ("stop", [])
    await inbox.aclose()


async def test_what_takes_long_is_overtaken_and_the_rest_keeps_its_order(
    open_inbox: Open, obeyed: Obeyed
) -> None:
    ws = FakeWs("a", "b", "stop 1", "c", "stop 2")
    inbox = open_inbox(ws)
    assert await inbox.next() == "a"
    await take_long()
    assert obeyed.begun == ["stop 1", "stop 2"]
    ws.send("d")
    assert [await inbox.next() for _ in range(3)] == ["b", "c", "d"]
    obeyed.goes_on.set()
    await inbox.aclose()


async def test_so_many_frames_are_read_ahead(open_inbox: Open) -> None:
    ws = FakeWs(*map(str, range(30)))
    inbox = open_inbox(ws)
    await inbox.next()
    await take_long()
    assert len(ws.frames) == 29 - AHEAD_MAX
    assert [await inbox.next() for _ in range(29)] == [str(n) for n in range(1, 30)]
    await inbox.aclose()


async def test_so_many_overtake_at_a_time(open_inbox: Open, obeyed: Obeyed) -> None:
    inbox = open_inbox(FakeWs("a", *(f"stop {n}" for n in range(30))))
    await inbox.next()
    await take_long()
    assert len(obeyed.begun) == AHEAD_MAX
    obeyed.goes_on.set()
    await idle()
    assert len(obeyed.begun) == 30
    await inbox.aclose()


async def test_so_much_is_read_ahead(open_inbox: Open) -> None:
    ws = FakeWs("a", *["x" * AHEAD_CHARACTERS] * 3)
    inbox = open_inbox(ws)
    await inbox.next()
    await take_long()
    assert len(ws.frames) == 2
    assert [len(await inbox.next()) for _ in range(3)] == [AHEAD_CHARACTERS] * 3
    await inbox.aclose()


async def test_a_frame_that_comes_as_reading_ends_is_not_lost(open_inbox: Open) -> None:
    ws = FakeWs("a")
    inbox = open_inbox(ws)
    await inbox.next()
    await take_long()  # it waits for more
    ws.send("b")
    assert await inbox.next() == "b"
    await inbox.aclose()


async def test_what_has_overtaken_is_waited_for_at_the_end(
    open_inbox: Open, obeyed: Obeyed
) -> None:
    inbox = open_inbox(FakeWs("a", "stop", closed=True))
    await inbox.next()
    await take_long()
    closing = asyncio.create_task(inbox.aclose())
    await idle()
    assert not closing.done()
    obeyed.goes_on.set()
    await closing


@pytest.mark.parametrize("waits", [True, False])
async def test_a_fault_in_what_overtakes_ends_the_connection_and_is_raised(
    open_inbox: Open, obeyed: Obeyed, waits: bool
) -> None:
    ws = FakeWs("a", "stop broken", "b")
    inbox = open_inbox(ws)
    await inbox.next()
    await take_long()
    if waits:  # for what comes after it
        assert await inbox.next() == "b"
        asking = asyncio.create_task(inbox.next())
        await idle()
        obeyed.goes_on.set()
        with pytest.raises(ConnectionClosedOK):
            await asking
    else:
        obeyed.goes_on.set()
        await idle()
        assert ws.closed
        with pytest.raises(ZeroDivisionError):
            await inbox.next()
    with pytest.raises(ZeroDivisionError):
        await inbox.aclose()

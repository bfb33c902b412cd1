"""What many clients that read nothing cost a real server: memory, its other people, and for how long."""

import asyncio
import resource
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from socket import SO_RCVBUF, SOL_SOCKET

import pytest
from aiohttp import web

from tests.gateway.hosts.client import Client, Frame, text_of
from tests.gateway.hosts.host_process import host_process
from tests.streaming.models.openai_endpoint import DONE, call, chunk, openai_endpoint, usage

STALLED = 50
PIECE = "あ" * 2_600
AT_ONCE, PACED, EVERY_S = 330, 60, 0.015
"""Pieces: 2.6 MB, as much as the system buffers for a socket on loopback; then a second of them on time."""

ANSWERS = 2
"""How many, one after the other: as much again as is buffered, and each nearly as long as one may be."""

MAY_COST = 1_000_000
"""Bytes of the server's memory for each, as promised; a queue would hold three times as much."""

LATE_S = 1.5
"""How late a piece may be on a busy machine; one that waited for a stalled reader would never come."""


@pytest.fixture
def folder(folder_with_key: Path) -> Path:
    return folder_with_key


@dataclass(slots=True)
class Author:
    """A provider that begins with much at once, and then writes on time and says when that was.

    Attributes:
        may_go_on: waited for in between.
        late: by how many seconds each write was; who does not read what came delays the next one.
    """

    may_go_on: asyncio.Event = field(default_factory=asyncio.Event)
    late: list[float] = field(default_factory=list)

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(call('{"content": "', name="reply"))
        for _ in range(AT_ONCE):
            await response.write(call(PIECE))
        await response.write(call("|"))
        await self.may_go_on.wait()
        began = time.monotonic()
        for number in range(PACED):
            due = began + number * EVERY_S
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await response.write(call(f"{time.monotonic():.3f} {PIECE}|"))
            self.late.append(time.monotonic() - due)
        rest = '", "emotion": "happy", "category": "story", "memory": null}'
        for last in (call(rest), chunk(finish_reason="stop"), usage(), DONE):
            await response.write(last)
        return response


def resident(pid: int) -> int:
    """Return how many bytes of memory a process has for itself (proc_pid_statm(5))."""
    _, pages, shared, *_ = map(int, Path(f"/proc/{pid}/statm").read_text().split())
    return (pages - shared) * resource.getpagesize()


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def read_at_most(client: Client, size: int) -> None:
    """Have the system keep so many bytes for a client that does not take them."""
    client.ws.transport.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_RCVBUF, size)


async def read(client: Client, run_id: str, author: Author) -> tuple[list[Frame], float]:
    """Read an answer as it comes.

    Returns:
        Its events, and by how many seconds the latest of the pieces on time was late.
    """
    events: list[Frame] = []
    late, unfinished = 0.0, ""
    while not events or events[-1]["type"] != "done":
        frame = await client.hear("events", run_id=run_id)
        now = time.monotonic()
        events += frame["events"]
        *whole, unfinished = (unfinished + text_of(frame["events"])).split("|")
        if author.may_go_on.is_set():
            late = max(late, *(now - float(piece.split()[0]) for piece in whole), 0.0)
        elif whole:
            author.may_go_on.set()
    return events, late


async def test_fifty_stalled_readers_cost_little_and_delay_nobody(folder: Path) -> None:
    asyncio.get_running_loop().set_debug(False)  # with all these pieces it takes most of the time
    async with AsyncExitStack() as stack:
        endpoint = await stack.enter_async_context(openai_endpoint())
        host = await stack.enter_async_context(
            host_process(folder, OPENAI_API_KEY="sk-test", OPENAI_BASE_URL=endpoint.base_url)
        )
        other = await stack.enter_async_context(host.client())
        stalled = [await stack.enter_async_context(host.client()) for _ in range(STALLED)]
        for each in stalled:  # the farewell of one that reads nothing would be waited for
            stack.callback(each.ws.transport.abort)
        authors = [Author() for _ in range(1 + ANSWERS)]
        endpoint.will(*authors)
        begun = await other.send("warm up")
        await read(other, begun["run_id"], authors[0])
        session_id = begun["session_id"]
        for each in stalled:
            await each.say("subscribe", session_id=session_id)
            await each.hear("subscribed")
            read_at_most(each, 4096)
            each.ws.transport.pause_reading()
        before, opened = resident(host.pid), descriptors(host.pid)

        for author in authors[1:]:
            run_id = (await other.send("Hi", session_id=session_id))["run_id"]
            heard, late = await read(other, run_id, author)
            assert heard[-1]["reason"] == "stop"
            assert len(text_of(heard)) > (AT_ONCE + PACED) * len(PIECE)
            assert max(late, *author.late) < LATE_S
        cost = resident(host.pid) - before
        assert cost < STALLED * MAY_COST, f"{cost // STALLED} bytes each"

        for each in stalled:
            each.ws.transport.abort()
        again = await stack.enter_async_context(host.client())
        await again.say("resume", run_id=run_id, after=0)
        await again.hear("resumed")
        assert await again.events(run_id) == heard
        async with asyncio.timeout(10):
            while descriptors(host.pid) > opened - STALLED + 1:
                await asyncio.sleep(0.02)

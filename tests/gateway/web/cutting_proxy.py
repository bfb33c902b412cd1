"""A proxy that reads along on WebSockets and cuts them where a test wants it.

It carries HTTP as it is, so that a page, its files and its sockets all come from one origin: the proxy's.
A socket whose URL says `?plan=NAME` is carried as that plan says.
"""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any, Literal, Protocol
from urllib.parse import parse_qs, urlsplit

Frame = dict[str, Any]

Fate = Literal["carry", "carry and cut", "cut"]

_TEXT = 0x1
_FINAL = 0x80


class Line:
    """One WebSocket through the proxy.

    Attributes:
        number: of this one among those of its plan, counted from 1.
        heard: the types of the frames that were carried to the page.
        flowing: whether the server's frames are carried; clear it to hold them back.
    """

    def __init__(self, number: int, page: asyncio.StreamWriter) -> None:
        self.number = number
        self.heard: list[str] = []
        self.flowing = asyncio.Event()
        self.flowing.set()
        self._page = page

    def cut(self) -> None:
        """End it with no word: what was carried arrives, then comes the end of the stream."""
        self._page.close()

    def say(self, frame: Frame) -> None:
        """Have the page hear something that the server has not said."""
        payload = json.dumps(frame).encode()
        assert len(payload) < 126
        self._page.write(bytes([_FINAL | _TEXT, len(payload)]) + payload)


class Plan(Protocol):
    """What becomes of the sockets of one client. Called in the proxy's own thread."""

    def opened(self, line: Line) -> bool:
        """Whether the handshake is carried; else it is cut."""
        ...

    def judge(self, line: Line, sender: Literal["page", "server"], frame: Frame) -> Fate:
        """Say what becomes of a frame."""
        ...


class CuttingProxy:
    """Listens on a free port of loopback; made by `cutting_proxy`.

    Attributes:
        origin: of every page that it carries.
        target: port of the server; may change between connections.
        plans: by name.
    """

    def __init__(self, port: int) -> None:
        self.origin = f"http://127.0.0.1:{port}"
        self.target = 0
        self.plans: dict[str, Plan] = {}
        self._lines: dict[str, int] = {}

    async def carry(self, page: asyncio.StreamReader, to_page: asyncio.StreamWriter) -> None:
        """Carry one connection to its end."""
        try:
            head = await page.readuntil(b"\r\n\r\n")
            server, to_server = await asyncio.open_connection("127.0.0.1", self.target)
        except (asyncio.IncompleteReadError, OSError):
            to_page.close()
            return
        try:
            to_server.write(head)
            name = _plan_of(head)
            if name is None:
                await _both(_pour(page, to_server), _pour(server, to_page))
            else:
                await self._carry_socket(name, (page, to_page), (server, to_server))
        finally:
            to_server.close()
            to_page.close()

    async def _carry_socket(
        self,
        name: str,
        page: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        plan = self.plans[name]
        self._lines[name] = self._lines.get(name, 0) + 1
        line = Line(self._lines[name], page[1])
        if not plan.opened(line):
            return
        page[1].write(await server[0].readuntil(b"\r\n\r\n"))

        async def judge_page(frame: Frame) -> Fate:
            return plan.judge(line, "page", frame)

        async def judge_server(frame: Frame) -> Fate:
            await line.flowing.wait()
            fate = plan.judge(line, "server", frame)
            if fate != "cut":
                line.heard.append(frame["type"])
            return fate

        await _both(
            _pour_frames(page[0], server[1], judge_page),
            _pour_frames(server[0], page[1], judge_server),
        )


@contextmanager
def cutting_proxy() -> Iterator[CuttingProxy]:
    """Run a proxy in a thread of its own; set its `target` before it is used."""
    started: Future[tuple[CuttingProxy, Callable[[], object]]] = Future()
    thread = threading.Thread(target=lambda: asyncio.run(_serve(started)), name="cutting proxy")
    thread.start()
    proxy, stop = started.result(10)
    try:
        yield proxy
    finally:
        stop()
        thread.join(10)


async def _serve(started: "Future[tuple[CuttingProxy, Callable[[], object]]]") -> None:
    carrying: set[asyncio.Task[None]] = set()
    proxy: CuttingProxy

    async def carry(page: asyncio.StreamReader, to_page: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        carrying.add(task)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await proxy.carry(page, to_page)
        carrying.discard(task)

    listener = await asyncio.start_server(carry, "127.0.0.1", 0)
    proxy = CuttingProxy(listener.sockets[0].getsockname()[1])
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    started.set_result((proxy, lambda: loop.call_soon_threadsafe(stop.set)))
    await stop.wait()
    listener.close()
    for task in carrying:
        task.cancel()
    await asyncio.gather(*carrying)


async def _both(*ways: Awaitable[None]) -> None:
    """Carry both ways until one has come to its end."""
    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pour(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(65_536):
        sink.write(data)
        await sink.drain()


async def _pour_frames(
    source: asyncio.StreamReader,
    sink: asyncio.StreamWriter,
    judge: Callable[[Frame], Awaitable[Fate]],
) -> None:
    """Carry WebSocket frames (RFC 6455 section 5.2) until one is cut; each is a whole message here."""
    while True:
        raw, opcode, payload = await _next_frame(source)
        fate = await judge(json.loads(payload)) if opcode == _TEXT else "carry"
        if fate != "cut":
            sink.write(raw)
            await sink.drain()
        if fate != "carry":
            return


async def _next_frame(source: asyncio.StreamReader) -> tuple[bytes, int, bytes]:
    raw = await source.readexactly(2)
    size, is_masked = raw[1] & 0x7F, raw[1] & 0x80
    extended = {126: 2, 127: 8}.get(size, 0)
    if extended:
        raw += await source.readexactly(extended)
        size = int.from_bytes(raw[2:], "big")
    mask = await source.readexactly(4) if is_masked else b""
    payload = await source.readexactly(size)
    raw += mask + payload
    if mask:
        payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    return raw, raw[0] & 0x0F, payload


def _plan_of(head: bytes) -> str | None:
    target = head.split(b" ", 2)[1].decode()
    named = parse_qs(urlsplit(target).query).get("plan")
    return named[0] if named else None

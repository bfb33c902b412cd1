"""The other end of a socket: says commands, hears frames, and holds the server to the order of events."""

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urljoin

import aiohttp
import orjson
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_socket
from websockets.exceptions import ConnectionClosed

BOUND_S = 5.0
MAX_FRAME = 131_072

Frame = dict[str, Any]


@asynccontextmanager
async def connect(
    url: str,
    *,
    origin_url: str,
    headers: Mapping[str, str] | None = None,
    subprotocols: Sequence[str] | None = None,
    origin: str | None = None,
    hello: bool = True,
    compression: str | None = None,
) -> AsyncIterator["Client"]:
    """Open a socket; unless told otherwise say `hello` and hear `ready`."""
    async with open_socket(
        url,
        additional_headers=headers,
        subprotocols=subprotocols,  # type: ignore[arg-type] # a NewType of str
        origin=origin,  # type: ignore[arg-type] # the same
        compression=compression,
        proxy=None,
        max_size=None,
        ping_interval=None,
        open_timeout=BOUND_S,
        close_timeout=1,
    ) as ws:
        client = Client(ws, origin_url)
        if hello:
            await client.say("hello", client="test")
            client.ready = await client.hear("ready")
        yield client


class Client:
    """One connection.

    Attributes:
        ws: the connection itself.
        ready: the answer to `hello`, if that was said.
        frames: every frame that came, in order.
    """

    def __init__(self, ws: ClientConnection, origin_url: str) -> None:
        self.ws = ws
        self.ready: Frame = {}
        self.frames: list[Frame] = []
        self._origin_url = origin_url
        self._unheard: list[Frame] = []

    async def say(self, kind: str, /, **fields: Any) -> None:
        """Send a command."""
        await self.ws.send(orjson.dumps({"type": kind, **fields}).decode())

    async def ask(self, kind: str, /, **fields: Any) -> Frame:
        """Send a command that has an id, and return what answers it."""
        fields.setdefault("id", uuid.uuid4().hex)
        await self.say(kind, **fields)
        return await self.hear(id=fields["id"])

    async def next(self) -> Frame:
        """Return the next frame, whatever it is and however long it takes."""
        return await self._receive()

    async def hear(self, kind: str | None = None, /, **fields: Any) -> Frame:
        """Return the next frame like that; others wait for whoever asks for them."""
        wanted = fields if kind is None else {"type": kind, **fields}
        for frame in self._unheard:
            if _is_like(frame, wanted):
                self._unheard.remove(frame)
                return frame
        async with asyncio.timeout(BOUND_S):
            while not _is_like(frame := await self._receive(), wanted):
                self._unheard.append(frame)
        return frame

    async def send(self, content: str, **fields: Any) -> Frame:
        """Send a message and return its `accepted`."""
        accepted = await self.ask("send", content=content, **fields)
        assert accepted["type"] == "accepted", accepted
        return accepted

    async def events(self, run_id: str, *, after: int = 0, until: str = "done") -> list[Frame]:
        """Return that run's events from `after` on to the first of a type, in order and without a gap."""
        events: list[Frame] = []
        while not events or events[-1]["type"] != until:
            frame = await self.hear(run_id=run_id)
            if frame["type"] == "payload":
                frame = await self.fetch(frame)
            assert frame["type"] == "events", frame
            assert frame["first_seq"] == after + 1
            assert frame["last_seq"] == after + len(frame["events"])
            for event in frame["events"]:
                assert not events or events[-1]["type"] != until, "something follows the end"
                events.append(event)
            after = frame["last_seq"]
        return events

    async def exchange(self, content: str, **fields: Any) -> tuple[Frame, list[Frame]]:
        """Send a message and wait for the whole answer; return `accepted` and the events."""
        accepted = await self.send(content, **fields)
        return accepted, await self.events(accepted["run_id"])

    async def fetch(self, payload: Frame) -> Frame:
        """Return the frame that a `payload` stands for."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(urljoin(self._origin_url, payload["url"])) as answer,
        ):
            assert answer.status == 200
            body = await answer.read()
        assert len(body) == payload["bytes"]
        assert hashlib.sha256(body).hexdigest() == payload["sha256"]
        whole: Frame = orjson.loads(body)
        assert whole["type"] == payload["of"]
        return whole

    async def history(self, session_id: str) -> list[Frame]:
        """Return the messages of a session, oldest first."""
        messages: list[Frame] = []
        cursor: dict[str, str] = {}
        while True:
            page = await self.ask("history", session_id=session_id, **cursor)
            if page["type"] == "payload":
                page = await self.fetch(page)
            messages = page["items"][::-1] + messages
            if "next" not in page:
                return messages
            cursor = {"before": page["next"]}

    async def closed(self) -> tuple[int | None, str | None]:
        """Wait for the end of the connection; return its close code and reason."""
        async with asyncio.timeout(BOUND_S):
            try:
                while True:
                    self._unheard.append(await self._receive())
            except ConnectionClosed:
                return self.ws.close_code, self.ws.close_reason

    async def _receive(self) -> Frame:
        text = await self.ws.recv()
        assert isinstance(text, str)
        assert len(text.encode()) <= MAX_FRAME
        frame: Frame = orjson.loads(text)
        self.frames.append(frame)
        return frame


def text_of(events: Sequence[Frame]) -> str:
    """Return the text that the events of a run make up."""
    return "".join(event["text"] for event in events if event["type"] == "content.delta")


def _is_like(frame: Frame, wanted: Mapping[str, Any]) -> bool:
    return all(frame.get(name) == value for name, value in wanted.items())

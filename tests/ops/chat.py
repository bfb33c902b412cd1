"""A chat over the wire, as short as a test can read it."""

from typing import Any

import orjson
from websockets.asyncio.client import ClientConnection

Frame = dict[str, Any]


async def say(ws: ClientConnection, **command: object) -> None:
    """Send a command."""
    await ws.send(orjson.dumps(command).decode())


async def hear(ws: ClientConnection, type_: str) -> Frame:
    """Return the next frame, which has to be of that type."""
    frame: Frame = orjson.loads(await ws.recv())
    assert frame["type"] == type_, frame
    return frame


async def hello(ws: ClientConnection) -> Frame:
    """Say hello and return `ready`."""
    await say(ws, type="hello")
    return await hear(ws, "ready")


async def answer_to(ws: ClientConnection, **send: object) -> list[Frame]:
    """Send a message and return the frames of its answer, `accepted` first, none missing."""
    await say(ws, type="send", **send)
    frames = [await hear(ws, "accepted")]
    following = 1
    while True:
        frame = orjson.loads(await ws.recv())
        assert frame["type"] in {"events", "payload"}, frame
        assert frame["first_seq"] == following
        following = frame["last_seq"] + 1
        frames.append(frame)
        if frame["type"] == "events" and frame["events"][-1]["type"] == "done":
            return frames


def events_of(frames: list[Frame]) -> list[Frame]:
    """Return the events that came inline."""
    return [event for frame in frames if frame["type"] == "events" for event in frame["events"]]


def text_of(frames: list[Frame]) -> str:
    """Return the text that came inline."""
    return "".join(e["text"] for e in events_of(frames) if e["type"] == "content.delta")

"""A server that speaks `makoto.v1` as the test says: for each connection, a script."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

Script = Callable[["Client"], Awaitable[None]]


@dataclass
class Client:
    """One connection, from the server's side."""

    ws: ServerConnection
    heard: list[dict[str, Any]]

    async def hear(self, kind: str) -> dict[str, Any]:
        """Wait for the next command, which must be of that kind."""
        async with asyncio.timeout(5):
            command: dict[str, Any] = orjson.loads(await self.ws.recv())
        self.heard.append(command)
        assert command["type"] == kind, command
        return command

    async def say(self, **frame: Any) -> None:
        await self.ws.send(orjson.dumps(frame).decode())

    async def hello(self) -> None:
        await self.hear("hello")
        await self.say(type="ready")

    async def accept(self) -> dict[str, Any]:
        command = await self.hear("send")
        await self.say(
            type="accepted", id=command["id"], run_id="r1", session_id="s1", message_id="m1"
        )
        return command

    async def events(
        self, first: int, *events: dict[str, Any], run_id: str = "r1", **more: Any
    ) -> None:
        await self.say(
            type="events",
            run_id=run_id,
            first_seq=first,
            last_seq=first + len(events) - 1,
            events=list(events),
            **more,
        )


@dataclass
class FakeGateway:
    """Answers each connection by the next script; the last one serves all that follow.

    Attributes:
        heard: every command, of all connections in order.
        headers: of each handshake.
        targets: path and query of each handshake.
        faults: what went wrong in a script.
    """

    scripts: list[Script]
    url: str = ""
    heard: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    faults: list[BaseException] = field(default_factory=list)

    async def handle(self, ws: ServerConnection) -> None:
        assert ws.request is not None
        self.headers.append(dict(ws.request.headers.raw_items()))
        self.targets.append(ws.request.path)
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        try:
            await script(Client(ws, self.heard))
        except ConnectionClosed:
            pass
        except BaseException as error:
            self.faults.append(error)
            raise

    def kinds(self) -> list[str]:
        return [command["type"] for command in self.heard]


@asynccontextmanager
async def fake_gateway(*scripts: Script) -> AsyncIterator[FakeGateway]:
    gateway = FakeGateway(list(scripts))
    async with serve(
        gateway.handle,
        "127.0.0.1",
        0,
        subprotocols=["makoto.v1"],
        close_timeout=0.2,  # type: ignore[list-item] # a NewType of str
    ) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        gateway.url = f"ws://127.0.0.1:{port}/v1/ws"
        yield gateway
    assert gateway.faults == []


STARTED = {
    "type": "started",
    "id": "c1",
    "session_id": "s1",
    "message_id": "m1",
    "reply_id": "m2",
}
DONE = {"type": "done", "reason": "stop", "message_id": "m2", "saved": True}


def delta(text: str) -> dict[str, Any]:
    return {"type": "content.delta", "text": text}


async def whole_answer(client: Client) -> None:
    """One exchange after the other, each answered at once."""
    await client.hello()
    while True:
        command = await client.accept()
        await client.events(1, {**STARTED, "id": command["id"]}, delta(command["content"]), DONE)

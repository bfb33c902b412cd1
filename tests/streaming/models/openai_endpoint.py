"""A loopback HTTP endpoint that speaks the OpenAI streaming protocol, well or badly, as told.

    async with openai_endpoint() as endpoint:
        endpoint.will(answer('{"content": "Hi"}'))
        ...  # a model whose base_url is endpoint.base_url
        assert endpoint.requests[0].body["stream"] is True

What `will` is given is used up request by request; the last one answers every further request.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum, auto

import orjson
from aiohttp import web

REPLY = '{"content": "Hello 世界", "emotion": "happy", "category": "chat", "memory": null}'


class Do(Enum):
    """What a stream may do besides sending bytes."""

    STALL = auto()  # send nothing more, keep the connection
    RESET = auto()  # abort the connection (RST)
    CUT = auto()  # close the connection inside the chunked body
    REPEAT = auto()  # send the next step's bytes again and again, every 10 ms


Step = bytes | Do | asyncio.Event
"""Bytes are sent in a write of their own; an event is waited for."""


@dataclass(eq=False)
class Received:
    """One request as it arrived."""

    path: str
    """With the query string, as sent."""
    headers: Mapping[str, str]
    raw: bytes
    connection: int
    """The client's port: equal for requests on one connection."""
    at: float
    """When it had arrived, by the loop's clock in seconds."""
    disconnected: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the client left before the answer was complete."""

    @property
    def body(self) -> dict[str, object]:
        return orjson.loads(self.raw)


Behaviour = Callable[[web.Request], Awaitable[web.StreamResponse]]


class OpenAIEndpoint:
    def __init__(self) -> None:
        self.url = ""
        self.requests: list[Received] = []
        self._behaviours: list[Behaviour] = [answer(REPLY)]
        self._under_way = 0
        self._changed = asyncio.Condition()

    @property
    def base_url(self) -> str:
        """What an OpenAI client takes as its base URL."""
        return f"{self.url}/v1"

    def will(self, *behaviours: Behaviour) -> None:
        """Answer the coming requests so."""
        self._behaviours = list(behaviours)

    async def received(self, count: int) -> Received:
        """Wait for the `count`-th request, counted from 1, and return it."""
        async with self._changed, asyncio.timeout(30):
            await self._changed.wait_for(lambda: len(self.requests) >= count)
        return self.requests[count - 1]

    async def closed(self) -> None:
        """Wait until no request is being answered: each was answered to its end, or its client left."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._under_way)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        peer = request.transport.get_extra_info("peername")
        received = Received(
            request.raw_path,
            request.headers.copy(),
            await request.read(),
            connection=peer[1],
            at=asyncio.get_running_loop().time(),
        )
        async with self._changed:
            self.requests.append(received)
            self._changed.notify_all()
        behaviour = self._behaviours[0]
        if len(self._behaviours) > 1:
            del self._behaviours[0]
        self._under_way += 1
        try:
            return await behaviour(request)
        except (asyncio.CancelledError, ConnectionError):
            received.disconnected.set()
            raise
        finally:
            self._under_way -= 1
            async with self._changed:
                self._changed.notify_all()


@asynccontextmanager
async def openai_endpoint(tls: ssl.SSLContext | None = None) -> AsyncIterator[OpenAIEndpoint]:
    endpoint = OpenAIEndpoint()
    app = web.Application(client_max_size=2**24)
    app.router.add_post("/{path:.*}", endpoint.handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        scheme = "https" if tls else "http"
        endpoint.url = f"{scheme}://127.0.0.1:{runner.addresses[0][1]}"
        yield endpoint
    finally:
        await runner.cleanup()


def stream(*steps: Step, content_type: str = "text/event-stream", status: int = 200) -> Behaviour:
    """Answer with a chunked body, step by step; it ends well unless a step ended it otherwise."""

    async def behave(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=status, headers={"Content-Type": content_type})
        await response.prepare(request)
        repeat = False
        for step in steps:
            await _take(step, request, response)
            while repeat:
                await asyncio.sleep(0.01)
                await _take(step, request, response)
            repeat = step is Do.REPEAT
        return response

    return behave


async def _take(step: Step, request: web.Request, response: web.StreamResponse) -> None:
    match step:
        case bytes():
            await response.write(step)
        case asyncio.Event():
            await step.wait()
        case Do.STALL:
            await asyncio.Event().wait()
        case Do.RESET:
            request.transport.abort()
            raise ConnectionResetError
        case Do.CUT:
            request.transport.close()
            raise ConnectionResetError


def answer(arguments: str = REPLY, *, size: int = 4, finish_reason: str = "stop") -> Behaviour:
    """Stream a call of the reply function with these arguments, `size` characters a chunk."""
    return stream(*reply_events(arguments, size=size, finish_reason=finish_reason))


def status(
    code: int, error: Mapping[str, object] | None = None, *, headers: Mapping[str, str] = {}
) -> Behaviour:
    """Answer with an error status and, as OpenAI does, an ``error`` object in JSON."""
    body = orjson.dumps({"error": error or {"message": "no", "type": None, "code": None}})
    return plain(code, body, content_type="application/json", headers=headers)


def plain(
    code: int, body: bytes, *, content_type: str, headers: Mapping[str, str] = {}
) -> Behaviour:
    """Answer with a whole body."""

    async def behave(request: web.Request) -> web.StreamResponse:
        return web.Response(
            status=code, body=body, headers={"Content-Type": content_type, **headers}
        )

    return behave


async def stall(request: web.Request) -> web.StreamResponse:
    """Never answer."""
    await asyncio.Event().wait()
    raise AssertionError


async def hang_up(request: web.Request) -> web.StreamResponse:
    """Close the connection instead of answering."""
    request.transport.close()
    raise ConnectionResetError


def raw(data: bytes) -> Behaviour:
    """Send these bytes in place of an HTTP response, and hang up."""

    async def behave(request: web.Request) -> web.StreamResponse:
        request.transport.write(data)
        return await hang_up(request)

    return behave


def event(data: object) -> bytes:
    """Return one server-sent event."""
    return b"data: " + orjson.dumps(data) + b"\n\n"


DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}


def chunk(delta: Mapping[str, object] | None = None, finish_reason: str | None = None) -> bytes:
    """Return the event of a chat completion chunk with one choice."""
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish_reason}
    return event({"id": "c1", "object": "chat.completion.chunk", "choices": [choice]})


def usage(counts: Mapping[str, int] = USAGE) -> bytes:
    """Return the event that carries the usage."""
    return event({"id": "c1", "object": "chat.completion.chunk", "choices": [], "usage": counts})


def call(arguments: str, *, name: str | None = None, index: int = 0) -> bytes:
    """Return a chunk with a piece of a function call; the first piece carries its name."""
    function: dict[str, object] = {"arguments": arguments}
    first: dict[str, object] = {}
    if name is not None:
        function["name"] = name
        first = {"id": f"call_{index}", "type": "function"}
    return chunk({"tool_calls": [{"index": index, **first, "function": function}]})


def call_events(arguments: str, *, size: int = 4, name: str = "reply") -> Sequence[bytes]:
    """Return the chunks of one call, without an end."""
    pieces = [arguments[at : at + size] for at in range(0, len(arguments), size)]
    return [
        chunk({"role": "assistant", "content": None}),
        call("", name=name),
        *(call(piece) for piece in pieces),
    ]


def reply_events(
    arguments: str = REPLY, *, size: int = 4, finish_reason: str = "stop"
) -> Sequence[bytes]:
    """Return everything a provider sends for one good reply."""
    return [
        *call_events(arguments, size=size),
        chunk(finish_reason=finish_reason),
        usage(),
        DONE,
    ]

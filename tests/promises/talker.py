"""A chat model that says its next word when it is told to, with a real reader and real deadlines."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Literal

from streaming.models.chat_model import Deadlines, ModelRequest
from streaming.models.errors import ModelError, ModelUnavailableError
from streaming.models.reply_stream import stream_reply
from streaming.models.retry import RetryPolicy
from streaming.parts import Part
from tests.promises.history import Asked
from tests.streaming.models.openai_endpoint import DONE, call, chunk, usage

DEADLINES = Deadlines(first_token=8.0, between_chunks=8.0, total=30.0)
RETRIES = 2

Failure = Literal["unavailable", "cut", "not json"]


@dataclass(eq=False)
class Request:
    """One request to the model, under way or over."""

    asked: Asked
    steps: asyncio.Queue[bytes | ModelError] = field(default_factory=asyncio.Queue)
    begun: bool = False
    ended: bool = False
    """It has been told its end already."""

    @property
    def is_open(self) -> bool:
        return self.asked.closed_at is None and not self.ended

    def say(self, text: str) -> None:
        """Say some more of the reply's content."""
        begin = "" if self.begun else '{"content": "'
        self.begun = True
        self.steps.put_nowait(call(begin + json.dumps(text, ensure_ascii=False)[1:-1]))

    def finish(self) -> None:
        """Say the rest of a whole reply."""
        if not self.begun:
            self.say("Yes.")
        self.ended = True
        rest = call('", "emotion": "happy", "category": "story", "memory": null}')
        self.steps.put_nowait(rest + chunk(finish_reason="stop") + usage() + DONE)

    def fail(self, failure: Failure) -> None:
        self.ended = True
        match failure:
            case "unavailable":
                self.steps.put_nowait(ModelUnavailableError("told to fail"))
            case "cut":
                self.steps.put_nowait(b"")
            case "not json":
                self.steps.put_nowait(b"data: not JSON\n\n")


class Talker:
    """Implements `ChatModel`.

    Attributes:
        requests: all that there were, in order.
        at_once: answers every further request whole, without being told.
    """

    name = "talker"

    def __init__(self, clock: Callable[[], float]) -> None:
        self.requests: list[Request] = []
        self.at_once = False
        self._clock = clock

    @property
    def open(self) -> list[Request]:
        """Those that wait to be told something."""
        return [request for request in self.requests if request.is_open]

    @property
    def asked(self) -> list[Asked]:
        return [request.asked for request in self.requests]

    def stream(self, request: ModelRequest) -> AsyncGenerator[list[Part], None]:
        question = request.messages[-1].content

        async def open_source() -> _Source:
            made = Request(Asked(at=self._clock(), question=question))
            self.requests.append(made)
            made.steps.put_nowait(chunk({"role": "assistant"}) + call("", name="reply"))
            if self.at_once:
                made.say(f"{question} All of it.")
                made.finish()
            return _Source(made, self._clock)

        return stream_reply(
            open_source,
            function=request.function.name,
            deadlines=DEADLINES,
            retry=RetryPolicy(retries=RETRIES),
            chance=lambda: 0.5,
        )

    async def aclose(self) -> None:
        """Nothing is open."""


class _Source:
    def __init__(self, request: Request, clock: Callable[[], float]) -> None:
        self._request = request
        self._clock = clock

    async def read(self) -> bytes:
        step = await self._request.steps.get()
        if isinstance(step, ModelError):
            raise step
        if b"content" in step or self._request.asked.spoke_at is not None:
            self._request.asked.spoke_at = self._clock()
        return step

    async def aclose(self) -> None:
        if self._request.asked.closed_at is None:
            self._request.asked.closed_at = self._clock()

"""A chat model that says exactly what a test tells it to, when the test lets it."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence

from streaming.models.chat_model import ModelRequest
from streaming.parts import FieldDelta, FieldDone, FieldValue, Finished, Part, Usage

USAGE = Usage(10, 5, 15)

Step = str | Part | Sequence[Part] | asyncio.Event | BaseException
"""Text of the reply, parts that one read brought, an event to wait for, or an error to raise."""


class Puppet:
    """Implements `ChatModel`.

    Attributes:
        requests: what it was asked, in order.
        streaming: how many replies are under way.
    """

    name = "puppet"

    def __init__(self) -> None:
        self.requests: list[ModelRequest] = []
        self.streaming = 0
        self._default: Sequence[Step] = reply("Hello")
        self._scripts: dict[str, Sequence[Step]] = {}
        self._changed = asyncio.Condition()

    def says(self, *steps: Step) -> None:
        """Answer every message so."""
        self._default = steps

    def says_to(self, message: str, *steps: Step) -> None:
        """Answer that message so."""
        self._scripts[message] = steps

    async def asked(self, count: int) -> ModelRequest:
        """Wait for the `count`-th request, counted from 1, and return it."""
        async with self._changed, asyncio.timeout(5):
            await self._changed.wait_for(lambda: len(self.requests) >= count)
        return self.requests[count - 1]

    async def idle(self) -> None:
        """Wait until no reply is under way."""
        async with self._changed, asyncio.timeout(5):
            await self._changed.wait_for(lambda: not self.streaming)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[list[Part], None]:
        self.streaming += 1
        try:
            await self._note(request)
            for step in self._scripts.get(request.messages[-1].content, self._default):
                match step:
                    case asyncio.Event():
                        await step.wait()
                    case BaseException():
                        raise step
                    case str():
                        yield [FieldDelta("content", step)]
                    case Sequence():
                        yield list(step)
                    case _:
                        yield [step]
        finally:
            self.streaming -= 1
            async with self._changed:
                self._changed.notify_all()

    async def aclose(self) -> None:
        pass

    async def _note(self, request: ModelRequest) -> None:
        async with self._changed:
            self.requests.append(request)
            self._changed.notify_all()


def reply(
    *texts: Step,
    emotion: str = "happy",
    category: str = "story",
    memory: str | None = None,
    reason: str = "stop",
    usage: Usage | None = USAGE,
) -> list[Step]:
    """Return the steps of a whole reply with these pieces of text."""
    fields: Mapping[str, str | None] = {
        "emotion": emotion,
        "category": category,
        "memory": memory,
    }
    end: list[Part] = [FieldDone("content")]
    end += [FieldValue(name, value) for name, value in fields.items()]
    end += [usage] if usage else []
    return [*texts, [*end, Finished(reason)]]

"""A provider with moods: what it does with a request depends on the question, and on chance."""

import asyncio
import json
import random
from collections import Counter

import orjson
from aiohttp import web

from tests.promises.history import Asked
from tests.streaming.models.openai_endpoint import (
    DONE,
    Behaviour,
    call,
    chunk,
    event,
    hang_up,
    plain,
    stall,
    status,
    usage,
)

WORDS = ("Yes, ", "春が来た。", "😀 ", "and so on, ", '"quoted" \\ ', "x" * 400, "春" * 5_000)

BEFORE: dict[str, Behaviour] = {
    "429": status(429, headers={"retry-after": "0"}),
    "503": status(503),
    "401": status(401),
    "HTML": plain(502, b"<html>Bad gateway</html>", content_type="text/html"),
    "no answer": hang_up,
    "no headers": stall,
}
"""Faults before the first word."""

BEHIND = ("cut", "silence", "no JSON", "error in the stream")
"""Faults behind it."""


class Provider:
    """The behaviour of an `OpenAIEndpoint`.

    Attributes:
        asked: every request.
        faults: how often it did what.
        healthy: does nothing wrong any more.
    """

    def __init__(self, chance: random.Random) -> None:
        self.asked: list[Asked] = []
        self.faults: Counter[str] = Counter()
        self.healthy = False
        self._random = chance

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        loop = asyncio.get_running_loop()
        asked = Asked(at=loop.time(), question=body["messages"][-1]["content"])
        self.asked.append(asked)
        fault = self._mood()
        if fault is not None:
            self.faults[f"provider: {fault}"] += 1
        try:
            if fault in BEFORE:
                return await BEFORE[fault](request)
            return await self._answer(request, asked, fault)
        finally:
            asked.closed_at = loop.time()

    def _mood(self) -> str | None:
        if self.healthy or self._random.random() > 0.3:
            return None
        return self._random.choice((*BEFORE, *BEHIND))

    async def _answer(
        self, request: web.Request, asked: Asked, fault: str | None
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        mark = asked.question.split(" ")[0]
        await response.write(chunk({"role": "assistant"}) + call("", name="reply"))
        await self._say(response, asked, f'{{"content": "{mark} ')
        pace = 0.0 if self.healthy else self._random.choice((0.0, 0.02, 0.1))
        for _ in range(self._random.randrange(12)):
            await asyncio.sleep(pace)
            word = json.dumps(self._random.choice(WORDS), ensure_ascii=self._random.random() < 0.5)
            await self._say(response, asked, word[1:-1])
        match fault:
            case "cut":
                assert request.transport is not None
                request.transport.close()
                raise ConnectionResetError
            case "silence":
                await asyncio.Event().wait()
            case "no JSON":
                await response.write(b"data: {not JSON\n\n")
            case "error in the stream":
                await response.write(event({"error": {"message": "told to", "type": "server"}}))
            case None:
                await response.write(call('", "emotion": "happy", "category": "story"}'))
                await response.write(chunk(finish_reason="stop") + usage() + DONE)
        return response

    async def _say(self, response: web.StreamResponse, asked: Asked, text: str) -> None:
        await response.write(call(text))
        asked.spoke_at = asyncio.get_running_loop().time()

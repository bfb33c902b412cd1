"""The provider of a scenario: what it does with a request is written beside the question.

A question that the scenario does not mention is answered `Yes.` What it mentions is done in order:

    "text"                            a chunk with that much of the reply's content
    {repeat = "誠", times = 5000}     a chunk with a long text
    {hold = "half"}                   waits until the scenario lets it go on
    {memory = "Aiko lives in Osaka."} what the reply's end will say, likewise `emotion` and `category`
    {tool = "find", arguments = "{}"} a call of another function
    {finish = "length"}               instead of `stop`; nothing more of the arguments
    {write = "data: {oops\\n\\n"}       as it is
    {status = 503}                    instead of an answer
    {end = "cut"}                     in the middle of the body, or "early": whole, but without a finish
    {stall = true}                    silence for ever; as the first step, before any word
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web

from tests.gateway.hosts.scenarios.scenario import spelled_out
from tests.streaming.models.openai_endpoint import DONE, call, chunk, status, usage


@dataclass
class Asked:
    """One request.

    Attributes:
        messages: role and content.
        end: how it ended: `answered`, `left` by who asked, or `open`.
    """

    messages: Sequence[tuple[str, str]]
    end: str = "open"


class Provider:
    """The behaviour of an `OpenAIEndpoint`."""

    def __init__(self) -> None:
        self.begin({})

    def begin(self, scripts: Mapping[str, Sequence[Any]]) -> None:
        """Forget what was before, and answer these questions so."""
        self.asked: list[Asked] = []
        self._scripts = {question: spelled_out(list(steps)) for question, steps in scripts.items()}
        self._holds: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def go_on(self, name: str) -> None:
        """Let everything go on that is held under that name, now or later."""
        self._holds[name].set()

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        asked = Asked([(each["role"], each["content"]) for each in body["messages"]])
        self.asked.append(asked)
        script = self._scripts.get(asked.messages[-1][1], ["Yes."])
        try:
            answer = await _Answer(request, self._holds).give(script)
        except (asyncio.CancelledError, ConnectionError):
            asked.end = "left"
            raise
        asked.end = "answered"
        return answer


class _Answer:
    def __init__(self, request: web.Request, holds: defaultdict[str, asyncio.Event]) -> None:
        self._request = request
        self._holds = holds
        self._response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        self._said = False
        self._end: dict[str, str | None] = {
            "emotion": "happy",
            "category": "story",
            "memory": None,
        }

    async def give(self, script: Sequence[Any]) -> web.StreamResponse:
        if isinstance(script[0], dict) and "status" in script[0]:
            return await status(script[0]["status"])(self._request)
        await self._response.prepare(self._request)
        if script[0] != {"stall": True}:
            await self._response.write(chunk({"role": "assistant"}) + call("", name="reply"))
        for step in script:
            if await self._take(step):
                return self._response
        end = json.dumps(self._end, ensure_ascii=False)
        await self._response.write(call(f'", {end[1:]}') + _finish("stop"))
        return self._response

    async def _take(self, step: Any) -> bool:
        """Do one step; return whether it was the last one."""
        match step:
            case str():
                begin = "" if self._said else '{"content": "'
                self._said = True
                text = json.dumps(step, ensure_ascii=False)[1:-1]
                await self._response.write(call(begin + text))
            case {"hold": name}:
                await self._holds[name].wait()
            case {"tool": name, "arguments": arguments}:
                await self._response.write(call(arguments, name=name, index=1))
            case {"write": text}:
                await self._response.write(text.encode())
            case {"stall": True}:
                await asyncio.Event().wait()
            case {"finish": reason}:
                await self._response.write(_finish(reason))
                return True
            case {"end": how}:
                self._stop(how)
                return True
            case _:
                self._end |= step
        return False

    def _stop(self, how: str) -> None:
        if how == "cut":
            assert self._request.transport is not None
            self._request.transport.close()


def _finish(reason: str) -> bytes:
    return chunk(finish_reason=reason) + usage() + DONE

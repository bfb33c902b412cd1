"""The provider of a scenario: what it does with a request is written beside the question.

A question that the scenario does not mention is answered `Yes.` What it mentions is done in order:

    "text"                            a chunk with that much of the reply's content
    {repeat = "誠", times = 5000}     a chunk with a long text
    {words = "春 ", times = 1000}     as many chunks, one after the other
    {arguments = '{"emotion": "'}     a chunk with a piece of the call as it is; then say all of them so
    {plain = "text"}                  text instead of a call
    {hold = "half"}                   waits until the scenario lets it go on
    {memory = "Aiko lives in Osaka."} what the reply's end will say, likewise `emotion` and `category`
    {tool = "find", arguments = "{}"} a call of another function
    {finish = "length"}               instead of `stop`; nothing more of the arguments
    {write = "data: {oops\\n\\n"}       as it is
    {status = 503}                    instead of an answer, perhaps with {retry_after = "1"}
    {end = "cut"}                     in the middle of the body, or "early": whole, but without a finish
    {stall = true}                    silence for ever; as the first step, before any word
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web

from tests.gateway.hosts.scenarios.scenario import spelled_out
from tests.streaming.models.openai_endpoint import DONE, call, chunk, status, usage

FOR_EVER = ""
"""The name of the hold that nothing lets go."""


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

    async def let_go(self) -> None:
        """End what is still under way after a scenario has failed: the next one shall not hear of it."""
        self._scripts.clear()
        for hold in [self._holds[FOR_EVER], *self._holds.values()]:
            hold.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(5):
                while any(asked.end == "open" for asked in self.asked):
                    await asyncio.sleep(0.01)

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
        self._said: bool | None = False  # `None`: whatever is said, the script says it
        self._end: dict[str, str | None] = {
            "emotion": "happy",
            "category": "story",
            "memory": None,
        }

    async def give(self, script: Sequence[Any]) -> web.StreamResponse:
        if isinstance(script[0], dict) and "status" in script[0]:
            later = script[0].get("retry_after")
            headers = {} if later is None else {"retry-after": later}
            return await status(script[0]["status"], headers=headers)(self._request)
        await self._response.prepare(self._request)
        if not isinstance(script[0], dict) or not script[0].keys() & {"stall", "plain"}:
            await self._response.write(chunk({"role": "assistant"}) + call("", name="reply"))
        for step in script:
            if await self._take(step):
                return self._response
        if self._said is not None:
            end = json.dumps(self._end, ensure_ascii=False)
            begin = "" if self._said else '{"content": "'
            await self._response.write(call(f'{begin}", {end[1:]}'))
        await self._response.write(_finish("stop"))
        return self._response

    async def _take(self, step: Any) -> bool:
        """Do one step; return whether it was the last one."""
        match step:
            case str():
                await self._say(step)
            case {"words": str(word), "times": int(times)}:
                for _ in range(times):
                    await self._say(word)
            case {"hold": name}:
                await self._holds[name].wait()
            case {"stall": True}:
                await self._holds[FOR_EVER].wait()
            case {"finish": reason}:
                await self._response.write(_finish(reason))
                return True
            case {"end": how}:
                self._stop(how)
                return True
            case {"emotion": _} | {"category": _} | {"memory": _}:
                self._end |= step
            case _:
                await self._write(step)
        return False

    async def _write(self, step: Any) -> None:
        match step:
            case {"tool": name, "arguments": arguments}:
                await self._response.write(call(arguments, name=name, index=1))
            case {"arguments": piece}:
                self._said = None
                await self._response.write(call(piece))
            case {"plain": text}:
                self._said = None
                await self._response.write(chunk({"content": text}))
            case {"write": text}:
                await self._response.write(text.encode())
            case _:
                raise AssertionError(f"nobody knows how to do {step}")

    async def _say(self, text: str) -> None:
        begin = "" if self._said else '{"content": "'
        self._said = True
        await self._response.write(call(begin + json.dumps(text, ensure_ascii=False)[1:-1]))

    def _stop(self, how: str) -> None:
        if how == "cut":
            assert self._request.transport is not None
            self._request.transport.close()


def _finish(reason: str) -> bytes:
    return chunk(finish_reason=reason) + usage() + DONE

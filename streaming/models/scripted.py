"""The scripted model: needs no key and no network, and says so itself.

For trying the gateway and for testing it. It renders its reply as the bytes a provider would have
sent and has them read by the same code (`streaming.models.reply_stream`): what works with it works
for the same reasons as with a real one. The same prompt always gives the same bytes. How a person
steers it is in `streaming.models.scripted_words`.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable

from streaming.models.byte_source import ByteSource
from streaming.models.chat_model import DEFAULT_DEADLINES, Deadlines, ModelRequest
from streaming.models.errors import ModelUnavailableError
from streaming.models.reply_stream import stream_reply
from streaming.models.retry import DEFAULT_RETRY, RetryPolicy
from streaming.models.scripted_reply import last_user_message, scripted_reply
from streaming.models.scripted_stream import ERROR_CODES, ScriptedStream, scripted_stream
from streaming.models.scripted_words import Wishes, read_wishes
from streaming.models.upstream_errors import error_of_response
from streaming.parts import Part

__all__ = ["ScriptedModel"]

_SLOW = 8
"""How many times longer each pause is when the message asks for ``slow``."""

_STATUSES = {"auth": 401, "quota": 429, "rate": 429, "unavailable": 503}


class ScriptedModel:
    """A deterministic model. Implements `ChatModel`; holds nothing open.

    Args:
        fragments_per_second: The pace; None sends as fast as the reader reads.
        max_output_tokens: Upper bound of a reply in tokens, each of which is a fragment; None for none.
        deadlines: How long one reply may take.
        retry: When a request that was made to fail is sent again.
        sleep: Waits the given seconds; the pace and the waits between retries go through it.
    """

    name = "scripted"

    def __init__(
        self,
        *,
        fragments_per_second: float | None = 40.0,
        max_output_tokens: int | None = None,
        deadlines: Deadlines = DEFAULT_DEADLINES,
        retry: RetryPolicy = DEFAULT_RETRY,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._pause = 1.0 / fragments_per_second if fragments_per_second else 0.0
        self._max_output_tokens = max_output_tokens
        self._deadlines = deadlines
        self._retry = retry
        self._sleep = sleep

    def stream(self, request: ModelRequest) -> AsyncGenerator[list[Part], None]:
        """See `ChatModel.stream`."""
        wishes = read_wishes(last_user_message(request))
        script = scripted_stream(
            request,
            scripted_reply(request, wishes),
            wishes,
            max_output_tokens=self._max_output_tokens,
        )
        requests_so_far = 0

        async def open_source() -> ByteSource:
            nonlocal requests_so_far
            requests_so_far += 1
            _fail_before_streaming(wishes, first_request=requests_so_far == 1)
            return _ScriptedSource(script, self._pace(wishes))

        return stream_reply(
            open_source,
            function=request.function.name,
            deadlines=self._deadlines,
            retry=self._retry,
            sleep=self._sleep,
        )

    async def aclose(self) -> None:
        """See `ChatModel.aclose`."""

    def _pace(self, wishes: Wishes) -> Callable[[], Awaitable[None]]:
        pause = self._pause * (_SLOW if "slow" in wishes.words else 1)
        return lambda: self._sleep(pause)


class _ScriptedSource:
    """The bytes of one scripted response, an event per read. Implements `ByteSource`."""

    def __init__(self, script: ScriptedStream, pace: Callable[[], Awaitable[None]]) -> None:
        self._events = iter(script.events)
        self._ending = script.ending
        self._pace = pace

    async def read(self) -> bytes:
        """See `ByteSource.read`."""
        await self._pace()
        event = next(self._events, b"")
        if not event and self._ending == "stall":
            await asyncio.get_running_loop().create_future()
        if not event and self._ending == "break":
            raise ModelUnavailableError("scripted break")
        return event

    async def aclose(self) -> None:
        """See `ByteSource.aclose`."""


def _fail_before_streaming(wishes: Wishes, *, first_request: bool) -> None:
    """Raise what a provider's error status would have raised, if the message asks for that."""
    kind = wishes.failure.kind if wishes.failure and not wishes.failure.later else None
    if "flaky" in wishes.words and first_request:
        kind = "unavailable"
    if kind not in ERROR_CODES:
        return
    headers = {"retry-after": "1"} if kind == "rate" else {}
    body = b'{"error": {"code": "%b"}}' % ERROR_CODES[kind].encode()
    raise error_of_response(_STATUSES.get(kind, 400), headers, body, now=0.0)

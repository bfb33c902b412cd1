"""One reply from the first request to the last part: open, read, and start again if nothing came."""

import asyncio
import itertools
import random
from collections.abc import AsyncGenerator, Awaitable, Callable

from streaming.models.byte_source import ByteSource
from streaming.models.chat_model import Deadlines
from streaming.models.deadline import DeadlineWatch
from streaming.models.errors import ModelError
from streaming.models.reply_reader import ReplyReader
from streaming.models.retry import RetryPolicy
from streaming.parts import Part

__all__ = ["stream_reply"]


async def stream_reply(
    open_source: Callable[[], Awaitable[ByteSource]],
    *,
    function: str,
    deadlines: Deadlines,
    retry: RetryPolicy,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    chance: Callable[[], float] = random.random,
) -> AsyncGenerator[list[Part], None]:
    """Yield the parts of a reply: the body of `ChatModel.stream`, which says what callers rely on.

    Args:
        open_source: Sends the request and returns the body of the answer; called once per try. When
            it fails or is cancelled it must leave nothing open.
        function: The name of the reply function.
        deadlines: How long the reply may take.
        retry: When to send the request again; it never is after the first part.
        sleep: Waits the given seconds.
        chance: Returns a random number, 0 <= chance < 1.
    """
    watch = DeadlineWatch(deadlines)
    try:
        for attempt in itertools.count():
            reader = ReplyReader(open_source, function=function, watch=watch)
            try:
                while parts := await reader.next_parts():
                    yield parts
            except ModelError as error:
                wait = retry.wait(
                    error, attempt=attempt, time_left=watch.first_token_left, chance=chance()
                )
                if wait is None:
                    raise
            else:
                return
            finally:
                await reader.aclose()
            with watch:
                await sleep(wait)
    finally:
        watch.stop()

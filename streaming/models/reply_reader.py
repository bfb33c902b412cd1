"""The bytes of one response -> the parts of a reply, and whether it is whole."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from streaming.chunks import decode_chunk
from streaming.errors import EventTooLargeError, ParseError, UpstreamError
from streaming.models.byte_source import ByteSource
from streaming.models.deadline import DeadlineWatch
from streaming.models.errors import ModelError, ModelProtocolError
from streaming.models.upstream_errors import error_of_event
from streaming.parts import CallStarted, Finished, Part
from streaming.sse import DONE, EventReader
from streaming.tool_calls import ToolCallAccumulator

__all__ = ["ReplyReader"]

MAX_EVENT_BYTES: Final = 1_048_576
"""The longest event accepted: a whole reply in one chunk fits, a stream without line ends does not."""

MAX_REPLY_CHARS: Final = 1_048_576
"""The longest reply, about twice what 128,000 tokens hold, the most that models are offered with. Every
character is kept in memory, in the log and in the conversation, and 300 seconds can bring gigabytes."""

_CUT_ON_PURPOSE: Final = frozenset({"length", "content_filter"})
"""Finish reasons after which the arguments may end anywhere."""

_BODY_END_SECONDS: Final = 0.1
"""How long the end of the body may take after the end of the reply, to keep the connection."""


class ReplyReader:
    """One try to get a reply. Opens its source at the first read; `aclose` must be called.

    A reply is whole when the provider said why it ended (``finish_reason``). One that ends silently,
    by ``[DONE]``, by the end of the body or by a broken connection, is whole only if the arguments
    of the reply function form a complete object. One that grows beyond `MAX_REPLY_CHARS` is ended here,
    as a provider would end it: with ``Finished("length")``.

    Args:
        open_source: Sends the request and returns the body of the answer.
        function: The name of the reply function.
        watch: The deadlines; the reader tells it of every event and of the first part.
    """

    __slots__ = (
        "_called",
        "_calls",
        "_done",
        "_events",
        "_failure",
        "_finished",
        "_function",
        "_open_source",
        "_over_limit",
        "_source",
        "_watch",
    )

    def __init__(
        self,
        open_source: Callable[[], Awaitable[ByteSource]],
        *,
        function: str,
        watch: DeadlineWatch,
    ) -> None:
        self._open_source = open_source
        self._watch = watch
        self._source: ByteSource | None = None
        self._events = EventReader(MAX_EVENT_BYTES)
        self._function = function
        self._calls = ToolCallAccumulator(functions={function}, max_chars=MAX_REPLY_CHARS)
        self._called: dict[int, str] = {}
        self._finished: Finished | None = None
        self._failure: ModelError | None = None
        self._done = False
        self._over_limit = False

    async def next_parts(self) -> list[Part]:
        """Wait for the next read that brings parts and return them; [] after the last ones.

        Raises:
            ModelError: The reply is not whole, or not to be had. Parts that came in the same read
                were returned before.
        """
        if self._source is None:
            with self._watch:
                self._source = await self._open_source()
        while not self._done:
            try:
                with self._watch:
                    data = await self._source.read()
            except ModelError as error:
                parts = self._end(broken=error)
            else:
                parts = self._take_read(data)
            if parts:
                if not self._watch.answering:
                    self._watch.answer_came()
                return parts
        if self._failure is not None:
            raise self._failure
        if not self._over_limit:
            await self._read_body_end(self._source)
        return []

    async def aclose(self) -> None:
        """Close the source: at once, unless it was read to its end."""
        if self._source is not None:
            await self._source.aclose()

    def _take_read(self, data: bytes) -> list[Part]:
        if not data:
            return [*self._take_all(self._events.close()), *self._end()]
        try:
            events = self._events.feed(data)
        except EventTooLargeError as error:
            parts = self._take_all(error.events)
            if not self._done:
                self._fail(ModelProtocolError("event too large"))
            return parts
        return self._take_all(events)

    def _take_all(self, events: Sequence[bytes]) -> list[Part]:
        parts: list[Part] = []
        if events:
            self._watch.event_came()
        for event in events:
            if event == DONE:
                parts += self._end()
            elif not self._done:
                self._take(event, parts)
        return parts

    def _take(self, event: bytes, parts: list[Part]) -> None:
        try:
            came: Sequence[Part] = self._calls.feed(decode_chunk(event))
        except UpstreamError as error:
            came = error.parts
            self._fail(error_of_event(error.kind, error.status))
        except ParseError as error:
            came = error.parts
            self._over_limit = error.code == "too_large"
            self._fail(None if self._over_limit else ModelProtocolError(error.code))
        for part in came:
            if isinstance(part, Finished):
                self._finished = part
            else:
                if isinstance(part, CallStarted):
                    self._called[part.call] = part.name
                parts.append(part)
        if self._over_limit:
            parts.append(Finished("length"))

    def _fail(self, failure: ModelError | None) -> None:
        self._done = True
        self._failure = failure

    def _end(self, broken: ModelError | None = None) -> list[Part]:
        """Take the end of the stream, well or `broken`; `Finished` comes last, whenever it was said."""
        if self._done:
            return []
        self._done = True
        cut: ParseError | None = None
        try:
            parts = self._calls.close()
        except ParseError as error:
            cut = error
            parts = list(error.parts)
        self._failure = self._what_is_missing(cut, broken)
        if self._failure is None:
            parts.append(self._finished or Finished("stop"))
        return parts

    def _what_is_missing(
        self, cut: ParseError | None, broken: ModelError | None
    ) -> ModelError | None:
        if self._finished is not None and self._finished.reason in _CUT_ON_PURPOSE:
            return None
        said_why = self._finished is not None or self._function in self._called.values()
        if said_why and cut is None:
            return None
        return broken or ModelProtocolError(cut.code if cut else "no finish reason")

    async def _read_body_end(self, source: ByteSource) -> None:
        """Let the connection be used again, if the body ends now, as it should."""
        with contextlib.suppress(TimeoutError, ModelError):
            async with asyncio.timeout(_BODY_END_SECONDS):
                while await source.read():
                    pass

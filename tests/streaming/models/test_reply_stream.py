"""The reading path over byte sources in memory: retries, deadlines across them, cuts anywhere."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.models.byte_source import ByteSource
from streaming.models.chat_model import Deadlines
from streaming.models.errors import (
    ModelAuthError,
    ModelError,
    ModelRateLimitedError,
    ModelTimeoutError,
    ModelUnavailableError,
)
from streaming.models.reply_reader import MAX_REPLY_CHARS
from streaming.models.reply_stream import stream_reply
from streaming.models.retry import RetryPolicy
from streaming.parts import (
    ArgumentsDelta,
    CallStarted,
    FieldDelta,
    FieldDone,
    Finished,
    Part,
    RefusalDelta,
    TextDelta,
    Usage,
)
from streaming.tool_calls import MAX_CALLS
from tests.streaming.models.openai_endpoint import (
    DONE,
    Do,
    call,
    call_events,
    chunk,
    reply_events,
    usage,
)
from tests.streaming.models.virtual_time import VirtualTimeLoop, on_virtual_time

PATIENT = Deadlines(first_token=10.0, between_chunks=10.0, total=10.0)


class Source:
    """Bytes in memory; among them, an error is raised in its turn, and a stall waits forever."""

    def __init__(self, *reads: bytes | ModelError | Do) -> None:
        self._reads = list(reads)
        self.closed = 0

    async def read(self) -> bytes:
        if not self._reads:
            return b""
        read = self._reads.pop(0)
        if isinstance(read, ModelError):
            raise read
        if isinstance(read, Do):
            await asyncio.Event().wait()
        return read

    async def aclose(self) -> None:
        self.closed += 1


class Provider:
    """Answers each request with the next of `answers`; records waits instead of waiting."""

    def __init__(self, *answers: ByteSource | ModelError) -> None:
        self._answers = list(answers)
        self.requests = 0
        self.waits: list[float] = []

    async def open(self) -> ByteSource:
        self.requests += 1
        answer = self._answers.pop(0)
        if isinstance(answer, ModelError):
            raise answer
        return answer

    async def wait(self, seconds: float) -> None:
        self.waits.append(seconds)


async def read(
    provider: Provider,
    *,
    deadlines: Deadlines = PATIENT,
    sleep: Callable[[float], Awaitable[None]] | None = None,
) -> list[list[Part]]:
    reply = stream_reply(
        provider.open,
        function="reply",
        deadlines=deadlines,
        retry=RetryPolicy(retries=2, first_wait=0.5),
        sleep=sleep or provider.wait,
        chance=lambda: 0.5,
    )
    async with asyncio.timeout(10), aclosing(reply):
        return [parts async for parts in reply]


def text_of(reads: Sequence[Sequence[Part]]) -> str:
    return "".join(p.text for parts in reads for p in parts if isinstance(p, FieldDelta))


def good_source() -> Source:
    return Source(*reply_events('{"content": "Hi"}'))


async def test_a_request_that_failed_is_sent_again_after_a_growing_wait() -> None:
    provider = Provider(ModelUnavailableError(), ModelUnavailableError(), good_source())

    assert text_of(await read(provider)) == "Hi"
    assert provider.waits == [0.25, 0.5]


async def test_the_last_error_is_the_one_raised() -> None:
    last = ModelRateLimitedError(retry_after=2.0)
    provider = Provider(ModelUnavailableError(), ModelUnavailableError(), last)

    with pytest.raises(ModelRateLimitedError) as caught:
        await read(provider)
    assert caught.value is last
    assert caught.value.__context__ is None


async def test_what_cannot_pass_is_not_tried_again() -> None:
    provider = Provider(ModelAuthError())

    with pytest.raises(ModelAuthError):
        await read(provider)
    assert provider.requests == 1


async def test_a_stream_that_breaks_before_its_first_part_is_asked_for_again() -> None:
    broken = Source(chunk({"role": "assistant"}), ModelUnavailableError())
    provider = Provider(broken, good_source())

    assert text_of(await read(provider)) == "Hi"
    assert broken.closed == 1


async def test_a_stream_that_breaks_after_its_first_part_is_not() -> None:
    provider = Provider(
        Source(*call_events('{"content": "H'), ModelUnavailableError()), good_source()
    )

    with pytest.raises(ModelUnavailableError):
        await read(provider)
    assert provider.requests == 1


@on_virtual_time
async def test_the_first_token_s_deadline_spans_the_retries() -> None:
    provider = Provider(ModelRateLimitedError(retry_after=4.0), Source(Do.STALL))
    deadlines = Deadlines(first_token=5.0, between_chunks=10.0, total=10.0)

    with pytest.raises(ModelTimeoutError) as caught:
        await read(provider, deadlines=deadlines, sleep=asyncio.sleep)
    assert caught.value.phase == "first_token"
    assert asyncio.get_running_loop().time() == 5.0
    assert provider.requests == 2


async def test_a_wait_that_cannot_end_in_time_is_not_begun() -> None:
    provider = Provider(ModelRateLimitedError(retry_after=11.0), good_source())

    with pytest.raises(ModelRateLimitedError):
        await read(provider)
    assert provider.waits == []


async def test_every_source_is_closed_once() -> None:
    first, second = Source(), good_source()
    provider = Provider(ModelUnavailableError(), second, first)

    await read(provider)

    assert (first.closed, second.closed) == (0, 1)


async def test_a_consumer_that_leaves_closes_the_source() -> None:
    source = good_source()
    reply = stream_reply(
        Provider(source).open, function="reply", deadlines=PATIENT, retry=RetryPolicy()
    )

    async with aclosing(reply):
        await anext(reply)
        assert source.closed == 0
    assert source.closed == 1


@on_virtual_time
async def test_a_reply_leaves_no_timer_behind() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    reply = stream_reply(
        Provider(good_source()).open, function="reply", deadlines=PATIENT, retry=RetryPolicy()
    )

    async with aclosing(reply):
        async for _ in reply:
            assert loop.timers > 0

    assert loop.timers == 0


async def test_the_end_comes_last_and_alone_is_never_empty() -> None:
    events = [
        *call_events('{"content": "Hi"}'),
        chunk(finish_reason="stop"),
        usage(),
        usage({"prompt_tokens": 11, "completion_tokens": 8, "total_tokens": 19}),
        DONE,
    ]

    reads = await read(Provider(Source(*events)))

    assert all(reads)
    assert [type(part) for parts in reads[-3:] for part in parts] == [Usage, Usage, Finished]


@pytest.mark.parametrize(
    "rest",
    [call("again"), b"data: {\n\n", b"data: " + b"x" * 1_100_000],
    ids=["delta", "malformed", "too-large"],
)
async def test_nothing_after_the_end_mark_is_read(rest: bytes) -> None:
    source = Source(b"".join([*reply_events('{"content": "Hi"}'), rest]))

    reads = await read(Provider(source))

    assert text_of(reads) == "Hi"
    assert reads[-1][-1] == Finished("stop")


async def test_an_end_mark_without_a_blank_line_counts() -> None:
    events = [*call_events('{"content": "Hi"}'), chunk(finish_reason="stop"), b"data: [DONE]\n"]

    reads = await read(Provider(Source(*events)))

    assert reads[-1] == [Finished("stop")]


async def test_a_late_delta_after_the_finish_reason_is_kept() -> None:
    events = [call('{"content": "', name="reply"), chunk(finish_reason="stop"), call('Hi"}'), DONE]

    assert text_of(await read(Provider(Source(*events)))) == "Hi"


@given(
    content=st.text(max_size=40),
    size=st.integers(1, 12),
    cuts=st.lists(st.integers(1, 2000), max_size=30),
)
def test_the_parts_do_not_depend_on_the_reads(content: str, size: int, cuts: list[int]) -> None:
    body = b"".join(reply_events(json.dumps({"content": content}), size=size))
    edges = [0, *sorted(cut for cut in set(cuts) if cut < len(body)), len(body)]
    pieces = [body[a:b] for a, b in pairwise(edges)]

    reads = asyncio.run(read(Provider(Source(*pieces))))

    mended = content.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert text_of(reads) == mended
    parts = [part for parts in reads for part in parts]
    assert parts.count(FieldDone(name="content", call=0)) == 1
    assert parts[-1] == Finished("stop")


# A reply without an end


class Endless:
    """The same bytes again and again, behind some others."""

    def __init__(self, first: bytes, again: bytes) -> None:
        self._first = first
        self._again = again
        self.reads = 0
        self.closed = 0

    async def read(self) -> bytes:
        self.reads += 1
        return self._first if self.reads == 1 else self._again

    async def aclose(self) -> None:
        self.closed += 1


PIECE = "\u4e00" * 16_384
FOREIGN = call("{", name="search", index=1)


@pytest.mark.parametrize(
    ("first", "again", "kind"),
    [
        pytest.param(chunk(), chunk({"content": PIECE}), TextDelta, id="text"),
        pytest.param(chunk(), chunk({"refusal": PIECE}), RefusalDelta, id="refusal"),
        pytest.param(call('{"content": "', name="reply"), call(PIECE), FieldDelta, id="reply"),
        pytest.param(FOREIGN, call(PIECE, index=1), ArgumentsDelta, id="another function"),
    ],
)
async def test_a_reply_without_an_end_is_ended_as_too_long(
    first: bytes, again: bytes, kind: type[TextDelta]
) -> None:
    source = Endless(first, again)
    reads = await read(Provider(source))

    assert reads[-1][-1] == Finished("length")
    said = sum(len(part.text) for parts in reads for part in parts if isinstance(part, kind))
    assert MAX_REPLY_CHARS - 20 <= said <= MAX_REPLY_CHARS
    assert source.closed == 1
    assert source.reads <= MAX_REPLY_CHARS // len(PIECE) + 2, "the rest is not waited for"


async def test_a_field_without_an_end_ends_the_reply_as_too_long() -> None:
    source = Endless(call('{"content": "Hi", "memory": "', name="reply"), call(PIECE))
    reads = await read(Provider(source))

    assert text_of(reads) == "Hi"
    assert reads[-1] == [Finished("length")]


async def test_calls_without_an_end_end_the_reply_as_too_long() -> None:
    many = b"".join(call("{}", name="search", index=index) for index in range(1_000))
    reads = await read(Provider(Endless(chunk(), many)))

    assert reads[-1][-1] == Finished("length")
    calls = [part for parts in reads for part in parts if isinstance(part, CallStarted)]
    assert len(calls) == MAX_CALLS


async def test_a_limit_that_is_passed_with_the_end_of_the_reply_counts() -> None:
    text = "x" * (MAX_REPLY_CHARS // 2 + 1)
    source = Source(chunk({"content": text}), chunk({"content": text}, "stop"), DONE)
    reads = await read(Provider(source))

    assert [part for parts in reads for part in parts if isinstance(part, Finished)] == [
        Finished("length")
    ]

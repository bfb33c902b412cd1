"""The response to one request, byte for byte, on a transport in memory."""

import asyncio
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.models.errors import ModelError, ModelProtocolError, ModelUnavailableError
from streaming.models.http_exchange import FRAMING_LIMIT, UNREAD_LIMIT, Exchange

CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
HELLO = CHUNKED + b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nX-Trailer: t\r\n\r\n"


class Transport(asyncio.Transport):
    """Keeps what is written; tells of an abort when asked to, as a real one does: later."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.reading = True
        self.aborted = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def write(self, data: object) -> None:
        assert isinstance(data, bytes)
        self.written += data

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


class Line:
    """An exchange and the far end of its connection."""

    def __init__(self) -> None:
        self.transport = Transport()
        self.ends: list[bool] = []
        self.exchange = Exchange(self.transport, on_end=self.ends.append)
        self._sending = asyncio.ensure_future(self.exchange.send(b"request"))

    async def answers(self, *pieces: bytes) -> Exchange:
        """Send these pieces, one after the other, and return what has them, if they hold a head."""
        await asyncio.sleep(0)
        for piece in pieces:
            self.exchange.data_received(piece)
        await self._sending
        return self.exchange

    async def closes(self, exc: Exception | None = None) -> None:
        await asyncio.sleep(0)
        self.exchange.connection_lost(exc)
        await self._sending


@dataclass(frozen=True, kw_only=True)
class Read:
    """All that can be told of a response."""

    status: int
    headers: dict[str, str]
    body: bytes
    reusable: bool


async def read_all(exchange: Exchange) -> bytes:
    body = b""
    while data := await exchange.read():
        body += data
    return body


async def read(*pieces: bytes, then_closed: bool = False) -> Read:
    """Receive the pieces and read the response to its end."""
    line = Line()
    exchange = await line.answers(*pieces)
    if then_closed:
        await line.closes()
    body = await read_all(exchange)
    await exchange.aclose()
    reusable = line.ends == [True]
    return Read(status=exchange.status, headers=exchange.headers, body=body, reusable=reusable)


RESPONSES = {
    "chunked": (HELLO, b"hello world", True),
    "length": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello", True),
    "no-body": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"", True),
    "no-content": (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
    "no-chunk": (CHUNKED + b"0\r\n\r\n", b"", True),
    "continued": (b"HTTP/1.1 100 Continue\r\n\r\n" + HELLO, b"hello world", True),
    "early-hints": (
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nContent-Type: x\r\n\r\n"
        b"HTTP/1.1 103 Early Hints\r\n\r\n" + HELLO,
        b"hello world",
        True,
    ),
    "no-reason": (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nhi", b"hi", True),
    "close": (
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi",
        b"hi",
        False,
    ),
    "http-1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", b"hi", False),
    "http-1.0-kept": (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi",
        b"hi",
        True,
    ),
    "line-ends-before": (b"\r\n\r\n" + HELLO, b"hello world", True),
}


@pytest.mark.parametrize(("response", "body", "reusable"), RESPONSES.values(), ids=RESPONSES)
async def test_a_response_does_not_depend_on_how_it_is_cut(
    response: bytes, body: bytes, reusable: bool
) -> None:
    whole = await read(response)

    assert (whole.body, whole.reusable) == (body, reusable)
    for cut in range(1, len(response)):
        assert await read(response[:cut], response[cut:]) == whole
    assert await read(*(bytes([byte]) for byte in response)) == whole


@given(cuts=st.sets(st.integers(1, len(HELLO) - 1)))
def test_a_response_does_not_depend_on_how_often_it_is_cut(cuts: set[int]) -> None:
    edges = [0, *sorted(cuts), len(HELLO)]

    came = asyncio.run(read(*(HELLO[a:b] for a, b in pairwise(edges))))

    assert (came.body, came.reusable) == (b"hello world", True)


async def test_a_body_of_unsaid_length_ends_with_the_connection() -> None:
    response = b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\n\r\nhello"

    came = await read(response, b" world", then_closed=True)

    assert (came.body, came.reusable) == (b"hello world", False)


async def test_a_broken_connection_is_not_the_end_of_a_body() -> None:
    line = Line()
    exchange = await line.answers(b"HTTP/1.1 200 OK\r\n\r\nhello")
    await line.closes(ConnectionResetError("SECRET"))

    assert await exchange.read() == b"hello"
    with pytest.raises(ModelUnavailableError, match="ConnectionResetError") as caught:
        await exchange.read()
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("response", [HELLO, RESPONSES["length"][0]], ids=["chunked", "length"])
async def test_a_body_cut_anywhere_is_unavailable(response: bytes) -> None:
    start = response.index(b"\r\n\r\n") + 4
    for cut in range(start, len(response)):
        line = Line()
        exchange = await line.answers(response[:cut])
        await line.closes()

        with pytest.raises(ModelUnavailableError):
            await read_all(exchange)
        assert line.ends == [False]


async def test_a_head_cut_anywhere_is_unavailable() -> None:
    for cut in range(HELLO.index(b"\r\n\r\n") + 4):
        line = Line()
        await asyncio.sleep(0)
        if cut:
            line.exchange.data_received(HELLO[:cut])

        with pytest.raises(ModelUnavailableError):
            await line.closes()
        assert line.exchange.unanswered == (cut == 0)


async def test_headers_are_found_by_lower_case_and_joined() -> None:
    came = await read(
        b"HTTP/1.1 200 OK\r\nX-Many: a\r\nEMPTY:\r\nx-many: b\r\nX-Latin: \xe9\r\n"
        b"Content-Length: 0\r\n\r\n"
    )

    assert came.headers == {"x-many": "a, b", "empty": "", "x-latin": "é", "content-length": "0"}


@pytest.mark.parametrize(
    "response",
    [
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"\x16\x03\x01\x00\x05hello",
        b"HTTP/2.0 200 OK\r\n\r\n"[:5] + b"x",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ],
)
async def test_what_is_not_a_head_breaks_the_protocol(response: bytes) -> None:
    line = Line()

    with pytest.raises(ModelProtocolError) as caught:
        await line.answers(response)
    assert line.transport.aborted
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "rest", [b"x\r\n", b"-1\r\n", b"5\r\nhelloX", b"fffffffffffffffff\r\n", b"5\nhello\n"]
)
async def test_what_is_not_a_chunk_breaks_the_protocol(rest: bytes) -> None:
    line = Line()
    exchange = await line.answers(CHUNKED, b"2\r\nhi\r\n" + rest)

    with pytest.raises(ModelProtocolError):
        await read_all(exchange)
    assert line.transport.aborted


@pytest.mark.parametrize("extra", [HELLO, b"H", b"garbage", b"0\r\n\r\n"])
@pytest.mark.parametrize("in_one_read", [True, False])
async def test_what_follows_a_response_is_no_part_of_it(extra: bytes, in_one_read: bool) -> None:
    came = await (read(HELLO + extra) if in_one_read else read(HELLO, extra))

    assert (came.body, came.reusable) == (b"hello world", False)


@pytest.mark.parametrize(
    ("before", "endless"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nX: ", b"x" * 1000, id="header"),
        pytest.param(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 100, id="headers"),
        pytest.param(b"HTTP/1.1 200 ", b"x" * 1000, id="reason"),
        pytest.param(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 20, id="informational"),
        pytest.param(b"", b"\r\n" * 500, id="line-ends"),
    ],
)
async def test_a_head_that_never_ends_is_given_up(before: bytes, endless: bytes) -> None:
    line = Line()
    sent = [before, *([endless] * (FRAMING_LIMIT // len(endless) + 1))]

    with pytest.raises(ModelProtocolError):
        await line.answers(*sent)
    assert line.transport.aborted


@pytest.mark.parametrize(
    ("before", "endless"),
    [
        pytest.param(b"2;", b"x" * 1000, id="chunk-extension"),
        pytest.param(b"0\r\n", b"X: y\r\n" * 100, id="trailers"),
        pytest.param(b"0\r\nX: ", b"y" * 1000, id="trailer"),
    ],
)
async def test_http_around_nothing_is_given_up(before: bytes, endless: bytes) -> None:
    line = Line()
    exchange = await line.answers(CHUNKED)
    reading = asyncio.ensure_future(exchange.read())
    await asyncio.sleep(0)
    exchange.data_received(before)
    for _ in range(FRAMING_LIMIT // len(endless) + 1):
        exchange.data_received(endless)

    with pytest.raises(ModelProtocolError):
        await reading


async def test_a_head_of_the_usual_size_is_taken() -> None:
    field = b"X-Long: " + b"x" * (FRAMING_LIMIT - 1000) + b"\r\n"

    came = await read(b"HTTP/1.1 200 OK\r\n", field, b"Content-Length: 2\r\n\r\nhi")

    assert came.body == b"hi"


async def test_what_came_between_two_reads_comes_as_one() -> None:
    exchange = await Line().answers(CHUNKED, b"1\r\na\r\n", b"1\r\nb\r\n1\r\nc\r\n")

    assert await exchange.read() == b"abc"


async def test_a_reader_that_stalls_makes_the_provider_wait() -> None:
    line = Line()
    exchange = await line.answers(CHUNKED)
    chunk = b"400\r\n" + b"x" * 1024 + b"\r\n"
    sent = 0
    while line.transport.reading:
        exchange.data_received(chunk)
        sent += 1024

    assert UNREAD_LIMIT - 4096 < sent <= UNREAD_LIMIT + 1024
    assert len(await exchange.read()) == sent
    assert line.transport.reading


async def test_a_reader_that_waits_is_not_kept_waiting() -> None:
    line = Line()
    exchange = await line.answers(CHUNKED)
    exchange.data_received(b"2;" + b"x" * (UNREAD_LIMIT + 1))
    assert not line.transport.reading

    reading = asyncio.ensure_future(exchange.read())
    await asyncio.sleep(0)
    assert line.transport.reading
    exchange.data_received(b"\r\nhi\r\n")
    assert await reading == b"hi"


async def test_a_cancelled_read_loses_nothing() -> None:
    line = Line()
    exchange = await line.answers(CHUNKED)
    reading = asyncio.ensure_future(exchange.read())
    await asyncio.sleep(0)
    reading.cancel()
    exchange.data_received(b"2\r\nhi\r\n")
    with pytest.raises(asyncio.CancelledError):
        await reading

    assert await exchange.read() == b"hi"


async def test_a_cancelled_request_closes_the_connection() -> None:
    line = Line()
    sending = asyncio.ensure_future(line.answers())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    sending.cancel()

    with pytest.raises(asyncio.CancelledError):
        await sending
    assert line.transport.aborted


@pytest.mark.parametrize(
    ("received", "reusable"),
    [(HELLO, True), (HELLO[:-1], False), (CHUNKED, False)],
    ids=["whole", "lacks-a-byte", "head"],
)
async def test_closing_leaves_the_connection_of_a_whole_response(
    received: bytes, reusable: bool
) -> None:
    line = Line()
    exchange = await line.answers(received)

    await exchange.aclose()
    await exchange.aclose()

    assert line.ends == ([True] if reusable else [])
    assert line.transport.aborted is not reusable
    assert await exchange.read() == b""


async def test_a_paused_connection_is_not_left_to_the_next() -> None:
    line = Line()
    size = UNREAD_LIMIT + 1
    exchange = await line.answers(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
    exchange.data_received(b"x" * size)

    await exchange.aclose()

    assert line.ends == []


async def test_the_end_of_the_connection_is_told_once_the_response_is_whole() -> None:
    line = Line()
    exchange = await line.answers(HELLO)
    await line.closes()
    await exchange.aclose()

    assert line.ends == [False]
    assert not exchange.unanswered


async def test_a_failure_is_told_again_and_again() -> None:
    line = Line()
    exchange = await line.answers(CHUNKED)
    await line.closes()

    for _ in range(2):
        with pytest.raises(ModelError):
            await exchange.read()

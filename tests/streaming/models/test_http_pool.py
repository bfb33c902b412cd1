"""Connections over loopback sockets, plain and under TLS, on both event loops."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from streaming.models import http_pool
from streaming.models.errors import ModelError, ModelProtocolError, ModelUnavailableError
from streaming.models.http_exchange import UNREAD_LIMIT, Exchange
from streaming.models.http_head import Origin
from streaming.models.http_pool import ConnectionPool, tls_context
from tests.engines.certificate import Certificate
from tests.streaming.models.byte_server import ByteServer, Peer, Script, byte_server

REQUEST = b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
PIECE, END = b"2\r\nho\r\n", b"0\r\n\r\n"
ANSWER = CHUNKED + PIECE + END

pytestmark = pytest.mark.timeout(30)

Serve = Callable[[Script], AbstractAsyncContextManager[tuple[ByteServer, ConnectionPool]]]


@pytest.fixture(params=["tcp", "tls"])
def is_tls(request: pytest.FixtureRequest) -> bool:
    return request.param == "tls"


@pytest.fixture
def serve(is_tls: bool, certificate: Certificate) -> Serve:
    """Run a script for every connection, and a pool of connections to it."""

    @asynccontextmanager
    async def run(script: Script) -> AsyncIterator[tuple[ByteServer, ConnectionPool]]:
        async with byte_server(script, tls=certificate.server() if is_tls else None) as server:
            pool = ConnectionPool(server.origin, tls=trusting(certificate) if is_tls else None)
            try:
                yield server, pool
            finally:
                await pool.aclose()

    return run


def trusting(certificate: Certificate) -> ssl.SSLContext:
    context = tls_context()
    context.load_verify_locations(certificate.file)
    return context


async def whole(exchange: Exchange) -> bytes:
    """Read a response to its end and close it."""
    body = b""
    try:
        while data := await exchange.read():
            body += data
    finally:
        await exchange.aclose()
    return body


async def answer(peer: Peer) -> None:
    """Answer every request."""
    while True:
        await peer.request()
        await peer.send(ANSWER)


def then(*pieces: bytes, wait: bool = True) -> Script:
    """Answer one request with these bytes; then wait for the client to leave, or leave first."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(*pieces)
        if wait:
            await peer.left()

    return script


def in_turn(*scripts: Script) -> Script:
    """Give each connection a script of its own; the last serves all that follow."""

    async def script(peer: Peer) -> None:
        await scripts[min(peer.number, len(scripts) - 1)](peer)

    return script


def watched(script: Script) -> tuple[Script, list[asyncio.Event]]:
    """Return the script and, for each connection, an event that is set when it is through."""
    ended: list[asyncio.Event] = []

    async def watching(peer: Peer) -> None:
        ended.append(asyncio.Event())
        try:
            await script(peer)
        finally:
            ended[peer.number].set()

    return watching, ended


# Reuse


async def test_a_connection_serves_one_request_after_the_other(serve: Serve) -> None:
    async with serve(answer) as (server, pool):
        bodies = [await whole(await pool.exchange(REQUEST)) for _ in range(3)]

    assert bodies == [b"ho"] * 3
    assert server.requests == [(0, REQUEST)] * 3


async def test_requests_at_a_time_have_connections_of_their_own(serve: Serve) -> None:
    async with serve(answer) as (server, pool):
        exchanges = await asyncio.gather(*(pool.exchange(REQUEST) for _ in range(5)))
        bodies = await asyncio.gather(*map(whole, exchanges))

    assert bodies == [b"ho"] * 5
    assert sorted(number for number, _ in server.requests) == [0, 1, 2, 3, 4]


async def test_the_connection_used_last_is_used_first(serve: Serve) -> None:
    async with serve(answer) as (server, pool):
        first = await pool.exchange(REQUEST)
        second = await pool.exchange(REQUEST)
        await whole(second)
        await whole(first)
        await whole(await pool.exchange(REQUEST))

    assert [number for number, _ in server.requests] == [0, 1, 0]


async def test_an_unused_connection_is_closed_after_a_while(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_pool, "IDLE_SECONDS", 0.05)
    script, ended = watched(answer)
    async with serve(script) as (server, pool):
        await whole(await pool.exchange(REQUEST))
        await ended[0].wait()
        await whole(await pool.exchange(REQUEST))

    assert [number for number, _ in server.requests] == [0, 1]


async def test_a_connection_in_use_is_not_closed_for_its_age(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_pool, "IDLE_SECONDS", 0.05)
    late = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(ANSWER)
        await peer.request()
        await late.wait()
        await peer.send(ANSWER)

    async with serve(script) as (server, pool):
        await whole(await pool.exchange(REQUEST))
        asyncio.get_running_loop().call_later(0.15, late.set)
        body = await whole(await pool.exchange(REQUEST))

    assert body == b"ho"
    assert len(server.peers) == 1


async def test_a_connection_that_the_server_closed_is_not_used_again(serve: Serve) -> None:
    async def close_after_one(peer: Peer) -> None:
        await peer.request()
        await peer.send(ANSWER)
        if peer.writer.can_write_eof():
            peer.writer.write_eof()
        else:
            peer.writer.close()
        await peer.left()  # the client saw it and closed its side

    script, ended = watched(in_turn(close_after_one, answer))
    async with serve(script) as (server, pool):
        await whole(await pool.exchange(REQUEST))
        await ended[0].wait()
        body = await whole(await pool.exchange(REQUEST))

    assert body == b"ho"
    assert server.requests == [(0, REQUEST), (1, REQUEST)]


async def test_what_comes_unasked_costs_the_connection(serve: Serve) -> None:
    unasked = asyncio.Event()

    async def talkative(peer: Peer) -> None:
        await peer.request()
        await peer.send(ANSWER)
        await unasked.wait()
        await peer.send(ANSWER)
        await peer.left()

    script, ended = watched(in_turn(talkative, answer))
    async with serve(script) as (server, pool):
        await whole(await pool.exchange(REQUEST))
        unasked.set()
        await ended[0].wait()
        await whole(await pool.exchange(REQUEST))

    assert [number for number, _ in server.requests] == [0, 1]


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nho",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nho",
        ANSWER + ANSWER,
    ],
    ids=["close", "http-1.0", "two-answers"],
)
async def test_a_connection_that_may_not_be_kept_is_closed(serve: Serve, response: bytes) -> None:
    script, ended = watched(then(response))
    async with serve(script) as (_, pool):
        body = await whole(await pool.exchange(REQUEST))
        await ended[0].wait()

    assert body == b"ho"


async def test_an_answer_before_the_question_was_read_is_the_answer(serve: Serve) -> None:
    async def impatient(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nho")
        await peer.left()

    size = 32 * 1024 * 1024  # more than the buffers of two sockets
    script, ended = watched(impatient)
    async with serve(script) as (_, pool):
        head = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % size
        exchange = await pool.exchange(head + bytes(size))
        assert (exchange.status, await whole(exchange)) == (413, b"ho")
        await pool.aclose()
        await ended[0].wait()


# A connection that ends while a request is on its way


def closing_on_the_second(*pieces: bytes) -> Script:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(ANSWER)
        await peer.request()
        await peer.send(*pieces)

    return script


async def test_a_kept_connection_that_ends_without_a_byte_is_replaced(serve: Serve) -> None:
    async with serve(in_turn(closing_on_the_second(), answer)) as (server, pool):
        await whole(await pool.exchange(REQUEST))
        body = await whole(await pool.exchange(REQUEST))

    assert body == b"ho"
    assert [number for number, _ in server.requests] == [0, 0, 1]


async def test_a_kept_connection_that_is_reset_is_replaced(serve: Serve) -> None:
    async def reset(peer: Peer) -> None:
        await peer.request()
        await peer.send(ANSWER)
        await peer.request()
        peer.reset()

    async with serve(in_turn(reset, answer)) as (server, pool):
        await whole(await pool.exchange(REQUEST))
        body = await whole(await pool.exchange(REQUEST))

    assert body == b"ho"
    assert [number for number, _ in server.requests] == [0, 0, 1]


@pytest.mark.parametrize("began", [b"H", CHUNKED[:20], b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_a_response_that_began_is_not_asked_for_again(serve: Serve, began: bytes) -> None:
    async with serve(in_turn(closing_on_the_second(began), answer)) as (server, pool):
        await whole(await pool.exchange(REQUEST))
        with pytest.raises(ModelUnavailableError) as caught:
            await pool.exchange(REQUEST)

    assert caught.value.__context__ is None
    assert len(server.peers) == 1


async def test_nonsense_is_not_asked_for_again(serve: Serve) -> None:
    async with serve(in_turn(closing_on_the_second(b"nonsense"), answer)) as (server, pool):
        await whole(await pool.exchange(REQUEST))
        with pytest.raises(ModelProtocolError):
            await pool.exchange(REQUEST)

    assert len(server.peers) == 1


async def test_a_request_is_sent_on_one_new_connection_only(serve: Serve) -> None:
    async with serve(in_turn(closing_on_the_second(), then(wait=False))) as (server, pool):
        await whole(await pool.exchange(REQUEST))
        with pytest.raises(ModelUnavailableError) as caught:
            await pool.exchange(REQUEST)

    assert caught.value.__context__ is None
    assert [number for number, _ in server.requests] == [0, 0, 1]


async def test_a_new_connection_that_ends_without_a_byte_is_a_failure(serve: Serve) -> None:
    async with serve(then(wait=False)) as (server, pool):
        with pytest.raises(ModelUnavailableError):
            await pool.exchange(REQUEST)

    assert len(server.peers) == 1


# Bodies


async def test_the_end_of_the_connection_may_be_that_of_the_body(serve: Serve) -> None:
    script = then(b"HTTP/1.1 200 OK\r\n\r\n", b"ho", b"ho", wait=False)
    async with serve(script) as (_, pool):
        assert await whole(await pool.exchange(REQUEST)) == b"hoho"


async def test_a_body_that_is_cut_is_unavailable(serve: Serve) -> None:
    async with serve(then(CHUNKED, PIECE, wait=False)) as (_, pool):
        with pytest.raises(ModelUnavailableError):
            await whole(await pool.exchange(REQUEST))


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_reader_that_stalls_makes_the_server_wait_and_loses_nothing(
    serve: Serve, chunked: bool
) -> None:
    size, count = 65_536, 512
    sent = 0
    piece = b"%x\r\n%b\r\n" % (size, bytes(size)) if chunked else bytes(size)
    blocked = asyncio.Event()

    async def generous(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        await peer.send(CHUNKED if chunked else b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(count):
            waiting = asyncio.get_running_loop().call_later(0.3, blocked.set)
            await peer.send(piece)
            waiting.cancel()
            sent += 1
        await peer.send(END if chunked else b"")

    async with serve(generous) as (_, pool):
        exchange = await pool.exchange(REQUEST)
        await blocked.wait()
        held = sum(map(len, exchange._pieces))
        body = await whole(exchange)

    assert sent == count
    assert held <= 3 * UNREAD_LIMIT  # the limit, a read beyond it, and what TLS had unpacked
    assert len(body) == size * count


# Cancelling and closing


async def test_cancelling_in_the_handshake_closes_the_connection(certificate: Certificate) -> None:
    arrived = asyncio.Event()

    async def silent(peer: Peer) -> None:
        arrived.set()
        await peer.left()

    script, ended = watched(silent)
    async with byte_server(script) as server:
        origin = Origin(host="127.0.0.1", port=server.origin.port, tls=True)
        pool = ConnectionPool(origin, tls=trusting(certificate))
        asking = asyncio.create_task(pool.exchange(REQUEST))
        await arrived.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await ended[0].wait()
        await pool.aclose()


@pytest.mark.parametrize("sent", [b"", CHUNKED[:20]], ids=["nothing", "half-a-head"])
async def test_cancelling_before_the_head_closes_the_connection(serve: Serve, sent: bytes) -> None:
    asked = asyncio.Event()

    async def slow(peer: Peer) -> None:
        await peer.request()
        await peer.send(sent)
        asked.set()
        await peer.left()

    script, ended = watched(slow)
    async with serve(script) as (server, pool):
        asking = asyncio.create_task(pool.exchange(REQUEST))
        await asked.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await ended[0].wait()

    assert len(server.peers) == 1


async def test_closing_in_the_body_closes_the_connection(serve: Serve) -> None:
    script, ended = watched(then(CHUNKED, PIECE))
    async with serve(script) as (_, pool):
        exchange = await pool.exchange(REQUEST)
        reading = asyncio.create_task(whole(exchange))
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await ended[0].wait()


async def test_closing_the_pool_ends_everything(serve: Serve) -> None:
    script, ended = watched(in_turn(then(CHUNKED, PIECE), answer))
    async with serve(script) as (_, pool):
        streaming = await pool.exchange(REQUEST)
        await whole(await pool.exchange(REQUEST))
        await pool.aclose()
        await pool.aclose()

        for one in ended:
            await one.wait()
        with pytest.raises(ModelUnavailableError):
            await whole(streaming)
        with pytest.raises(ModelUnavailableError) as caught:
            await pool.exchange(REQUEST)
        assert not caught.value.retryable


async def test_closing_waits_for_connections_also_after_there_were_none(serve: Serve) -> None:
    async with serve(in_turn(closing_on_the_second(), answer)) as (_, pool):
        await whole(await pool.exchange(REQUEST))
        await whole(await pool.exchange(REQUEST))  # the first connection has ended meanwhile
        assert len(pool._open) == 1
        await pool.aclose()
        assert not pool._open


async def test_a_connection_made_after_the_pool_was_closed_is_not_used(
    certificate: Certificate,
) -> None:
    async with byte_server(answer, tls=certificate.server()) as server:
        pool = ConnectionPool(server.origin, tls=trusting(certificate))
        asking = asyncio.create_task(pool.exchange(REQUEST))
        await asyncio.sleep(0)
        await pool.aclose()
        with pytest.raises(ModelUnavailableError):
            await asking

    assert server.requests == []


# Connecting


async def test_a_request_that_is_cancelled_as_its_connection_opens_leaves_none_open(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uvloop does not tell a protocol that its connection has ended if nobody was given it yet."""
    async with serve(answer) as (_, pool):
        take_in = pool.opened

        def take_in_and_cancel(connection: http_pool._Connection) -> None:
            take_in(connection)
            asking.cancel()

        monkeypatch.setattr(pool, "opened", take_in_and_cancel)
        asking = asyncio.create_task(pool.exchange(REQUEST))
        with pytest.raises(asyncio.CancelledError):
            await asking
        async with asyncio.timeout(5):
            await pool.aclose()


async def test_the_server_is_told_its_name_and_the_protocol(certificate: Certificate) -> None:
    names: list[str | None] = []
    protocols: list[str | None] = []

    async def noting(peer: Peer) -> None:
        protocols.append(peer.writer.get_extra_info("ssl_object").selected_alpn_protocol())
        await answer(peer)

    tls = certificate.server()
    tls.sni_callback = lambda _socket, name, _context: names.append(name)
    async with byte_server(noting, tls=tls) as server:
        origin = Origin(host="localhost", port=server.origin.port, tls=True)
        pool = ConnectionPool(origin, tls=trusting(certificate))
        await whole(await pool.exchange(REQUEST))
        await pool.aclose()

    assert (names, protocols) == (["localhost"], ["http/1.1"])


async def test_a_stranger_is_told_nothing(certificate: Certificate) -> None:
    async with byte_server(answer, tls=certificate.server()) as server:
        pool = ConnectionPool(server.origin)
        with pytest.raises(ModelUnavailableError, match="SSLCertVerificationError") as caught:
            await pool.exchange(REQUEST)
        await pool.aclose()

    assert caught.value.__context__ is None
    assert server.requests == []


async def test_a_certificate_of_another_is_refused(certificate: Certificate) -> None:
    async with byte_server(answer, tls=certificate.server()) as server:
        elsewhere = Origin(host="127.0.0.2", port=server.origin.port, tls=True)
        pool = ConnectionPool(elsewhere, tls=trusting(certificate))
        with pytest.raises(ModelUnavailableError):
            await pool.exchange(REQUEST)
        await pool.aclose()

    assert server.requests == []


async def test_nobody_there_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    pool = ConnectionPool(Origin(host="127.0.0.1", port=port, tls=False))

    with pytest.raises(ModelUnavailableError) as caught:
        await pool.exchange(REQUEST)
    await pool.aclose()

    assert isinstance(caught.value, ModelError)
    assert caught.value.__context__ is None
    assert "127.0.0.1" not in str(caught.value)


Addresses = list[tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[str, int]]]


def resolving_to(*ports: int) -> Callable[..., Addresses]:
    def getaddrinfo(*_: object, **__: object) -> Addresses:
        return [
            (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", port))
            for port in ports
        ]

    return getaddrinfo


# uvloop resolves names without the `socket` module.
@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_a_name_that_is_not_known_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> Addresses:
        raise socket.gaierror(socket.EAI_NONAME, "SECRET")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    pool = ConnectionPool(Origin(host="a.test", port=80, tls=False))

    with pytest.raises(ModelUnavailableError, match="gaierror"):
        await pool.exchange(REQUEST)
    await pool.aclose()


@pytest.mark.asyncio(loop_factories=["asyncio"])
@pytest.mark.parametrize("first", ["refuses", "is-silent"])
async def test_another_address_of_the_host_is_tried(
    monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    bad = socket.socket()
    bad.bind(("127.0.0.1", 0))
    waiting = []
    if first == "is-silent":
        # A queue that is full: the kernel drops what else would connect.
        bad.listen(0)
        for _ in range(2):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(bad.getsockname())
            waiting.append(filler)
    try:
        async with byte_server(answer) as server:
            monkeypatch.setattr(
                socket, "getaddrinfo", resolving_to(bad.getsockname()[1], server.origin.port)
            )
            pool = ConnectionPool(Origin(host="a.test", port=80, tls=False))
            async with asyncio.timeout(5):
                assert await whole(await pool.exchange(REQUEST)) == b"ho"
            await pool.aclose()
    finally:
        for one in (bad, *waiting):
            one.close()

"""The one port: HTTP and HTTPS, kept connections, bodies of all kinds, and what is no HTTP."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from websockets.asyncio.client import connect

from gateway.emulator.http import BODY_BYTES, HttpConnection, Request, Response
from gateway.emulator.listener import Listener
from tests.gateway.emulator.conftest import WAIT_S


class Asked:
    """A server that answers with the body, in capitals, and keeps what it was asked."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.port = 0

    async def answer(self, request: Request) -> Response:
        self.requests.append(request)
        if request.path == "/broken":
            raise RuntimeError("a mistake of ours")
        await asyncio.sleep(0.02 if request.path == "/slow" else 0)
        return Response(status=200, body=request.body.upper())

    async def say(self, *pieces: bytes) -> bytes:
        """Send pieces on one connection, and return what came until its end."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        said = await asyncio.wait_for(reader.read(), WAIT_S)
        writer.close()
        return said


@pytest.fixture
async def asked() -> AsyncIterator[Asked]:
    server = Asked()
    listener = Listener(
        lambda: HttpConnection(server.answer, asyncio.Protocol, set()),
        tls=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
        port=0,
    )
    server.port = listener.port
    listener.start()
    yield server
    await listener.aclose()


def post(path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


CLOSE = "Connection: close"


async def test_requests_on_one_connection_are_answered_in_order(asked: Asked) -> None:
    said = await asked.say(post("/slow", b"first") + post("/", b"second", CLOSE))
    assert said.index(b"FIRST") < said.index(b"SECOND")
    assert said.count(b"HTTP/1.1 200 OK") == 2


async def test_a_request_may_come_in_pieces(asked: Asked) -> None:
    whole = post("/%40connections/a%3D?x=1", b"body", "X-Name: 1", "x-name: 2", CLOSE)
    said = await asked.say(*(whole[n : n + 1] for n in range(len(whole))))
    assert said.endswith(b"\r\n\r\nBODY")
    (request,) = asked.requests
    assert (request.method, request.path) == ("POST", "/@connections/a=")
    assert request.headers["x-name"] == "2"


async def test_a_chunked_body_is_put_together(asked: Asked) -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    assert (await asked.say(head, b"3\r\nabc\r\n", b"2\r\nde\r\n0\r\n\r\n")).endswith(b"ABCDE")


async def test_a_body_that_waits_to_be_asked_for_is(asked: Asked) -> None:
    said = await asked.say(post("/", b"x", "Expect: 100-continue", CLOSE))
    assert said.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")


async def test_too_large_a_body_is_refused(asked: Asked) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", asked.port)
    writer.write(post("/", b"x" * (BODY_BYTES + 1)))
    assert (await reader.readline()).split()[1] == b"413"
    writer.transport.abort()
    assert asked.requests == []


async def test_a_mistake_of_ours_is_answered_and_logged(
    asked: Asked, caplog: pytest.LogCaptureFixture
) -> None:
    said = await asked.say(post("/broken", b"") + post("/", b"x", CLOSE))
    assert said.startswith(b"HTTP/1.1 500 ")
    assert said.endswith(b"X")
    assert "a mistake of ours" in caplog.text


async def test_what_is_no_http_is_a_bad_request(asked: Asked) -> None:
    assert (await asked.say(b"hello\r\n\r\n")).startswith(b"HTTP/1.1 400 Bad Request")


@pytest.mark.parametrize("first", [b"", b"\x16garbage"], ids=["nothing", "no handshake"])
async def test_a_connection_that_says_nothing_useful_harms_nobody(
    asked: Asked, first: bytes
) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", asked.port)
    writer.write(first)
    writer.close()
    assert (await asked.say(post("/", b"x", CLOSE))).endswith(b"X")


async def test_a_client_connects_over_tls(emulating: Callable[..., Any]) -> None:
    emulated = await emulating()
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    async with connect(emulated.url.replace("ws:", "wss:"), ssl=trusting) as ws:
        await ws.send("x")
        assert "Forbidden" in str(await asyncio.wait_for(ws.recv(), WAIT_S))


async def test_a_port_that_is_taken_is_an_error(emulating: Callable[..., Any]) -> None:
    emulated = await emulating()
    with pytest.raises(OSError, match="in use"):
        await emulating(port=emulated.port)

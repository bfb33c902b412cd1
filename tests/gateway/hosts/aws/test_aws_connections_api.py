"""The HTTP under the posts: what an answer may look like, connections kept and dropped, TLS, imports."""

import asyncio
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from gateway.hosts.aws import connections_api
from gateway.hosts.aws.connections_api import Answer, ConnectionsApi
from tests.engines.certificate import issue
from tests.engines.connections_api import CREDENTIALS, REGION

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class RawServer:
    """Says the next of its answers to each request, whatever it is."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.requests: list[bytes] = []
        self.connections = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while self.answers:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
                self.requests.append(head + await reader.readexactly(length))
                answer = self.answers.pop(0)
                writer.write(answer)
                if not answer.startswith(b"HTTP/1.1"):
                    break
        except (OSError, EOFError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def asking(
    server: RawServer, *, tls: ssl.SSLContext | None = None, path: str = "/dev"
) -> AsyncIterator[ConnectionsApi]:
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    scheme, host = ("https", "localhost") if tls else ("http", "127.0.0.1")
    url = f"{scheme}://{host}:{server.port}{path}"
    api = ConnectionsApi(url=url, region=REGION, credentials=CREDENTIALS)
    try:
        yield api
    finally:
        await api.aclose()
        listening.close()
        server.answers.clear()


async def test_a_request_on_the_wire() -> None:
    server = RawServer(OK)
    async with asking(server, path="/a%20b/") as api:
        await api.post("L0SM9cOFvHcCIhw=", b"frame")
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /a%20b/@connections/L0SM9cOFvHcCIhw%3D HTTP/1.1"
    assert f"Host: 127.0.0.1:{server.port}" in lines
    assert "Content-Length: 5" in lines
    assert body == b"frame"


@pytest.mark.parametrize(
    ("answer", "expected", "kept"),
    [
        (OK, Answer(status=200), True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", Answer(status=204), True),
        (b"HTTP/1.1 200\r\ncontent-length: 2\r\n\r\n{}", Answer(status=200), True),
        (
            b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n"
            b"x-amzn-ErrorType: GoneException:http://internal/\r\n\r\n",
            Answer(status=410, code="GoneException"),
            True,
        ),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, Answer(status=200), True),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
            Answer(status=200),
            False,
        ),
        (
            b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n",
            Answer(status=200),
            False,
        ),
        (
            b"HTTP/1.1 502 Bad\r\nContent-Length: 99999\r\n\r\n<html>",
            Answer(status=502),
            False,
        ),
        (b"not HTTP\r\n\r\n", Answer(status=0, code="ValueError"), False),
        (b"HTTP/1.1 much\r\n\r\n", Answer(status=0, code="ValueError"), False),
        (b"", Answer(status=0, code="IncompleteReadError"), False),
        (b"HTTP/1.1 " + b"x" * 99_999, Answer(status=0, code="LimitOverrunError"), False),
    ],
    ids=[
        "empty",
        "no content",
        "body",
        "error",
        "informational",
        "chunked",
        "close",
        "large body",
        "not HTTP",
        "no status",
        "nothing",
        "endless head",
    ],
)
async def test_what_an_answer_says_and_whether_its_connection_is_kept(
    answer: bytes, expected: Answer, kept: bool
) -> None:
    server = RawServer(answer, OK)
    async with asking(server) as api:
        assert await api.post("c1", b"x") == expected
        assert (await api.post("c1", b"x")).status == 200
        assert server.connections == (1 if kept else 2)


async def test_posts_at_a_time_have_connections_of_their_own_that_are_used_again() -> None:
    server = RawServer(*[OK] * 9)
    async with asking(server) as api:
        for _ in range(3):
            answers = await asyncio.gather(*(api.post(f"c{n}", b"x") for n in range(3)))
            assert [each.status for each in answers] == [200, 200, 200]
        assert server.connections == 3


async def test_a_fresh_connection_on_request() -> None:
    server = RawServer(OK, OK)
    async with asking(server) as api:
        await api.post("c1", b"x")
        await api.post("c1", b"x", fresh=True)
        assert server.connections == 2


async def test_a_connection_that_was_idle_for_long_is_not_used_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections_api, "IDLE_S", 0.0)
    server = RawServer(OK, OK)
    async with asking(server) as api:
        await api.post("c1", b"x")
        await api.post("c1", b"x")
        assert server.connections == 2


FAREWELL = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class FarewellServer(RawServer):
    """Answers one request of each connection; to the first it says more, with the answer or when asked to."""

    def __init__(self, *, beside: bool, ends: bool) -> None:
        super().__init__()
        self.answer = OK + FAREWELL if beside else OK
        self.farewell = b"" if beside else FAREWELL
        self.ends = ends
        self.idle = asyncio.Event()
        self.serving: list[asyncio.Task[None] | None] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.serving.append(asyncio.current_task())
        with suppress(OSError, EOFError):
            await reader.readuntil(b"\r\n\r\nx")
            writer.write(self.answer)
            await self.idle.wait()
            writer.write(self.farewell)
            if self.ends:
                writer.write_eof()
            self.answer, self.farewell = OK, b""
            await reader.read()
        writer.close()


@pytest.mark.parametrize("ends", [True, False], ids=["and ends", "and stays"])
@pytest.mark.parametrize("beside", [True, False], ids=["with the answer", "while idle"])
async def test_what_a_connection_says_unasked_is_no_answer(beside: bool, ends: bool) -> None:
    server = FarewellServer(beside=beside, ends=ends)
    async with asking(server) as api, asyncio.timeout(10):
        assert await api.post("c1", b"x") == Answer(status=200)
        server.idle.set()
        (kept,) = api._idle
        while kept._counting.received < len(OK + FAREWELL):
            await asyncio.sleep(0)
        assert await api.post("c1", b"x") == Answer(status=200)
        assert server.connections == 2
        await api.aclose()
        await asyncio.gather(*filter(None, server.serving))


async def test_nobody_listens() -> None:
    server = RawServer()
    async with asking(server) as api:
        pass
    assert await api.post("c1", b"x") == Answer(status=0, code="ConnectionRefusedError")


async def test_silence_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections_api, "ATTEMPT_S", 0.1)
    server = RawServer(b"HTTP/1.1 200 OK\r\n", OK)
    async with asking(server) as api:
        assert await api.post("c1", b"x") == Answer(status=0, code="TimeoutError")


async def test_https_with_a_trusted_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = issue(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(made.file))
    monkeypatch.setattr(connections_api, "shared_tls", ssl.create_default_context)
    server = RawServer(OK, OK)
    async with asking(server, tls=made.server()) as api:
        assert (await api.post("c1", b"x")).status == 200
        assert (await api.post("c1", b"x")).status == 200
        assert server.connections == 1


async def test_https_with_a_certificate_that_nobody_trusts(tmp_path: Path) -> None:
    server = RawServer(OK)
    async with asking(server, tls=issue(tmp_path).server()) as api:
        answer = await api.post("c1", b"x")
    assert answer == Answer(status=0, code="SSLCertVerificationError")
    assert server.requests == []


def test_a_post_loads_no_sdk_and_no_http_library() -> None:
    """They would take longer than all else that the first post of a process waits for."""
    code = f"""
import asyncio, sys
from gateway.hosts.aws.connections_api import ConnectionsApi
from storage.sigv4 import Credentials

async def post():
    credentials = Credentials(access_key_id="a", secret_access_key="b")
    api = ConnectionsApi(url="http://127.0.0.1:9", region="{REGION}", credentials=credentials)
    await api.post("c1", b"x")
    await api.aclose()

asyncio.run(post())
print(*{{"aiohttp", "botocore", "aiobotocore", "httpx", "httptools"}} & sys.modules.keys())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == ""

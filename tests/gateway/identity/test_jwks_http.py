"""The key document over real HTTP on loopback."""

import asyncio
import gzip
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.identity.errors import JwksFetchError, KeysUnavailableError
from gateway.identity.jwks import JwksCache, JwksPolicy
from gateway.identity.jwks_http import fetch_jwks
from gateway.identity.keys import MAX_DOCUMENT_BYTES
from tests.engines.certificate import issue
from tests.gateway.identity.forge import document, jwk

GOOD = document(jwk("k1"))


def plain(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "Connection: close"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunked(body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    pieces = [body[at : at + 4096] for at in range(0, len(body), 4096)]
    return head + b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"


class Server:
    """Answers each path with prepared bytes; a path without any is never answered."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {}
        self.heads: list[str] = []
        self.port = 0
        self.endless = False
        self.left = asyncio.Event()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            while self.endless:
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 4096)
                await writer.drain()
            answer = self.answers.get(head.split(" ")[1])
            if answer is None:
                await reader.read()  # until the client gives up
                self.left.set()
            else:
                writer.write(answer)
                await writer.drain()
        except ConnectionError:
            self.left.set()
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    served = Server()
    listening = await asyncio.start_server(served.serve, "127.0.0.1", 0)
    served.port = listening.sockets[0].getsockname()[1]
    async with listening:
        yield served
        listening.close()


@pytest.mark.parametrize("answer", [plain(GOOD), chunked(GOOD)], ids=["length", "chunked"])
async def test_a_document_is_fetched(server: Server, answer: bytes) -> None:
    server.answers["/jwks"] = answer
    assert await fetch_jwks(server.url("/jwks")) == GOOD
    assert "cookie" not in server.heads[0].lower()


async def test_an_answer_without_end_is_an_error(server: Server) -> None:
    server.endless = True
    async with asyncio.timeout(10):
        with pytest.raises(JwksFetchError, match="too large"):
            await fetch_jwks(server.url("/jwks"))


async def test_a_url_with_a_user_is_not_asked(server: Server) -> None:
    server.answers["/jwks"] = plain(GOOD)
    with pytest.raises(JwksFetchError):
        await fetch_jwks(server.url("/jwks").replace("//", "//user@"))
    assert server.heads == []


async def test_the_largest_allowed_document_is_fetched(server: Server) -> None:
    body = b" " * MAX_DOCUMENT_BYTES
    server.answers["/jwks"] = plain(body)
    assert await fetch_jwks(server.url("/jwks")) == body


@pytest.mark.parametrize(
    "status", ["301 Moved", "302 Found", "303 See", "307 Temporary", "308 Permanent"]
)
async def test_a_redirect_is_not_followed(server: Server, status: str) -> None:
    server.answers["/jwks"] = plain(b"", status, f"Location: {server.url('/elsewhere')}")
    server.answers["/elsewhere"] = plain(GOOD)
    with pytest.raises(JwksFetchError):
        await fetch_jwks(server.url("/jwks"))
    assert len(server.heads) == 1


REFUSED = {
    "404": plain(b"no", "404 Not Found"),
    "500 with a good document": plain(GOOD, "500 Oops"),
    "206 with a good document": plain(GOOD, "206 Partial Content"),
    "204": plain(b"", "204 No Content"),
    "a byte too large": plain(b" " * (MAX_DOCUMENT_BYTES + 1)),
    "1 MiB, chunked": chunked(b" " * 2**20),
    "endless without a length": b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 2**18,
    "cut off": plain(GOOD)[:-10],
    "not HTTP": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "nothing": b"",
    "a head without end": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000,
}


@pytest.mark.parametrize("answer", REFUSED.values(), ids=REFUSED.keys())
async def test_any_other_answer_is_an_error(server: Server, answer: bytes) -> None:
    server.answers["/jwks"] = answer
    with pytest.raises(JwksFetchError):
        await fetch_jwks(server.url("/jwks"))


async def test_a_small_answer_cannot_unpack_to_a_large_one(server: Server) -> None:
    packed = gzip.compress(b" " * 2**24)
    server.answers["/jwks"] = plain(packed, "200 OK", "Content-Encoding: gzip")
    assert await fetch_jwks(server.url("/jwks")) == packed
    assert "accept-encoding: identity" in server.heads[0].lower()


async def test_a_closed_port_is_an_error(server: Server) -> None:
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    listening.close()
    await listening.wait_closed()
    with pytest.raises(JwksFetchError):
        await fetch_jwks(f"http://127.0.0.1:{port}/jwks")


@pytest.mark.parametrize(
    "url",
    ["http://", "http://127.0.0.1:99999/", "nonsense", "http://10.0.0.1/", "http://127.0.0.1/a b"],
)
async def test_an_impossible_url_is_an_error(url: str) -> None:
    with pytest.raises(JwksFetchError):
        await fetch_jwks(url)


@pytest.mark.parametrize(
    ("url", "target"), [("", "/"), ("/a%20b/keys?v=1&w#x", "/a%20b/keys?v=1&w"), ("?v=1", "/?v=1")]
)
async def test_what_is_asked_for(server: Server, url: str, target: str) -> None:
    server.answers[target] = plain(GOOD)
    await fetch_jwks(server.url(url))
    (head,) = server.heads
    assert head.splitlines() == [
        f"GET {target} HTTP/1.1",
        f"Host: 127.0.0.1:{server.port}",
        "Accept: application/json",
        "Accept-Encoding: identity",
        "Connection: close",
        "",
    ]


async def test_cancelling_closes_the_connection(server: Server) -> None:
    fetching = asyncio.create_task(fetch_jwks(server.url("/silent")))
    async with asyncio.timeout(5):
        while not server.heads:
            await asyncio.sleep(0)
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching
        await server.left.wait()


# TLS


@dataclass(frozen=True)
class TlsIssuer:
    """A server with a certificate for `localhost`, made by an authority of its own."""

    url: str
    authority: Path


@pytest.fixture
async def tls_issuer(server: Server, tmp_path: Path) -> AsyncIterator[TlsIssuer]:
    certificate = issue(tmp_path, "localhost")
    server.answers["/jwks"] = plain(GOOD)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=certificate.server())
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        yield TlsIssuer(url=f"https://localhost:{port}/jwks", authority=certificate.file)
        listening.close()


async def test_a_document_is_fetched_over_tls(
    tls_issuer: TlsIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tls_issuer.authority))
    assert await fetch_jwks(tls_issuer.url) == GOOD


async def test_a_certificate_that_nobody_vouches_for_is_an_error(tls_issuer: TlsIssuer) -> None:
    with pytest.raises(JwksFetchError, match="SSLCertVerificationError"):
        await fetch_jwks(tls_issuer.url)


async def test_a_certificate_of_another_host_is_an_error(
    tls_issuer: TlsIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tls_issuer.authority))
    with pytest.raises(JwksFetchError, match="SSLCertVerificationError"):
        await fetch_jwks(tls_issuer.url.replace("localhost", "127.0.0.1"))


# With the cache


async def test_the_cache_finds_a_key_over_http(server: Server) -> None:
    server.answers["/jwks"] = plain(GOOD)
    cache = JwksCache(server.url("/jwks"), fetch=fetch_jwks, clock=time.monotonic)
    found = await cache.find("k1")
    assert found is not None
    assert found.kid == "k1"
    await cache.aclose()


async def test_the_cache_gives_up_on_a_server_that_does_not_answer(server: Server) -> None:
    cache = JwksCache(
        server.url("/silent"),
        fetch=fetch_jwks,
        clock=time.monotonic,
        policy=JwksPolicy(timeout_s=0.2),
    )
    async with asyncio.timeout(5):
        with pytest.raises(KeysUnavailableError):
            await cache.find("k1")
    assert len(server.heads) == 1
    await cache.aclose()

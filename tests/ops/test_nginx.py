"""The gateway behind nginx, with the configuration that docs/self-hosting.md gives."""

import base64
import hashlib
import http.client
import re
from collections.abc import Iterator
from contextlib import AsyncExitStack, closing
from pathlib import Path

import orjson
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from gateway.settings import Settings
from tests.ops.chat import answer_to, events_of, hear, hello, say, text_of
from tests.ops.examples import example
from tests.ops.gateway_process import GatewayProcess, running_gateway
from tests.ops.nginx_process import NAME, NginxProcess, exchange, running_nginx

pytestmark = pytest.mark.proxy

PAGE = f"https://{NAME}"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    settings = dict(
        line.split("=", 1)
        for line in example("docs/self-hosting.md", "proxy-settings").splitlines()
    )
    data = tmp_path_factory.mktemp("proxied") / "data"
    with running_gateway(data, MAKOTO_SCRIPTED_PACE="200", **settings) as process:
        yield process


@pytest.fixture(scope="module")
def token(gateway: GatewayProcess) -> str:
    return gateway.token()


@pytest.fixture(scope="module")
def nginx(
    gateway: GatewayProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[NginxProcess]:
    folder = tmp_path_factory.mktemp("nginx")
    with running_nginx(folder, gateway_port=gateway.port) as process:
        yield process


def socket_to(
    nginx: NginxProcess, query: str = "", *, origin: str | None = PAGE, **more: object
) -> connect:
    return connect(
        f"wss://{NAME}:{nginx.tls_port}/v1/ws{query}",
        host="127.0.0.1",
        port=nginx.tls_port,
        ssl=nginx.trust(),
        origin=origin,
        proxy=None,
        **more,
    )


def page_socket(nginx: NginxProcess, token: str, **more: object) -> connect:
    return socket_to(nginx, subprotocols=["makoto.v1", f"bearer.{token}"], **more)


async def test_a_whole_chat_streams_through(nginx: NginxProcess, token: str) -> None:
    async with page_socket(nginx, token) as ws:
        assert ws.subprotocol == "makoto.v1"
        assert (await hello(ws))["user_id"] == "aiko"
        frames = await answer_to(ws, id="first", content="こんにちは 👋")

    assert "デモ用のモデル" in text_of(frames)
    assert len(frames) > 5, "the answer came at once, so something held it back"
    assert events_of(frames)[-1]["saved"] is True


async def test_a_payload_is_fetched_through_the_proxy(nginx: NginxProcess, token: str) -> None:
    async with page_socket(nginx, token) as ws:
        await hello(ws)
        frames = await answer_to(ws, id="large", content="large please")

    (payload,) = (frame for frame in frames if frame["type"] == "payload")
    reply = nginx.request("GET", payload["url"], headers={"Origin": PAGE})
    assert reply.status == 200
    assert reply.headers["Access-Control-Allow-Origin"] == PAGE
    assert hashlib.sha256(reply.body).hexdigest() == payload["sha256"]
    assert orjson.loads(reply.body)["run_id"] == payload["run_id"]


async def test_a_long_message_is_uploaded_through_the_proxy(
    nginx: NginxProcess, token: str
) -> None:
    text = "長い手紙。" * 15_000
    body = text.encode()
    async with page_socket(nginx, token) as ws:
        limits = (await hello(ws))["limits"]
        assert limits["command_bytes"] < len(body) < limits["content_bytes"]
        sha256 = hashlib.sha256(body).hexdigest()
        await say(ws, type="upload", id="place", bytes=len(body), sha256=sha256)
        place = await hear(ws, "upload_ready")
        assert nginx.request(place["method"], place["url"], body=body).status == 204
        frames = await answer_to(ws, id="letter", upload_id=place["upload_id"])

    assert events_of(frames)[-1]["reason"] == "stop"


def test_the_largest_message_fits_through_the_proxy() -> None:
    (size,) = re.findall(r"client_max_body_size (\d+)m;", example("docs/self-hosting.md", "nginx"))
    assert int(size) * 1024 * 1024 > Settings().content_bytes


async def test_a_ticket_opens_a_socket_and_stays_out_of_the_log(
    nginx: NginxProcess, token: str
) -> None:
    sold = nginx.request("POST", "/v1/tickets", headers={"Authorization": f"Bearer {token}"})
    assert sold.status == 200
    ticket = orjson.loads(sold.body)["ticket"]
    async with socket_to(nginx, f"?ticket={ticket}", origin=None) as ws:
        await hello(ws)

    nginx.request("GET", "/healthz")  # nginx logs a request at its end; this one is later
    log = (nginx.folder / "access.log").read_text()
    assert '"GET /v1/ws" 101' in log
    assert ticket not in log
    assert token not in log


async def test_a_password_for_the_proxy_does_not_reach_the_gateway(
    nginx: NginxProcess, token: str
) -> None:
    basic = base64.b64encode(b"visitor:secret").decode()
    headers = {"Authorization": f"Basic {basic}"}
    async with page_socket(nginx, token, additional_headers=headers) as ws:
        await hello(ws)


def test_the_page_may_open_its_socket_at_the_proxied_name(nginx: NginxProcess) -> None:
    policy = nginx.request("GET", "/").headers["Content-Security-Policy"]
    assert f" wss://{NAME}:{nginx.tls_port};" in policy


async def test_another_page_is_refused(nginx: NginxProcess, token: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with page_socket(nginx, token, origin="https://evil.example"):
            pass
    assert refused.value.response.status_code == 403


async def test_sockets_without_identity_are_counted_by_the_address_of_their_client(
    nginx: NginxProcess,
) -> None:
    async def open_from(address: str, forwarded: str = "") -> ClientConnection:
        headers = {"X-Forwarded-For": forwarded} if forwarded else {}
        return await opened.enter_async_context(
            socket_to(nginx, local_addr=(address, 0), additional_headers=headers)
        )

    async with AsyncExitStack() as opened:
        for _ in range(8):
            await open_from("127.0.0.2")
        with pytest.raises(InvalidStatus) as refused:
            await open_from("127.0.0.2", forwarded="203.0.113.7")
        assert refused.value.response.status_code == 429
        await open_from("127.0.0.3")


OWN_PAGE = {"Host": "localhost:{port}", "Origin": "http://localhost:{port}"}
FETCHED = {"Host": "127.0.0.1:{port}", "Sec-Fetch-Site": "same-origin"}


@pytest.mark.parametrize("headers", [{}, OWN_PAGE, FETCHED], ids=["plain", "origin", "fetch"])
def test_nobody_gets_a_demo_token_through_the_proxy(
    nginx: NginxProcess, gateway: GatewayProcess, headers: dict[str, str]
) -> None:
    forged = {name: value.format(port=gateway.port) for name, value in headers.items()}
    assert nginx.request("POST", "/v1/demo/token", headers=forged).status == 404


@pytest.mark.parametrize("headers", [OWN_PAGE, FETCHED], ids=["origin", "fetch"])
def test_nobody_gets_a_demo_token_even_if_the_origins_were_never_set(
    tmp_path: Path, headers: dict[str, str]
) -> None:
    with (
        running_gateway(tmp_path / "data") as unset,
        running_nginx(tmp_path, gateway_port=unset.port) as nginx,
        closing(http.client.HTTPConnection("127.0.0.1", unset.port, timeout=10)) as direct,
    ):
        forged = {name: value.format(port=unset.port) for name, value in headers.items()}
        assert nginx.request("POST", "/v1/demo/token", headers=forged).status == 404
        assert exchange(direct, "POST", "/v1/demo/token", headers=forged).status == 200


def test_plain_http_is_redirected(nginx: NginxProcess) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", nginx.plain_port, timeout=10)) as plain:
        reply = exchange(plain, "GET", "/web/makoto.js?x=1")
    assert reply.status == 301
    assert reply.headers["Location"] == f"https://{NAME}/web/makoto.js?x=1"


def test_the_proxy_waits_longer_than_the_gateway() -> None:
    configured = example("docs/self-hosting.md", "nginx")
    minutes = [int(m) for m in re.findall(r"proxy_(?:read|send)_timeout (\d+)m;", configured)]
    assert len(minutes) == 2
    assert min(minutes) * 60 > Settings().idle_s

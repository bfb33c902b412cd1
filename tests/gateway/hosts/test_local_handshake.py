"""Who gets in, and what a refused handshake is told."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import orjson
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway.bootstrap.local import LOCAL_AUDIENCE, LOCAL_ISSUER
from gateway.hosts.local.limits import HostLimits
from gateway.identity.local_issuer import LocalIssuer
from gateway.wire.limits import SUBPROTOCOL
from tests.gateway.hosts.local_host import Clock, LocalHost, local_host
from tests.gateway.hosts.raw_http import Head, line_to, request

pytestmark = pytest.mark.asyncio(loop_scope="module")

ELSEWHERE = "https://evil.example"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def host(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalHost]:
    """One host for all tests that leave nothing behind in it."""
    async with local_host(tmp_path_factory.mktemp("data"), clock=Clock()) as running:
        yield running


async def handshake(
    host: LocalHost, target: str = "/v1/ws", **headers: str | None
) -> tuple[Head, str | None]:
    """Return the answer's head and, unless it is a switch of protocols, its error code."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with line_to(host.port) as line:
        await line.say(request(target, headers=named))
        head = await line.head()
        return head, None if head.status == 101 else await line.error_code(head)


@pytest.mark.parametrize(
    ("offered", "echoed"),
    [
        ("makoto.v1, bearer.{token}", SUBPROTOCOL),
        ("makoto.v1,bearer.{token}", SUBPROTOCOL),
        ("bearer.{token} ,\t makoto.v1", SUBPROTOCOL),
        ("makoto.v1, makoto.v2, bearer.{token}", SUBPROTOCOL),
        ("makoto.v2, bearer.{token}", None),
        ("bearer.{token}", None),
    ],
    ids=["spaced", "tight", "token-first", "more-versions", "other-version", "token-alone"],
)
async def test_a_browser_is_answered_the_protocol_and_never_its_token(
    host: LocalHost, offered: str, echoed: str | None
) -> None:
    token = host.token()
    head, _ = await handshake(
        host, Origin=host.origin, Sec_WebSocket_Protocol=offered.format(token=token)
    )
    assert head.status == 101
    assert head.headers.get("sec-websocket-protocol") == echoed
    assert token not in str(head.headers)


async def test_the_authorization_header_needs_no_origin(host: LocalHost) -> None:
    head, _ = await handshake(host, Authorization=f"Bearer {host.token()}")
    assert head.status == 101
    assert "sec-websocket-protocol" not in head.headers


async def test_deflate_is_not_negotiated(host: LocalHost) -> None:
    head, _ = await handshake(
        host,
        Authorization=f"Bearer {host.token()}",
        Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits",
    )
    assert head.status == 101
    assert "sec-websocket-extensions" not in head.headers


def foreign_token(host: LocalHost) -> str:
    key = rsa.generate_private_key(65537, 2048)
    return LocalIssuer(
        key, issuer=LOCAL_ISSUER, audience=LOCAL_AUDIENCE, tenant_id=host.settings.tenant
    ).mint("aiko", ttl_s=3600, now=host.clock())


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Authorization": "Bearer garbage"}, 401, "auth.invalid"),
        ({"Authorization": "Bearer {foreign}"}, 401, "auth.invalid"),
        ({"Authorization": "Basic YTpi"}, 401, "auth.invalid"),
        ({"Authorization": "Bearer {good}", "Origin": ELSEWHERE}, 403, "origin.denied"),
        ({"Sec-WebSocket-Protocol": "makoto.v1, bearer.{good}"}, 403, "origin.denied"),
        ({"Sec-WebSocket-Protocol": "makoto.v1"}, 403, "origin.denied"),
        ({"Origin": "null", "Sec-WebSocket-Protocol": "makoto.v1"}, 403, "origin.denied"),
        ({"Origin": "{own}", "Sec-WebSocket-Protocol": "makoto.v1, bearer.x"}, 401, "auth.invalid"),
        (
            {"Authorization": "Bearer {good}", "Sec-WebSocket-Protocol": "bearer.{good}"},
            401,
            "auth.invalid",
        ),
        ({}, 403, "origin.denied"),
    ],
    ids=[
        "garbage",
        "other-key",
        "basic",
        "other-origin",
        "page-without-origin",
        "nothing-without-origin",
        "origin-null",
        "garbage-of-a-page",
        "two-credentials",
        "nothing-at-all",
    ],
)
async def test_a_refused_handshake_says_why_in_the_one_error_body(
    host: LocalHost, headers: Mapping[str, str], status: int, code: str
) -> None:
    known = {"good": host.token(), "foreign": foreign_token(host), "own": host.origin}
    named = {name.replace("-", "_"): value.format(**known) for name, value in headers.items()}
    head, told = await handshake(host, **named)
    assert (head.status, told) == (status, code)
    assert head.headers["content-type"] == "application/json"
    assert head.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("query", ["token={good}", "token=x", "ticket=x", "ticket=%ff"])
async def test_what_is_no_ticket_in_the_query_is_refused(host: LocalHost, query: str) -> None:
    head, code = await handshake(host, f"/v1/ws?{query.format(good=host.token())}")
    assert (head.status, code) == (401, "auth.invalid")


@pytest.mark.parametrize(
    "target", ["/", "/v1", "/v1/ws/", "/V1/WS", "/v1/ws/x", "/v1%2fws", "//[", "*"]
)
async def test_another_path_does_not_exist(host: LocalHost, target: str) -> None:
    head, code = await handshake(host, target, Authorization=f"Bearer {host.token()}")
    assert (head.status, code) == (404, "not_found")


async def test_an_allowed_origin_of_another_site_may_connect(folder: Path) -> None:
    async with local_host(folder, allowed_origins="https://app.example") as host:
        offered = f"makoto.v1, bearer.{host.token()}"
        head, _ = await handshake(
            host, Origin="https://app.example", Sec_WebSocket_Protocol=offered
        )
        assert head.status == 101
        head, code = await handshake(
            host, Origin="https://app.example.evil", Sec_WebSocket_Protocol=offered
        )
        assert (head.status, code) == (403, "origin.denied")


async def buy_ticket(host: LocalHost) -> str:
    bought = await host.http(
        "POST", "v1/tickets", headers={"Authorization": f"Bearer {host.token()}"}
    )
    assert bought.status == 200
    ticket: str = orjson.loads(bought.body)["ticket"]
    return ticket


async def test_a_ticket_opens_one_socket_as_its_buyer(host: LocalHost) -> None:
    ticket = await buy_ticket(host)
    async with host.client(query=f"?ticket={ticket}") as client:
        assert client.ready["user_id"] == "aiko"
    head, code = await handshake(host, f"/v1/ws?ticket={ticket}")
    assert (head.status, code) == (401, "auth.invalid")


async def test_of_two_who_use_a_ticket_at_once_one_gets_in(host: LocalHost) -> None:
    ticket = await buy_ticket(host)
    answers = await asyncio.gather(*(handshake(host, f"/v1/ws?ticket={ticket}") for _ in range(4)))
    assert sorted(head.status for head, _ in answers) == [101, 401, 401, 401]


async def test_a_ticket_is_good_for_a_minute(host: LocalHost) -> None:
    ticket = await buy_ticket(host)
    assert isinstance(host.clock, Clock)
    host.clock.advance(60)
    head, code = await handshake(host, f"/v1/ws?ticket={ticket}")
    assert (head.status, code) == (401, "auth.invalid")


async def test_an_expired_token_is_let_in_to_be_told_so(host: LocalHost) -> None:
    expired = host.token(ttl_s=10, ago_s=3600)
    async with host.client(headers={"Authorization": f"Bearer {expired}"}, hello=False) as client:
        await client.say("hello")
        assert (await client.hear())["code"] == "auth.expired"
        await client.say("sessions", id="s")
        assert (await client.hear(id="s"))["code"] == "auth.expired"
        await client.say("hello", token=host.token())
        assert (await client.hear())["type"] == "ready"
        assert (await client.ask("sessions"))["items"] == []


async def test_a_page_without_a_token_signs_in_by_hello(host: LocalHost) -> None:
    async with host.client(subprotocols=["makoto.v1"], origin=host.origin, hello=False) as client:
        assert client.ws.subprotocol == "makoto.v1"
        for kind, fields in (
            ("hello", {}),
            ("sessions", {"id": "s"}),
            ("auth", {"id": "a", "token": host.token()}),
        ):
            await client.say(kind, **fields)
            assert (await client.hear())["code"] == "auth.required"
        await client.say("hello", token="garbage")
        assert (await client.hear())["code"] == "auth.invalid"
        await client.say("ping", t=1)
        assert (await client.hear("pong"))["t"] == 1
        await client.say("hello", token=host.token("hana"))
        assert (await client.hear("ready"))["user_id"] == "hana"


async def test_nothing_is_sent_before_the_first_command(host: LocalHost) -> None:
    async with host.client(hello=False) as client:
        pong = await client.ws.ping()
        await asyncio.wait_for(pong, 5)
        assert client.frames == []
        await client.say("ping")
        assert (await client.hear())["type"] == "pong"


UNIDENTIFIED = {"Sec_WebSocket_Protocol": "makoto.v1"}


async def open_unidentified(host: LocalHost, stack: AsyncExitStack, **headers: str) -> Head:
    line = await stack.enter_async_context(line_to(host.port))
    named = {name.replace("_", "-"): value for name, value in (UNIDENTIFIED | headers).items()}
    await line.say(request(headers={"Origin": host.origin, **named}))
    return await line.head()


async def test_one_address_may_have_eight_unidentified_sockets(host: LocalHost) -> None:
    await unidentified_sockets(host, 0)
    async with AsyncExitStack() as stack:
        heads = await asyncio.gather(*(open_unidentified(host, stack) for _ in range(12)))
        assert sorted(head.status for head in heads) == [101] * 8 + [429] * 4
        async with host.client():
            pass  # who brings a token is not counted
    await unidentified_sockets(host, 0)
    async with AsyncExitStack() as stack:
        assert (await open_unidentified(host, stack)).status == 101


async def unidentified_sockets(host: LocalHost, count: int) -> None:
    async with asyncio.timeout(5):
        while sum(not socket.identified for socket in host.sockets) != count:
            await asyncio.sleep(0.01)


async def test_sockets_that_signed_in_leave_room_for_others(host: LocalHost) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(9):
            client = await stack.enter_async_context(
                host.client(subprotocols=["makoto.v1"], origin=host.origin, hello=False)
            )
            await client.say("hello", token=host.token())
            await client.hear("ready")


async def test_addresses_behind_a_known_proxy_are_counted_apart(folder: Path) -> None:
    limits = HostLimits(unidentified_per_address=1, unidentified=3)
    async with (
        local_host(folder, limits=limits, trusted_proxies="127.0.0.1") as host,
        AsyncExitStack() as stack,
    ):
        statuses = [
            (await open_unidentified(host, stack, X_Forwarded_For=hops)).status
            for hops in ("192.0.2.1", "192.0.2.1", "192.0.2.1, 192.0.2.2", "192.0.2.3", "192.0.2.4")
        ]
        assert statuses == [101, 429, 101, 101, 429]


async def test_a_forwarded_address_of_an_unknown_proxy_does_not_count(folder: Path) -> None:
    limits = HostLimits(unidentified_per_address=1)
    async with local_host(folder, limits=limits) as host, AsyncExitStack() as stack:
        assert (await open_unidentified(host, stack, X_Forwarded_For="192.0.2.1")).status == 101
        assert (await open_unidentified(host, stack, X_Forwarded_For="192.0.2.2")).status == 429


async def test_more_sockets_than_configured_are_refused(folder: Path) -> None:
    async with local_host(folder, limits=HostLimits(sockets=1)) as host, host.client():
        head, code = await handshake(host, Authorization=f"Bearer {host.token()}")
        assert (head.status, code) == (429, "rate.limited")


async def test_who_is_not_identified_in_time_is_told_and_closed(folder: Path) -> None:
    limits = HostLimits(identify_s=0.05, sweep_s=0.01)
    async with (
        local_host(folder, limits=limits) as host,
        host.client(subprotocols=["makoto.v1"], origin=host.origin, hello=False) as client,
    ):
        assert (await client.closed())[0] == 4401
        assert client.frames == [
            {
                "type": "error",
                "code": "auth.required",
                "message": "Identify yourself with a token first.",
                "retryable": False,
                "fatal": True,
            }
        ]


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-WebSocket-Key": None},
        {"Sec-WebSocket-Key": "short"},
        {"Sec-WebSocket-Version": "8"},
        {"Sec-WebSocket-Version": None},
    ],
    ids=["no-key", "bad-key", "old-version", "no-version"],
)
async def test_a_broken_upgrade_is_refused_without_a_trace_in_the_log(
    host: LocalHost, caplog: pytest.LogCaptureFixture, headers: Mapping[str, str | None]
) -> None:
    async with line_to(host.port) as line:
        named = {"Authorization": f"Bearer {host.token()}", **headers}
        await line.say(request(headers=named))
        head = await line.head()
        assert await line.error_code(head) == "bad_request"
        await line.ended()
    assert head.status in {400, 426}
    assert ("sec-websocket-version" in head.headers) == (head.status == 426)
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_refused_handshake_leaves_a_line_that_says_why(
    host: LocalHost, caplog: pytest.LogCaptureFixture
) -> None:
    token = f"{host.token()[:-8]}AAAAAAAA"
    with caplog.at_level(logging.INFO):
        async with line_to(host.port) as line:
            named = {"Authorization": f"Bearer {token}"}
            await line.say(request("/v1/ws?secret=1", headers=named))
            head = await line.head()
            told = orjson.loads(await line.body(head))["error"]
        await handshake(host, Origin=ELSEWHERE)
        await handshake(host, "/v1/elsewhere")
    first, *others = [vars(record) for record in caplog.records if record.message == "refused"]
    assert (first["code"], first["cause"]) == ("auth.invalid", "credential refused: signature")
    assert first["connection_id"] == told["request_id"]
    assert [(each["code"], each["cause"]) for each in others] == [
        ("origin.denied", "the Origin is not on the list"),
        ("not_found", "NotFoundError"),
    ]
    logged = str([vars(record) for record in caplog.records])
    for hidden in (token, "secret"):
        assert hidden not in logged


async def test_a_client_that_leaves_in_the_handshake_leaves_nothing(
    host: LocalHost, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(20):
        async with line_to(host.port) as line:
            await line.say(request(headers={"Authorization": f"Bearer {host.token()}"}))
    async with host.client():
        pass
    async with asyncio.timeout(5):
        while len(host.sockets):
            await asyncio.sleep(0.01)
    assert not [record for record in caplog.records if record.exc_info]

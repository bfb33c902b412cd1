"""The HTTP side of a running host: what every answer carries, and who gets what."""

import logging
from collections.abc import AsyncIterator, Mapping
from html.parser import HTMLParser
from unittest.mock import patch

import orjson
import pytest
import pytest_asyncio

from gateway.identity.admission import Admission
from gateway.identity.errors import KeysUnavailableError
from gateway.identity.jwks import JwksCache
from tests.gateway.hosts.local_host import Answered, Clock, LocalHost, local_host
from tests.gateway.hosts.raw_http import line_to

pytestmark = pytest.mark.asyncio(loop_scope="module")

ALLOWED = "http://localhost:3000"
ELSEWHERE = "https://evil.example"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def host(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalHost]:
    folder = tmp_path_factory.mktemp("data")
    async with local_host(folder, clock=Clock(), allowed_origins=ALLOWED) as running:
        yield running


def error_of(answered: Answered) -> str:
    """Return the code of the one body that errors have."""
    assert answered.headers["Content-Type"] == "application/json"
    assert answered.headers["Cache-Control"] == "no-store"
    body = orjson.loads(answered.body)
    assert body.keys() == {"error"}
    assert body["error"].keys() - {"retry_after_ms"} == {
        *("code", "message", "retryable", "request_id"),
    }
    code: str = body["error"]["code"]
    return code


# Every answer


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("GET", "/web/makoto.js", 200),
        ("GET", "/healthz", 200),
        ("GET", "/.well-known/jwks.json", 200),
        ("GET", "/nothing", 404),
        ("POST", "/v1/tickets", 401),
        ("DELETE", "/", 405),
    ],
)
async def test_every_answer_carries_the_security_headers(
    host: LocalHost, method: str, path: str, status: int
) -> None:
    answered = await host.http(method, path)
    assert answered.status == status
    assert answered.headers["X-Content-Type-Options"] == "nosniff"
    assert answered.headers["Referrer-Policy"] == "no-referrer"
    assert answered.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "default-src 'none'" in answered.headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in answered.headers["Content-Security-Policy"]
    assert "Server" not in answered.headers


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/v1", 404),
        ("GET", "/v1/ws", 404),
        ("GET", "/docs", 404),
        ("GET", "/openapi.json", 404),
        ("GET", "/v1/tickets", 405),
        ("POST", "/", 405),
        ("OPTIONS", "/", 405),
        ("GET", "/%ff%00", 404),
    ],
)
async def test_what_does_not_exist_is_not_found(
    host: LocalHost, method: str, path: str, status: int
) -> None:
    answered = await host.http(method, path)
    assert (answered.status, error_of(answered)) == (status, "not_found")


async def test_a_fault_of_ours_is_internal_and_leaks_nothing(
    host: LocalHost, caplog: pytest.LogCaptureFixture
) -> None:
    async def break_down(*_: object) -> None:
        raise ZeroDivisionError("SECRET")

    with patch.object(Admission, "sell_ticket", break_down):
        answered = await host.http(
            "POST", "/v1/tickets", headers={"Authorization": f"Bearer {host.token()}"}
        )
    assert (answered.status, error_of(answered)) == (500, "internal")
    assert b"SECRET" not in answered.body
    assert len([record for record in caplog.records if record.exc_info]) == 1


# The page


async def test_the_page_may_load_and_reach_its_own_server_alone(host: LocalHost) -> None:
    answered = await host.http("GET", "/")
    assert answered.headers["Content-Type"].startswith("text/html")
    policy = dict(
        rule.split(" ", 1) for rule in answered.headers["Content-Security-Policy"].split("; ")
    )
    here = host.url.removeprefix("http://").removesuffix("/")
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": f"'self' ws://{here} wss://{here}",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    inline = Inline()
    inline.feed(answered.body.decode())
    assert inline.found == [], "the policy would have the browser ignore it"


class Inline(HTMLParser):
    """Finds scripts and styles that stand in the page itself."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = {name for name, _ in attrs}
        if tag == "style" or (tag == "script" and "src" not in names):
            self.found.append(tag)
        self.found += [name for name in names if name == "style" or name.startswith("on")]


@pytest.mark.parametrize("named", ["evil.example; script-src *", "a b", "x\ty", "a,b"])
async def test_a_host_header_cannot_widen_the_policy(host: LocalHost, named: str) -> None:
    async with line_to(host.port) as line:
        await line.say(f"GET / HTTP/1.1\r\nHost: {named}\r\n\r\n".encode())
        policy = (await line.head()).headers["content-security-policy"]
    assert "script-src 'self';" in policy
    (reachable,) = [rule for rule in policy.split("; ") if rule.startswith("connect-src ")]
    here = f"127.0.0.1:{host.port}"
    assert set(reachable.split()[1:]) <= {"'self'", f"ws://{here}", f"wss://{here}"}


async def test_the_client_module_may_be_used_by_any_page(host: LocalHost) -> None:
    answered = await host.http("GET", "/web/makoto.js", headers={"Origin": ELSEWHERE})
    assert answered.headers["Content-Type"].startswith("text/javascript")
    assert answered.headers["Access-Control-Allow-Origin"] == "*"
    assert answered.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert answered.headers["Cache-Control"] == "no-cache"
    again = await host.http(
        "GET", "/web/makoto.js", headers={"If-None-Match": answered.headers["ETag"]}
    )
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize("name", ["makoto.d.ts", "wire.d.ts"])
async def test_the_clients_types_are_text(host: LocalHost, name: str) -> None:
    answered = await host.http("GET", f"/web/{name}")
    assert answered.headers["Content-Type"] == "text/plain; charset=utf-8"
    etag = answered.headers["ETag"]
    again = await host.http("GET", f"/web/{name}", headers={"If-None-Match": etag})
    assert again.status == 304
    assert "Content-Type" not in again.headers


@pytest.mark.parametrize(
    "target",
    [
        "/web/",
        "/web",
        "/web/page",
        "/web/nothing.js",
        "/web/../app.py",
        "/web/..%2fapp.py",
        "/web/%2e%2e/app.py",
        "/web/..%5capp.py",
        "/web//etc/passwd",
        "/web/%00",
        "/web/makoto.js%00.html",
        "/web/%ff",
        "/web/" + "x" * 300,
        "/web/" + "x/" * 3000,
    ],
    ids=lambda target: target[:24],
)
async def test_nothing_but_the_pages_files_is_served(
    host: LocalHost, caplog: pytest.LogCaptureFixture, target: str
) -> None:
    async with line_to(host.port) as line:
        await line.say(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head = await line.head()
        assert head.status == 404
        assert await line.error_code(head) == "not_found"
    assert not [record for record in caplog.records if record.exc_info]


# Pages of other origins


@pytest.mark.parametrize(
    ("origin", "readable"), [(ALLOWED, True), (ELSEWHERE, False), ("null", False)]
)
@pytest.mark.parametrize("path", ["/healthz", "/nothing", "/v1/payloads/a/b/c"])
async def test_answers_may_be_read_by_allowed_pages_alone(
    host: LocalHost, origin: str, readable: bool, path: str
) -> None:
    answered = await host.http("GET", path, headers={"Origin": origin})
    assert answered.headers.get("Access-Control-Allow-Origin") == (origin if readable else None)
    assert "Access-Control-Allow-Credentials" not in answered.headers
    if readable:
        assert "Origin" in answered.headers["Vary"]


@pytest.mark.parametrize(("origin", "status"), [(ALLOWED, 200), (ELSEWHERE, 400)])
async def test_other_pages_may_ask_first(host: LocalHost, origin: str, status: int) -> None:
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    answered = await host.http("OPTIONS", "/v1/payloads/a/b/c", headers=asked)
    assert answered.status == status
    allowed = answered.headers.get("Access-Control-Allow-Origin")
    assert allowed == (origin if status == 200 else None)


# Tickets


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "auth.required"),
        ({"Authorization": "Bearer x"}, "auth.invalid"),
        ({"Authorization": "Bearer {expired}"}, "auth.expired"),
        ({"Authorization": "Basic eDp5"}, "auth.invalid"),
        ({"Authorization": "Bearer"}, "auth.invalid"),
        ({"Cookie": "token={good}"}, "auth.required"),
    ],
    ids=["nothing", "garbage", "expired", "basic", "empty", "cookie"],
)
async def test_no_ticket_without_a_good_token(
    host: LocalHost, headers: Mapping[str, str], code: str
) -> None:
    known = {"good": host.token(), "expired": host.token(ttl_s=1, ago_s=100)}
    named = {name: value.format(**known) for name, value in headers.items()}
    answered = await host.http("POST", "/v1/tickets", headers=named)
    assert (answered.status, error_of(answered)) == (401, code)


async def test_a_refusal_leaves_a_line_that_says_why(
    host: LocalHost, caplog: pytest.LogCaptureFixture
) -> None:
    token = f"{host.token()[:-8]}AAAAAAAA"
    with caplog.at_level(logging.INFO):
        headers = {"Authorization": f"Bearer {token}"}
        answered = await host.http("POST", "/v1/tickets?secret=1", headers=headers)
    (line,) = [vars(record) for record in caplog.records if record.message == "refused"]
    assert (line["code"], line["cause"]) == ("auth.invalid", "credential refused: signature")
    assert line["request_id"] == orjson.loads(answered.body)["error"]["request_id"]
    for hidden in (token, "secret"):
        assert hidden not in str(line)


async def test_a_ticket_is_never_cached_and_never_the_same(host: LocalHost) -> None:
    headers = {"Authorization": f"Bearer {host.token()}"}
    bought = [await host.http("POST", "/v1/tickets", headers=headers) for _ in range(2)]
    assert {answered.headers["Cache-Control"] for answered in bought} == {"no-store"}
    bodies = [orjson.loads(answered.body) for answered in bought]
    assert bodies[0].keys() == {"ticket", "expires_at"}
    assert bodies[0]["ticket"] != bodies[1]["ticket"]
    assert bodies[0]["expires_at"] == pytest.approx((host.clock() + 60) * 1000, abs=2000)


async def test_a_ticket_lives_no_longer_than_its_token(host: LocalHost) -> None:
    headers = {"Authorization": f"Bearer {host.token(ttl_s=10)}"}
    bought = orjson.loads((await host.http("POST", "/v1/tickets", headers=headers)).body)
    assert bought["expires_at"] <= (host.clock() + 10) * 1000


# The server as its own issuer


async def test_the_key_set_holds_the_public_key_alone(host: LocalHost) -> None:
    answered = await host.http("GET", "/.well-known/jwks.json")
    assert answered.headers["Content-Type"] == "application/jwk-set+json"
    (key,) = orjson.loads(answered.body)["keys"]
    assert key.keys() == {"kty", "n", "e", "kid", "use", "alg"}
    assert answered.body == host.issuer.jwks_document()


async def ask_for_token(host: LocalHost, **changed: str | None) -> Answered:
    named = {"Host": f"127.0.0.1:{host.port}", "Origin": f"http://127.0.0.1:{host.port}"}
    named |= {name.replace("_", "-"): value for name, value in changed.items()}
    headers = {name: value for name, value in named.items() if value is not None}
    return await host.http("POST", "/v1/demo/token", headers=headers)


async def test_the_servers_own_page_gets_a_token_that_opens_a_socket(host: LocalHost) -> None:
    answered = await ask_for_token(host)
    assert answered.status == 200
    assert answered.headers["Cache-Control"] == "no-store"
    body = orjson.loads(answered.body)
    assert body["expires_at"] == pytest.approx((host.clock() + 900) * 1000, abs=2000)
    subprotocols = ["makoto.v1", f"bearer.{body['token']}"]
    async with host.client(subprotocols=subprotocols, origin=host.origin) as client:
        assert client.ready["user_id"] == "demo"


async def test_the_page_may_be_opened_by_any_name_of_loopback(host: LocalHost) -> None:
    here = f"localhost:{host.port}"
    answered = await ask_for_token(host, Host=here, Origin=f"http://{here}")
    assert answered.status == 200


@pytest.mark.parametrize(
    "changed",
    [
        {"Origin": ELSEWHERE},
        {"Origin": ALLOWED},
        {"Origin": "null"},
        {"Origin": None},
        {"Host": "evil.example"},
        {"Host": "evil.example", "Origin": "http://evil.example"},
        {"Host": "127.0.0.1"},
        {"X_Forwarded_For": "192.0.2.1"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
    ids=lambda changed: ",".join(f"{name}={value}" for name, value in changed.items()),
)
async def test_nobody_else_gets_a_token(host: LocalHost, changed: Mapping[str, str]) -> None:
    answered = await ask_for_token(host, **changed)
    assert (answered.status, error_of(answered)) == (404, "not_found")


@pytest.mark.parametrize(
    "changed",
    [
        {"allowed_origins": "https://app.example"},
        {"trusted_proxies": "127.0.0.1"},
        {"issuer": "https://issuer.example", "jwks_url": "https://issuer.example/jwks"},
    ],
    ids=["other-pages", "behind-a-proxy", "other-issuer"],
)
async def test_where_others_may_come_in_there_are_no_demo_tokens(
    tmp_path_factory: pytest.TempPathFactory, changed: Mapping[str, str]
) -> None:
    if "issuer" in changed:
        changed = {**changed, "audience": "app"}
    async with local_host(tmp_path_factory.mktemp("data"), **changed) as host:
        answered = await ask_for_token(host)
        assert (answered.status, error_of(answered)) == (404, "not_found")
        keys = await host.http("GET", "/.well-known/jwks.json")
        assert keys.status == (404 if "issuer" in changed else 200)


async def test_keys_that_cannot_be_had_are_no_reason_to_drop_a_token(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    async def no_keys(*_: object) -> None:
        raise KeysUnavailableError("no keys")

    issuer = {"issuer": "urn:makoto:local", "jwks_url": "https://issuer.example/jwks"}
    with patch.object(JwksCache, "find", no_keys):
        async with local_host(tmp_path_factory.mktemp("data"), **issuer, audience="makoto") as host:
            answered = await host.http(
                "POST", "/v1/tickets", headers={"Authorization": f"Bearer {host.token()}"}
            )
    assert (answered.status, error_of(answered)) == (503, "internal")
    assert orjson.loads(answered.body)["error"]["retryable"] is True

"""Handing runs to the function that generates replies. On a real HTTP server."""

import asyncio
import logging
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials

from gateway.hosts.aws import invoker as rules
from gateway.hosts.aws.invoker import (
    Invoker,
    InvokeStarter,
    NotInvokedError,
    payload_of,
    run_of,
)
from gateway.runs.live_run import LiveRun
from storage.records import Owner
from tests.engines.connections_api import CREDENTIALS, REGION

ARN = "arn:aws:lambda:eu-central-1:000000000000:function:makoto-reply"
ANNA = Owner(tenant_id="acme", user_id="anna")
CUT = 0


class Lambda:
    """Lambda's Invoke; says what the test tells it to, else 202."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.connections = 0
        self.url = ""
        self.open: list[Any] = []
        self.together = threading.Barrier(1)

    def cut_idle(self) -> None:
        for each in self.open:
            with suppress(OSError):
                each.shutdown(2)
        self.open.clear()


@pytest.fixture
def service() -> Iterator[Lambda]:
    state = Lambda()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            state.connections += 1
            state.open.append(self.connection)

        def handle(self) -> None:
            with suppress(OSError):
                super().handle()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            state.requests.append((self.path, dict(self.headers.items()), body))
            state.together.wait(timeout=10)
            status = state.answers.pop(0) if state.answers else 202
            if status == CUT:
                self.close_connection = True
                return
            self.send_response_only(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        state.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield state
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "PAUSE_S", 0.01)


@pytest.fixture
def invoker(service: Lambda) -> Iterator[Invoker]:
    made = invoker_at(service.url)
    yield made
    made.close()


def invoker_at(url: str) -> Invoker:
    return Invoker(function=ARN, region=REGION, credentials=CREDENTIALS, endpoint_url=url)


def live(run_id: str) -> LiveRun:
    run = SimpleNamespace(run_id=run_id)
    return cast("LiveRun", SimpleNamespace(owner=ANNA, run=run, started=False))


async def test_a_run_is_handed_over_by_its_key_alone(service: Lambda, invoker: Invoker) -> None:
    starter = InvokeStarter(invoker)
    starter.start(live("r1"))
    await starter.settle()
    ((path, headers, body),) = service.requests
    assert path == f"/2015-03-31/functions/{ARN.replace(':', '%3A')}/invocations"
    assert headers["X-Amz-Invocation-Type"] == "Event"
    assert orjson.loads(body) == {"tenant_id": "acme", "user_id": "anna", "run_id": "r1"}
    assert run_of(orjson.loads(body)) == (ANNA, "r1")


async def test_a_request_is_signed_as_the_sdk_signs_it(service: Lambda, invoker: Invoker) -> None:
    await invoker.invoke(b"{}")
    ((path, headers, body),) = service.requests
    named = headers["Authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    sent = {name.lower(): value for name, value in headers.items()}
    request = AWSRequest(
        method="POST",
        url=f"{service.url}{path}",
        data=body,
        headers={name: sent[name] for name in named},
    )
    request.context["timestamp"] = sent["x-amz-date"]
    signer = SigV4Auth(
        BotocoreCredentials(CREDENTIALS.access_key_id, CREDENTIALS.secret_access_key),
        "lambda",
        REGION,
    )
    text = signer.string_to_sign(request, signer.canonical_request(request))
    assert sent["authorization"].rpartition("Signature=")[2] == signer.signature(text, request)
    assert "x-amz-security-token" in named


async def test_a_run_is_handed_over_once_by_one_invocation(
    service: Lambda, invoker: Invoker
) -> None:
    starter, run = InvokeStarter(invoker), live("r1")
    starter.start(run)
    starter.start(run)
    await starter.settle()
    assert len(service.requests) == 1


@pytest.mark.parametrize("failures", [[CUT], [429, 500], [503, CUT, 429]])
async def test_what_passes_is_tried_again(
    service: Lambda, invoker: Invoker, failures: list[int]
) -> None:
    service.answers = list(failures)
    await invoker.invoke(b"{}")
    assert len(service.requests) == len(failures) + 1


@pytest.mark.parametrize("status", [400, 403, 404])
async def test_what_does_not_pass_is_not_tried_again(
    service: Lambda, invoker: Invoker, status: int
) -> None:
    service.answers = [status]
    with pytest.raises(NotInvokedError, match=str(status)):
        await invoker.invoke(b"{}")
    assert len(service.requests) == 1


async def test_a_start_that_fails_for_good_is_logged_and_the_run_waits(
    service: Lambda, invoker: Invoker, caplog: pytest.LogCaptureFixture
) -> None:
    service.answers = [500] * rules.ATTEMPTS
    starter = InvokeStarter(invoker)
    with caplog.at_level(logging.ERROR):
        starter.start(live("r1"))
        await starter.settle()
    assert [(each.message, each.__dict__["cause"]) for each in caplog.records] == [
        ("reply not invoked", "500")
    ]


async def test_a_start_that_fails_for_good_fails_who_confirms_it(
    service: Lambda, invoker: Invoker
) -> None:
    service.answers = [403]
    starter = InvokeStarter(invoker)
    starter.start(live("r1"))
    starter.start(live("r2"))
    with pytest.raises(NotInvokedError, match="403"):
        await starter.confirm()


async def test_nobody_there_is_a_start_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    starter = InvokeStarter(invoker_at("http://127.0.0.1:1"))
    starter.start(live("r1"))
    await starter.settle()
    assert "reply not invoked" in caplog.text


async def test_one_connection_is_used_until_it_is_cut(service: Lambda, invoker: Invoker) -> None:
    for _ in range(3):
        await invoker.invoke(b"{}")
    assert service.connections == 1
    service.cut_idle()
    await invoker.invoke(b"{}")
    assert service.connections == 2


async def test_after_one_broken_connection_no_other_old_one_is_used(
    service: Lambda, invoker: Invoker
) -> None:
    """After a freeze all of them may be broken, and there may be more of them than attempts."""
    service.together = threading.Barrier(2)
    await asyncio.gather(invoker.invoke(b"{}"), invoker.invoke(b"{}"))
    assert service.connections == 2

    service.together = threading.Barrier(1)
    service.answers = [CUT]
    await invoker.invoke(b"{}")
    assert service.connections == 3


@pytest.mark.parametrize(
    "payload",
    [
        None,
        [],
        {},
        {"tenant_id": "acme", "user_id": "anna"},
        {"tenant_id": "acme", "user_id": 7, "run_id": "r1"},
        {"tenant_id": "acme", "user_id": "", "run_id": "r1"},
    ],
)
def test_a_payload_that_names_no_run_is_refused(payload: object) -> None:
    with pytest.raises(ValueError, match="no run is named"):
        run_of(payload)


def test_a_payload_holds_nothing_but_the_key() -> None:
    assert set(orjson.loads(payload_of(ANNA, "r1"))) == {"tenant_id", "user_id", "run_id"}

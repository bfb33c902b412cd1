"""Requests to a service without its SDK: threads, connections and TLS. What is said is DynamoDB's."""

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import orjson
import pytest

from storage import signed_http
from storage.signed_http import THREADS, NoAnswerError, Response, SignedEndpoint, url_at_aws
from storage.sigv4 import Credentials
from tests.engines import processes
from tests.engines.certificate import Certificate, issue
from tests.engines.fault_proxy import THROTTLE, Fault, FaultProxy, fault_proxy
from tests.engines.processes import Engine

HEADERS = {
    "Content-Type": "application/x-amz-json-1.0",
    "X-Amz-Target": "DynamoDB_20120810.ListTables",
}


@pytest.fixture
def proxy(dynoxide: Engine) -> Iterator[FaultProxy]:
    with fault_proxy(dynoxide) as proxy:
        yield proxy


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return issue(tmp_path)


@pytest.fixture
def tls_proxy(dynoxide: Engine, certificate: Certificate) -> Iterator[FaultProxy]:
    with fault_proxy(dynoxide, tls=certificate.server()) as proxy:
        yield proxy


@pytest.fixture
def tls_of_its_own() -> Iterator[None]:
    """Who is trusted is read once in a process: forget it before the test and after it."""
    signed_http._tls.cache_clear()
    yield
    signed_http._tls.cache_clear()


def endpoint_at(url: str, *, read_timeout_s: float = 5.0) -> SignedEndpoint:
    return SignedEndpoint(
        service="dynamodb",
        region="eu-central-1",
        credentials=Credentials(access_key_id="AKIDEXAMPLE", secret_access_key="secret"),
        connect_timeout_s=5.0,
        read_timeout_s=read_timeout_s,
        url=url,
    )


@pytest.fixture
def endpoint(proxy: FaultProxy) -> Iterator[SignedEndpoint]:
    with closing(endpoint_at(proxy.url)) as endpoint:
        yield endpoint


async def ask(endpoint: SignedEndpoint) -> Response:
    response = await endpoint.ask(HEADERS, b"{}")
    assert response.status == 200
    assert "TableNames" in orjson.loads(response.body)
    return response


async def test_an_answer_is_handed_on_whatever_its_status(
    proxy: FaultProxy, endpoint: SignedEndpoint
) -> None:
    proxy.fail("ListTables", THROTTLE)
    response = await endpoint.ask(HEADERS, b"{}")
    assert (response.status, response.body) == (THROTTLE.status, THROTTLE.body)

    await ask(endpoint)
    assert proxy.asked == ["ListTables"] * 2
    assert proxy.connections == 1


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        (Fault.CUT, "RemoteDisconnected"),
        (Fault.HALF_REPLY, "IncompleteRead"),
        (Fault.HANG, "TimeoutError"),
    ],
)
async def test_a_request_without_a_whole_answer_is_not_repeated(
    proxy: FaultProxy, fault: Fault, named: str
) -> None:
    with closing(endpoint_at(proxy.url, read_timeout_s=0.5)) as endpoint:
        proxy.fail("ListTables", fault)
        with pytest.raises(NoAnswerError, match=f"^{named}$"):
            await endpoint.ask(HEADERS, b"{}")
        assert proxy.asked == ["ListTables"]

        await ask(endpoint)
        assert proxy.connections == 2, "the broken one was not kept"


async def test_an_address_where_nobody_listens_gives_no_answer() -> None:
    refused = pytest.raises(NoAnswerError, match="ConnectionRefusedError")
    with closing(endpoint_at("http://127.0.0.1:9")) as endpoint, refused:
        await endpoint.ask(HEADERS, b"{}")


async def test_no_more_requests_than_threads_are_under_way(
    proxy: FaultProxy, endpoint: SignedEndpoint
) -> None:
    await asyncio.gather(*(ask(endpoint) for _ in range(4 * THREADS)))

    assert proxy.connections <= THREADS
    assert proxy.asked == ["ListTables"] * 4 * THREADS


async def test_connections_that_ended_while_idle_are_not_used_again(
    proxy: FaultProxy, endpoint: SignedEndpoint
) -> None:
    for _ in range(3):
        await asyncio.gather(*(ask(endpoint) for _ in range(THREADS)))
        proxy.cut_idle()
        await ask(endpoint)


async def test_a_connection_that_was_idle_for_long_is_not_used_again(
    proxy: FaultProxy, endpoint: SignedEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signed_http, "IDLE_S", 0.0)
    for _ in range(3):
        await ask(endpoint)

    assert proxy.connections == 3


async def test_idle_connections_can_be_dropped(proxy: FaultProxy, endpoint: SignedEndpoint) -> None:
    await ask(endpoint)
    endpoint.drop_idle()
    await ask(endpoint)

    assert proxy.connections == 2


async def test_a_request_under_way_ends_with_its_connection_when_all_is_closed() -> None:
    # An engine of its own has no tables: their names would come at five bytes a second.
    with (
        processes.dynoxide() as engine,
        fault_proxy(engine) as proxy,
        closing(endpoint_at(proxy.url)) as endpoint,
    ):
        proxy.fail("ListTables", Fault.TRICKLE)
        asking = asyncio.create_task(ask(endpoint))
        async with asyncio.timeout(5):
            while not proxy.asked:
                await asyncio.sleep(0.01)
        endpoint.close()
        async with asyncio.timeout(30):
            await asking
            while proxy._sockets:
                await asyncio.sleep(0.01)

        with pytest.raises(RuntimeError):
            await endpoint.ask(HEADERS, b"{}")


async def test_nothing_is_asked_when_all_is_closed(endpoint: SignedEndpoint) -> None:
    await ask(endpoint)
    endpoint.close()
    with pytest.raises(RuntimeError):
        await endpoint.ask(HEADERS, b"{}")


@pytest.mark.usefixtures("tls_of_its_own")
async def test_a_trusted_service_is_asked_over_tls_on_one_connection(
    tls_proxy: FaultProxy, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.file))
    with closing(endpoint_at(tls_proxy.url)) as endpoint:
        for _ in range(3):
            await ask(endpoint)
        assert tls_proxy.connections == 1
        tls_proxy.cut_idle()
        await ask(endpoint)


@pytest.mark.usefixtures("tls_of_its_own")
async def test_a_service_that_is_not_trusted_hears_nothing(tls_proxy: FaultProxy) -> None:
    refused = pytest.raises(NoAnswerError, match="SSLCertVerificationError")
    with closing(endpoint_at(tls_proxy.url)) as endpoint, refused:
        await endpoint.ask(HEADERS, b"{}")

    assert tls_proxy.asked == []


@pytest.mark.usefixtures("tls_of_its_own")
async def test_who_is_trusted_is_read_once_for_all_endpoints(
    tls_proxy: FaultProxy, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[ssl.SSLContext] = []
    real = ssl.create_default_context

    def make(**options: Any) -> ssl.SSLContext:
        made.append(real(**options))
        return made[-1]

    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.file))
    monkeypatch.setattr(ssl, "create_default_context", make)
    with ExitStack() as stack:
        endpoints = [stack.enter_context(closing(endpoint_at(tls_proxy.url))) for _ in range(2)]
        assert made == [], "not before it is needed"
        await asyncio.gather(*(ask(each) for each in endpoints * 3))
    assert len(made) == 1


def test_a_body_is_not_shown() -> None:
    assert "HIDDEN" not in repr(Response(status=200, body=b"HIDDEN"))


@pytest.mark.parametrize(
    ("region", "url"),
    [
        ("eu-central-1", "https://dynamodb.eu-central-1.amazonaws.com"),
        ("cn-north-1", "https://dynamodb.cn-north-1.amazonaws.com.cn"),
    ],
)
def test_a_service_has_its_address_in_a_region(region: str, url: str) -> None:
    assert url_at_aws("dynamodb", region) == url

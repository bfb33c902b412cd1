"""What only the client without the SDK has to see to itself: connections and TLS."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.dynamodb import signed_client
from storage.errors import StorageUnavailableError
from tests.engines.fault_proxy import FaultProxy, fault_proxy
from tests.engines.processes import Engine
from tests.storage.dynamodb.clients import opened, signed
from tests.streaming.models.certificate import Certificate, issue


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return issue(tmp_path)


@pytest.fixture
def tls_proxy(dynoxide: Engine, certificate: Certificate) -> Iterator[FaultProxy]:
    with fault_proxy(dynoxide, tls=certificate.server()) as proxy:
        yield proxy


async def test_a_trusted_service_is_asked_over_tls_on_one_connection(
    tls_proxy: FaultProxy, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.file))
    async with opened(signed(tls_proxy.url)) as client:
        for _ in range(3):
            assert "TableNames" in await client.call("ListTables", {})
        assert tls_proxy.connections == 1
        tls_proxy.cut_idle()
        assert "TableNames" in await client.call("ListTables", {})


async def test_a_service_that_is_not_trusted_hears_nothing(tls_proxy: FaultProxy) -> None:
    async with opened(signed(tls_proxy.url)) as client:
        with pytest.raises(StorageUnavailableError):
            await client.call("ListTables", {})

    assert tls_proxy.asked == []


async def test_a_connection_that_was_idle_for_long_is_not_used_again(
    proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signed_client, "_IDLE_S", 0.0)
    async with opened(signed(proxy.url)) as client:
        for _ in range(3):
            await client.call("ListTables", {})

    assert proxy.connections == 3


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("eu-central-1", "dynamodb.eu-central-1.amazonaws.com"),
        ("cn-north-1", "dynamodb.cn-north-1.amazonaws.com.cn"),
    ],
)
def test_a_region_has_its_address(region: str, host: str) -> None:
    assert signed_client._endpoint(region) == f"https://{host}"

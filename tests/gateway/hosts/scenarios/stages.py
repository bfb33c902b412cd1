"""The hosts that scenarios are played on: the local one, and the functions of AWS in their emulator.

Both are whole and real, and each asks a provider of its own over HTTP. What is underneath the second one is
listed in `tests.gateway.hosts.aws.functions`.
"""

import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from gateway.emulator import Emulator
from gateway.settings import variable
from tests.gateway.hosts.aws.emulated import emulated_gateway
from tests.gateway.hosts.aws.functions import TENANT, Functions
from tests.gateway.hosts.client import Client, connect
from tests.gateway.hosts.local_host import LocalHost, local_host
from tests.gateway.hosts.scenarios.provider import Provider
from tests.streaming.models.openai_endpoint import openai_endpoint

SETTINGS: dict[str, Any] = {
    "openai_api_key": "sk-test",
    "openai_model": "parrot",
    "characters": '{"makoto": "Be kind.", "hana": "Be brief."}',
    "first_token_s": 4.0,
    "live_runs": 6,
    "content_bytes": 100_000,
}
"""What both hosts are told, by field name."""


class Stage(Protocol):
    """A host under test."""

    @property
    def provider(self) -> Provider:
        """Return the one that its model asks."""
        ...

    def token(self, user: str) -> str:
        """Return a token that the host takes."""
        ...

    def connect(self, token: str) -> AbstractAsyncContextManager[Client]:
        """Connect without saying anything."""
        ...

    async def settle(self) -> None:
        """Wait until every command that was handed over before has been carried out."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Local:
    """The server of one process."""

    host: LocalHost
    provider: Provider

    def token(self, user: str) -> str:
        return self.host.token(user)

    def connect(self, token: str) -> AbstractAsyncContextManager[Client]:
        return connect(
            self.host.socket_url, origin_url=self.host.url, headers=_bearer(token), hello=False
        )

    async def settle(self) -> None:
        """Nothing is to be done: a connection's commands are carried out one after the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Aws:
    """The functions, each in processes of its own."""

    functions: Functions
    emulator: Emulator
    provider: Provider

    def token(self, user: str) -> str:
        return self.functions.issuer.mint(user, ttl_s=900, now=time.time())

    def connect(self, token: str) -> AbstractAsyncContextManager[Client]:
        return connect(
            self.emulator.url,
            origin_url=self.functions.api.url,
            headers=_bearer(token),
            hello=False,
        )

    async def settle(self) -> None:
        await self.emulator.settle()


@asynccontextmanager
async def local_stage(folder: Path) -> AsyncIterator[Local]:
    """Run a local host whose model is the provider."""
    async with openai_endpoint() as endpoint:
        provider = Provider()
        endpoint.will(provider)
        async with local_host(
            folder,
            tenant=TENANT,
            openai_base_url=endpoint.base_url,
            **SETTINGS,
        ) as host:
            yield Local(host=host, provider=provider)


@asynccontextmanager
async def aws_stage(functions: Functions) -> AsyncIterator[Aws]:
    """Run the functions over tables and a bucket that are there; their model is the provider."""
    async with openai_endpoint() as endpoint:
        provider = Provider()
        endpoint.will(provider)
        variables = {
            variable("openai_base_url"): endpoint.base_url,
            **{variable(name): str(value) for name, value in SETTINGS.items()},
        }
        async with emulated_gateway(functions, **variables) as emulator:
            yield Aws(functions=functions, emulator=emulator, provider=provider)


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}

"""A whole local host in this process, on a free loopback port.

async with local_host(folder, model=puppet) as host, host.client() as client:
    ...
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import urljoin

import aiohttp
import uvicorn.server

from gateway.bootstrap import local as bootstrap
from gateway.bootstrap.local import LOCAL_AUDIENCE, LOCAL_ISSUER
from gateway.hosts.local import server
from gateway.hosts.local.limits import HostLimits
from gateway.hosts.local.sockets import Sockets
from gateway.identity.local_issuer import LocalIssuer
from gateway.settings import Settings
from streaming.models.chat_model import ChatModel
from tests.gateway.hosts.client import Client, connect
from tests.gateway.identity.forge import private_key

BOUND_S = 5.0
"""For how long anything is waited for."""


class Clock:
    """The time of day, which a test may put forward."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self._ahead

    def advance(self, seconds: float) -> None:
        self._ahead += seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """An HTTP answer, read whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalHost:
    """A host that accepts connections.

    Attributes:
        url: of its page, with a slash at the end.
        sockets: those that are open, to see what they hold.
        stop: set it to begin the end.
        ended: done once the end is over.
    """

    url: str
    settings: Settings
    issuer: LocalIssuer
    clock: Callable[[], float]
    sockets: Sockets
    stop: asyncio.Event
    ended: asyncio.Task[None]

    @property
    def origin(self) -> str:
        return self.url.removesuffix("/")

    @property
    def port(self) -> int:
        return int(self.origin.rpartition(":")[2])

    @property
    def socket_url(self) -> str:
        return f"{self.url.replace('http', 'ws', 1)}v1/ws"

    def token(self, user: str = "aiko", *, ttl_s: int = 3600, ago_s: float = 0.0) -> str:
        """Return a token that was minted some seconds ago."""
        return self.issuer.mint(user, ttl_s=ttl_s, now=self.clock() - ago_s)

    @asynccontextmanager
    async def client(
        self, user: str = "aiko", *, query: str = "", **how: Any
    ) -> AsyncIterator[Client]:
        """Connect as that user, unless `how` brings other headers (see `connect`)."""
        if not how.keys() & {"headers", "subprotocols"} and not query:
            how["headers"] = {"Authorization": f"Bearer {self.token(user)}"}
        async with connect(f"{self.socket_url}{query}", origin_url=self.url, **how) as client:
            yield client

    async def http(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Answered:
        """Ask for one thing over a connection of its own."""
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(BOUND_S)) as session,
            session.request(
                method, urljoin(self.url, path), headers=headers, data=body, allow_redirects=False
            ) as answer,
        ):
            return Answered(
                status=answer.status, headers=answer.headers.copy(), body=await answer.read()
            )


@asynccontextmanager
async def local_host(
    folder: Path,
    *,
    model: ChatModel | None = None,
    limits: HostLimits | None = None,
    clock: Callable[[], float] = time.time,
    **changed: Any,
) -> AsyncIterator[LocalHost]:
    """Run a host until the block is left, then wait for its end.

    Args:
        folder: of its data.
        changed: settings that differ from the defaults.
    """
    settings = Settings(
        data_dir=folder, port=0, **{"shutdown_s": 0.0, "scripted_pace": 0.0} | changed
    )
    sockets, stop = Sockets(), asyncio.Event()
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    key = private_key()  # making or reading one takes longer than most tests
    with (
        patch.object(server, "Sockets", lambda: sockets),
        patch.object(bootstrap, "load_or_create_key", lambda _: key),
    ):
        ended = asyncio.create_task(
            server.serve(
                settings,
                on_ready=ready.set_result,
                limits=limits,
                model=model,
                clock=clock,
                stop=stop,
            )
        )
        await asyncio.wait({ended, ready}, timeout=10, return_when=asyncio.FIRST_COMPLETED)
    if ended.done():
        ended.result()
    try:
        yield LocalHost(
            url=ready.result(),
            settings=settings,
            issuer=LocalIssuer(
                key, issuer=LOCAL_ISSUER, audience=LOCAL_AUDIENCE, tenant_id=settings.tenant
            ),
            clock=clock,
            sockets=sockets,
            stop=stop,
            ended=ended,
        )
    finally:
        stop.set()
        with patch.object(uvicorn.server, "asyncio", _Impatient()):
            async with asyncio.timeout(20):
                await ended


class _Impatient:
    """asyncio for uvicorn, which looks ten times a second whether to end, and then waits as long again."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / 10)

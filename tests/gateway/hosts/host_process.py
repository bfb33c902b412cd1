"""`makoto serve` as a process of its own, as an operator runs it."""

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

from gateway.bootstrap.local import KEY_FILE, LOCAL_AUDIENCE, LOCAL_ISSUER
from gateway.identity.local_issuer import LocalIssuer
from gateway.identity.local_key import load_or_create_key
from tests.gateway.hosts.client import Client, connect

MAKOTO = (sys.executable, "-c", "from gateway.cli.main import run; run()")
START_S = 20.0


def environment(**settings: str) -> dict[str, str]:
    """Return this environment without what would change the server's settings."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MAKOTO_", "OPENAI_", "AZURE_"))
    }
    return kept | settings


class HostProcess:
    """A running server.

    Attributes:
        url: of its page, with a slash at the end.
        issuer: mints its tokens.
    """

    def __init__(self, process: asyncio.subprocess.Process, url: str, issuer: LocalIssuer) -> None:
        self.url = url
        self.issuer = issuer
        self._process = process
        assert process.stderr is not None
        self._logging = asyncio.create_task(process.stderr.read())

    @asynccontextmanager
    async def client(self, user: str = "aiko", **how: Any) -> AsyncIterator[Client]:
        """Connect as that user."""
        token = self.issuer.mint(user, ttl_s=3600, now=time.time())
        async with connect(
            f"{self.url.replace('http', 'ws', 1)}v1/ws",
            origin_url=self.url,
            **{"headers": {"Authorization": f"Bearer {token}"}, **how},
        ) as client:
            yield client

    @property
    def pid(self) -> int:
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def ended(self) -> int:
        """Wait for the end of the process and return its exit code."""
        async with asyncio.timeout(20):
            return await self._process.wait()

    async def logged(self) -> str:
        """Return all that was logged, once the process has ended; every line of it is JSON."""
        await self.ended()
        text = (await self._logging).decode()
        for line in text.splitlines():
            assert orjson.loads(line).keys() >= {"at", "level", "from", "message"}
        return text


@asynccontextmanager
async def host_process(folder: Path, **settings: str) -> AsyncIterator[HostProcess]:
    """Run a server on a free port until the block is left.

    Args:
        folder: of its data.
        settings: environment variables.
    """
    process = await asyncio.create_subprocess_exec(
        *MAKOTO,
        *("serve", "--port", "0", "--data-dir", str(folder)),
        env=environment(**settings),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_S):
            greeting = await process.stdout.readuntil(b"/\nOpen http://127.0.0.1:")
            port = await process.stdout.readline()
        assert (b"scripted demo model" in greeting) is ("OPENAI_API_KEY" not in settings)
        number = re.match(rb"[0-9]+", port)
        assert number is not None
        issuer = LocalIssuer(
            load_or_create_key(folder / KEY_FILE),
            issuer=LOCAL_ISSUER,
            audience=LOCAL_AUDIENCE,
            tenant_id="default",
        )
        yield HostProcess(process, f"http://127.0.0.1:{int(number[0])}/", issuer)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()

"""The real local server as a process that may be killed, paused, starved of disk, and started again."""

import asyncio
import re
import resource
import signal
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

from gateway.bootstrap.local import KEY_FILE, LOCAL_AUDIENCE, LOCAL_ISSUER
from gateway.identity.local_issuer import LocalIssuer
from gateway.identity.local_key import load_or_create_key
from storage.sqlite.store import DATABASE
from tests.gateway.hosts.host_process import MAKOTO, START_S, environment

TENANT = "default"


class Server:
    """One server after the other on the same port and the same folder.

    Args:
        folder: of its data.
        settings: environment variables.
    """

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self.folder = folder
        self.port = 0
        self._settings = settings
        self._process: asyncio.subprocess.Process | None = None
        self._errors: asyncio.Task[bytes] | None = None
        self._issuer: LocalIssuer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @property
    def socket_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/v1/ws"

    def token(self, user: str) -> str:
        assert self._issuer is not None
        return self._issuer.mint(user, ttl_s=3600, now=time.time())

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *MAKOTO,
            *("serve", "--port", str(self.port), "--data-dir", str(self.folder)),
            env=environment(PYTHONFAULTHANDLER="1", **self._settings),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._errors = asyncio.create_task(self._process.stderr.read())
        try:
            async with asyncio.timeout(START_S):
                await self._process.stdout.readuntil(b"Open http://127.0.0.1:")
                number = re.match(rb"[0-9]+", await self._process.stdout.readline())
        except asyncio.IncompleteReadError:
            raise AssertionError((await self._errors).decode()[-2000:]) from None
        assert number is not None
        self.port = int(number[0])
        if self._issuer is None:
            self._issuer = LocalIssuer(
                load_or_create_key(self.folder / KEY_FILE),
                issuer=LOCAL_ISSUER,
                audience=LOCAL_AUDIENCE,
                tenant_id=TENANT,
            )

    async def kill(self) -> None:
        """End it at once, wherever it is."""
        self._signal(signal.SIGKILL)
        await self._ended()

    async def stop(self) -> None:
        """Let it wind down."""
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(20):
                await self._ended()
        except TimeoutError:
            self._signal(signal.SIGABRT)  # it says where it is
            logged = await self._ended()
            raise AssertionError(f"the server does not wind down: {logged}") from None

    async def pause(self, seconds: float) -> None:
        """Let it stand still."""
        self._signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._signal(signal.SIGCONT)

    async def without_disk(self, seconds: float) -> None:
        """Let no write to a file succeed."""
        self._limit_files(0)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._limit_files(resource.RLIM_INFINITY)

    async def locked(self, seconds: float) -> None:
        """Hold the write lock of its database."""
        path = self.folder / DATABASE

        def hold() -> None:
            with closing(sqlite3.connect(path, isolation_level=None, timeout=1.0)) as other:
                with suppress(sqlite3.OperationalError):
                    other.execute("BEGIN IMMEDIATE")
                time.sleep(seconds)

        await asyncio.to_thread(hold)

    async def end(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._signal(signal.SIGCONT)
            await self.kill()

    def _limit_files(self, size: int) -> None:
        assert self._process is not None
        with suppress(ProcessLookupError):
            hard = resource.RLIM_INFINITY
            resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (size, hard))

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(number)

    async def _ended(self) -> str:
        """Wait for the end; return the last of what it has logged."""
        assert self._process is not None
        assert self._errors is not None
        await self._process.wait()
        return (await self._errors).decode(errors="replace")[-6_000:]


@asynccontextmanager
async def serving(folder: Path, **settings: str) -> AsyncIterator[Server]:
    """Run a server until the block is left.

    Args:
        folder: of its data.
        settings: environment variables.
    """
    server = Server(folder, settings)
    try:
        await server.start()
        yield server
    finally:
        await server.end()

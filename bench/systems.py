"""The systems that are measured: how each is started and how a client reaches it."""

import base64
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from itertools import cycle
from pathlib import Path
from typing import Protocol

import orjson

from bench import process
from bench.lines import DirectLine, GatewayLine, Line, RelayLine
from bench.process import Process
from gateway.identity.local_issuer import LocalIssuer
from gateway.identity.local_key import load_or_create_key

ROOT = Path(__file__).parent.parent
NODE_RELAY = Path(__file__).parent / "relays" / "node"
MAKOTO = Path(sys.executable).with_name("makoto")
INSTALL_SECONDS = 60
TOKEN_SECONDS = 20
USERS = 128  # more than there are sessions, so that no two streams are of one user


class UnavailableError(RuntimeError):
    """A system cannot run here; the text says why."""


class System(Protocol):
    """One way from a client to the provider.

    Attributes:
        name: its column in the tables.
    """

    name: str

    def start(self, provider: Process, core: int | None) -> Process | None:
        """Start its server; None when there is none, as straight to the provider."""

    async def open(self) -> Line:
        """Connect one more client."""

    def stop(self) -> None:
        """End what `start` began."""


def start_provider(core: int | None) -> Process:
    """Start the fake provider."""
    command = [sys.executable, "-m", "bench.provider"]
    return process.start(command, core=core, environment={}, folder=ROOT)


def _upstream(provider: Process) -> Mapping[str, str]:
    return {
        "OPENAI_BASE_URL": f"http://127.0.0.1:{provider.port}/v1",
        "OPENAI_API_KEY": "sk-bench",
    }


class Direct:
    """No system at all: the client asks the provider itself."""

    name = "direct"

    def start(self, provider: Process, core: int | None) -> Process | None:
        self._port = provider.port
        return None

    async def open(self) -> Line:
        return await DirectLine.open(self._port)

    def stop(self) -> None:
        pass


class FastApiRelay:
    """FastAPI under uvicorn, and the openai SDK."""

    name = "FastAPI + SDK"

    def __init__(self, *, deflate: bool) -> None:
        self._deflate = deflate

    def start(self, provider: Process, core: int | None) -> Process | None:
        command = [sys.executable, "-m", "bench.relays.fastapi_relay"]
        self._server = process.start(
            command, core=core, environment=_upstream(provider), folder=ROOT
        )
        return self._server

    async def open(self) -> Line:
        return await RelayLine.open(self._server.port, deflate=self._deflate)

    def stop(self) -> None:
        self._server.stop()


class NodeRelay:
    """Node with `ws` and fetch; its one package is installed on first use.

    Raises:
        UnavailableError: there is no Node.js here, or the package cannot be installed.
    """

    name = "Node ws"

    def __init__(self, *, deflate: bool) -> None:
        self._deflate = deflate
        if not (shutil.which("node") and shutil.which("npm")):
            raise UnavailableError("Node.js and npm are not installed (apt install nodejs npm)")
        if not (NODE_RELAY / "node_modules" / "ws").is_dir():
            self._install()

    def start(self, provider: Process, core: int | None) -> Process | None:
        command = ["node", "relay.mjs"]
        self._server = process.start(
            command, core=core, environment=_upstream(provider), folder=NODE_RELAY
        )
        return self._server

    async def open(self) -> Line:
        return await RelayLine.open(self._server.port, deflate=self._deflate)

    def stop(self) -> None:
        self._server.stop()

    @staticmethod
    def _install() -> None:
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        try:
            subprocess.run(
                command, cwd=NODE_RELAY, check=True, capture_output=True, timeout=INSTALL_SECONDS
            )
        except (subprocess.SubprocessError, OSError) as exc:
            raise UnavailableError(
                f"`npm ci` in {NODE_RELAY.relative_to(ROOT)} failed: {exc}"
            ) from exc


class Gateway:
    """Makoto itself: authentication, parsing, the run log and storage on, as `make serve` has it.

    Raises:
        UnavailableError: the `makoto` command is not installed beside this interpreter.
    """

    name = "makoto"
    program: tuple[str, ...] = (str(MAKOTO),)

    def __init__(self, *, deflate: bool) -> None:
        self._deflate = deflate
        if not MAKOTO.exists():
            raise UnavailableError("no `makoto` command beside this Python")

    def start(self, provider: Process, core: int | None) -> Process | None:
        self._data = tempfile.TemporaryDirectory(prefix="makoto-bench-")
        environment = {**_upstream(provider), "MAKOTO_DATA_DIR": self._data.name}
        command = [*self.program, "serve", "--port", "0"]
        try:
            self._server = process.start(command, core=core, environment=environment, folder=ROOT)
        except process.NotStartedError:
            self._data.cleanup()
            raise
        try:
            self._tokens = cycle(self._one_token_each(self._ask_token(environment)))
        except (process.NotStartedError, ValueError):
            self.stop()
            raise
        return self._server

    async def open(self) -> Line:
        token = next(self._tokens)
        return await GatewayLine.open(self._server.port, "/v1/ws", token, deflate=self._deflate)

    def stop(self) -> None:
        self._server.stop()
        self._data.cleanup()

    def _ask_token(self, environment: Mapping[str, str]) -> str:
        done = subprocess.run(
            [str(MAKOTO), "token"],
            env={**os.environ, **environment},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=TOKEN_SECONDS,
        )
        if done.returncode:
            raise process.NotStartedError(f"`makoto token` failed: {done.stderr.strip()}")
        return done.stdout.split()[-1]

    def _one_token_each(self, token: str) -> list[str]:
        """Mint a token for every user, like the one that was asked for.

        A user may have a few answers under way at a time, so a hundred streams are of a hundred
        users; asking the command for each would take longer than the measurement.
        """
        part = token.split(".")[1]
        claims = orjson.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        key = next(Path(self._data.name).rglob("*.pem"), None)
        if key is None:
            raise process.NotStartedError("the gateway left no signing key in its data folder")
        issuer = LocalIssuer(
            load_or_create_key(key),
            issuer=claims["iss"],
            audience=claims["client_id"],
            tenant_id="bench",  # which tenant the issuer stands for is the server's to say
        )
        now = time.time()
        return [issuer.mint(f"bench-{user}", ttl_s=900, now=now) for user in range(USERS)]


class Unlogged(Gateway):
    """Makoto with a run log that keeps nothing: what it costs to log is the difference."""

    name = "without the log"
    program = (sys.executable, "-m", "bench.unlogged_server")


def available(*, deflate: bool) -> tuple[list[System], list[str]]:
    """Find out which systems can run here.

    Returns:
        The systems, and for each missing one a line that says why.
    """
    kinds: tuple[Callable[..., System], ...] = (Gateway, FastApiRelay, NodeRelay)
    systems: list[System] = [Direct()]
    missing: list[str] = []
    for make in kinds:
        try:
            systems.append(make(deflate=deflate))
        except UnavailableError as exc:
            missing.append(f"{make.__name__}: {exc}")
    return systems, missing

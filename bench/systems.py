"""The systems that are measured: how each is started and how a client reaches it."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from bench import process
from bench.lines import DirectLine, GatewayLine, Line, RelayLine
from bench.process import Process

ROOT = Path(__file__).parent.parent
NODE_RELAY = Path(__file__).parent / "relays" / "node"
INSTALL_SECONDS = 60
TOKEN_SECONDS = 20


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

    def __init__(self, *, deflate: bool) -> None:
        self._deflate = deflate
        self._command = Path(sys.executable).with_name("makoto")
        if not self._command.exists():
            raise UnavailableError("no `makoto` command beside this Python")

    def start(self, provider: Process, core: int | None) -> Process | None:
        self._data = tempfile.TemporaryDirectory(prefix="makoto-bench-")
        environment = {**_upstream(provider), "MAKOTO_DATA": self._data.name}
        try:
            self._server = process.start(
                [str(self._command), "serve", "--port", "0"],
                core=core,
                environment=environment,
                folder=ROOT,
            )
        except process.NotStartedError:
            self._data.cleanup()
            raise
        try:
            self._token = self._ask_token(environment)
        except BaseException:
            self.stop()
            raise
        return self._server

    async def open(self) -> Line:
        return await GatewayLine.open(
            self._server.port, "/v1/ws", self._token, deflate=self._deflate
        )

    def stop(self) -> None:
        self._server.stop()
        self._data.cleanup()

    def _ask_token(self, environment: Mapping[str, str]) -> str:
        done = subprocess.run(
            [str(self._command), "token"],
            env={**os.environ, **environment},
            check=True,
            capture_output=True,
            text=True,
            timeout=TOKEN_SECONDS,
        )
        return done.stdout.split()[-1]


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

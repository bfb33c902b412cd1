"""Programs that stand in for AWS, as child processes on loopback.

Each is a context manager that waits until the program answers and stops it, by its process id, at the
end; `tests/conftest.py` has a fixture of each for the whole session. `tests/install-engines.sh` brings
them. Each keeps its data in memory or in a folder of its own, and takes any credentials but for s3rver.
"""

import ctypes
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO

import pytest

ENGINES = Path(sys.prefix) / "engines"

_START_S = 60
_TRIES = 3

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1
"""See prctl(2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A running engine, to be asked at `url` (`http://127.0.0.1:{port}`)."""

    name: str
    port: int
    process_id: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def dynoxide() -> Iterator[Engine]:
    """DynamoDB, the strictest there is; starts in 10 ms. Forgets all at the end."""
    program = _program(ENGINES / "node_modules/@dynoxide/linux-x64/dynoxide")
    with _serving(
        "dynoxide", lambda port: [program, "serve", "--host", "127.0.0.1", "--port", str(port)]
    ) as engine:
        yield engine


@contextmanager
def moto_server() -> Iterator[Engine]:
    """DynamoDB, S3, SQS, SSM, Secrets Manager, Cognito and more; starts in 2 s. Forgets all at the end."""
    if find_spec("moto") is None:
        _missing("moto")
    script = str(Path(__file__).with_name("moto_program.py"))
    with _serving(
        "moto",
        lambda port: [sys.executable, script, str(port)],
        environment=lambda port: {"MOTO_PORT": str(port)},
    ) as engine:
        yield engine


@contextmanager
def s3rver(*options: str) -> Iterator[Engine]:
    """S3 that refuses tampered and expired presigned URLs and applies CORS rules; starts in 0.5 s.

    Knows one access key only, `S3RVER` with the secret `S3RVER`. Address buckets by path.

    Args:
        options: such as `--configure-bucket=NAME`, which makes a bucket, then a CORS file for it.
    """
    script = _program(ENGINES / "node_modules/s3rver/bin/s3rver.js")
    node = shutil.which("node") or _missing("node")
    with (
        tempfile.TemporaryDirectory(prefix="s3rver-") as folder,
        _serving(
            "s3rver",
            lambda port: [
                *(node, script, "--directory", folder, "--no-vhost-buckets"),
                *("--address", "127.0.0.1", "--port", str(port), *options),
            ],
        ) as engine,
    ):
        yield engine


@contextmanager
def ministack(**environment: str) -> Iterator[Engine]:
    """The whole of AWS that the template needs, Lambda functions included; starts in 0.5 s.

    Its functions run on this machine, with MiniStack's interpreter and packages.

    Args:
        environment: more variables, of MiniStack and its functions.
    """
    program = _program(ENGINES / "ministack/bin/ministack")
    with (
        tempfile.TemporaryDirectory(prefix="ministack-") as folder,
        _serving(
            "ministack",
            lambda _: [program],
            environment=lambda port: {
                "BIND_HOST": "127.0.0.1",  # else it listens on every interface
                "GATEWAY_PORT": str(port),
                "MINISTACK_HOST": "127.0.0.1",
                "SFTP_ENABLED": "0",
                "IOT_MTLS_ENABLED": "0",
                "TMPDIR": folder,
                "STATE_DIR": folder,  # of its user pools' keys
                **environment,
            },
            folder=folder,
        ) as engine,
    ):
        yield engine


def _program(path: Path) -> str:
    return str(path) if path.is_file() else _missing(path.name)


def _missing(name: str) -> str:
    reason = f"{name} is missing: sh tests/install-engines.sh"
    return pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)


@contextmanager
def _serving(
    name: str,
    command: Callable[[int], Sequence[str]],
    *,
    environment: Callable[[int], Mapping[str, str]] = lambda _: {},
    folder: str | None = None,
) -> Iterator[Engine]:
    """Start the command with a free port until it answers, and stop it and its children at the end."""
    with tempfile.TemporaryFile() as output:
        for _ in range(_TRIES):
            port = _free_port()
            process = subprocess.Popen(
                command(port),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment(port)},
                cwd=folder,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
            try:
                if _answers(port, process, output):
                    yield Engine(name=name, port=port, process_id=process.pid)
                    return
            finally:
                _stop(process)
        pytest.fail(f"{name} ends at its start: {_said(output)}")


def _end_with_parent() -> None:
    """Let Linux end this child when its parent does, as pytest-timeout ends it, without a word."""
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _answers(port: int, process: "subprocess.Popen[bytes]", output: IO[bytes]) -> bool:
    """Wait for an HTTP answer, whatever it says; false when the program has ended (the port was taken)."""
    deadline = time.monotonic() + _START_S
    while process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/")
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            assert time.monotonic() < deadline, f"no answer: {_said(output)}"
            time.sleep(0.01)
        else:
            return True
        finally:
            connection.close()
    return False


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End the process and what it started: it leads a process group of its own."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)


def _said(output: IO[bytes]) -> str:
    output.seek(0)
    return output.read()[-2000:].decode(errors="replace")

"""`makoto serve` as a child process, as an operator runs it."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

MAKOTO = Path(sys.executable).with_name("makoto")
_OURS = ("MAKOTO_", "OPENAI_", "AZURE_OPENAI_")


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayProcess:
    """A running gateway.

    Attributes:
        port: on 127.0.0.1.
        settings: its environment, for other subcommands that belong to it.
        log: file of its log lines.
    """

    port: int
    settings: Mapping[str, str]
    log: Path

    def token(self, user: str = "aiko") -> str:
        """Return what `makoto token` prints."""
        printed = subprocess.run(
            [MAKOTO, "token", "--user", user],
            env=environment(self.settings),
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
        return printed.stdout.strip()


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment with these settings of ours and no others."""
    others = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    return others | settings


@contextmanager
def running_gateway(data: Path, **settings: str) -> Iterator[GatewayProcess]:
    """Start one on a free port and stop it as systemd would; it must then exit with 0."""
    chosen = {
        "MAKOTO_DATA_DIR": str(data),
        "MAKOTO_PORT": "0",
        "MAKOTO_SHUTDOWN_S": "0.5",
        **settings,
    }
    log = data.with_name(data.name + ".log")
    with (
        log.open("ab") as stderr,
        subprocess.Popen(
            [MAKOTO, "serve"],
            env=environment(chosen),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as process,
    ):
        try:
            yield GatewayProcess(port=_port_of(process, log), settings=chosen, log=log)
        finally:
            process.terminate()
            try:
                code = process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
    assert code == 0, log.read_text("utf-8")


def _port_of(process: "subprocess.Popen[str]", log: Path) -> int:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("Open "):
            port = urlsplit(line.split()[1]).port
            assert port is not None
            return port
    raise AssertionError("the gateway did not start: " + log.read_text("utf-8"))

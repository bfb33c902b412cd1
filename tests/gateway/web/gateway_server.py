"""`makoto serve` for the browser: it can be killed and started again on the same port and data."""

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

MAKOTO = Path(sys.executable).with_name("makoto")
_SETTINGS = ("MAKOTO_", "OPENAI_", "AZURE_OPENAI_")


class GatewayServer:
    """One server over its lives. Stop it in the end."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self.data = folder / "data"
        self._log = folder / "gateway.log"
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(_SETTINGS)}
        self._environment = inherited | {
            "MAKOTO_DATA_DIR": str(self.data),
            "MAKOTO_SHUTDOWN_S": "0.2",
            **settings,
        }
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    def start(self) -> None:
        """Start it, the second time on the port of the first."""
        port = urlsplit(self.url).port or 0
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [MAKOTO, "serve", "--port", str(port)],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("Open "):
                self.url = line.split()[1]
                return
        raise AssertionError("the gateway did not start: " + self.log())

    @property
    def port(self) -> int:
        """Where it listens."""
        port = urlsplit(self.url).port
        assert port is not None
        return port

    def token(self, user: str) -> str:
        """Return what `makoto token` prints."""
        command = [MAKOTO, "token", "--user", user]
        printed = subprocess.run(
            command, env=self._environment, capture_output=True, text=True, check=True, timeout=30
        )
        return printed.stdout.strip()

    def log(self) -> str:
        """Return what it has logged in all its lives."""
        return self._log.read_text("utf-8")

    def kill(self) -> None:
        """End it with SIGKILL: it gets no chance to write anything."""
        assert self._process is not None
        self._process.kill()
        self.wait()

    def stop(self) -> None:
        """End it as an operator would."""
        if self._process is not None:
            self.ask_to_stop()
            self.wait()

    def ask_to_stop(self) -> None:
        """Send it SIGTERM; `wait` has to follow."""
        assert self._process is not None
        self._process.terminate()

    def wait(self) -> None:
        """Wait until it has ended."""
        process, self._process = self._process, None
        assert process is not None
        with process:
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                raise

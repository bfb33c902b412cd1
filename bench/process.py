"""The processes that are measured: started on a core of their own, read from /proc, ended by pid."""

import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

START_SECONDS = 20.0
STOP_SECONDS = 8.0
CPUCLOCK_SCHED = 2  # include/linux/posix-timers_types.h: nanoseconds of all threads, dead ones too

_PORT = re.compile(rb"127\.0\.0\.1:(\d+)")


@dataclass(frozen=True, slots=True)
class Cores:
    """Which core the measured server has to itself and which the rest shares; None: no pinning."""

    server: int | None
    others: int | None

    def __str__(self) -> str:
        if self.server is None:
            return "no pinning: too few cores"
        return f"server on core {self.server}, clients and provider on core {self.others}"


def choose_cores() -> Cores:
    """Give the server the first core allowed to this process, everything else the last."""
    if not hasattr(os, "sched_getaffinity"):
        return Cores(None, None)
    allowed = sorted(os.sched_getaffinity(0))
    return Cores(allowed[0], allowed[-1]) if len(allowed) > 1 else Cores(None, None)


@contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Run the body on one core; a process started in it inherits that."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class NotStartedError(RuntimeError):
    """A server ended, or named no port in time; the text ends with what it printed last."""


class Process:
    """A started server; call `stop` when done with it, always.

    Attributes:
        pid: its process id.
        port: the loopback port that it named in its output.
    """

    def __init__(self, process: subprocess.Popen[bytes], output: IO[bytes], port: int) -> None:
        self._process = process
        self._output = output
        self.pid = process.pid
        self.port = port

    def cpu(self) -> float:
        """Return the seconds of CPU used so far by all its threads, and by its children."""
        return sum(time.clock_gettime((~pid << 3) | CPUCLOCK_SCHED) for pid in _tree(self.pid))

    def resident(self) -> int:
        """Return the bytes resident in memory, its children's included."""
        page = os.sysconf("SC_PAGE_SIZE")
        return sum(
            int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page for pid in _tree(self.pid)
        )

    def printed(self) -> str:
        """Return the last lines of its output, to explain a failure."""
        size = os.fstat(self._output.fileno()).st_size
        last = os.pread(self._output.fileno(), 4096, max(0, size - 4096))
        return " | ".join(last.decode(errors="replace").strip().splitlines()[-5:])

    def stop(self) -> None:
        """Ask it to end, wait a bounded time, then kill it."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._output.close()


def _tree(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    found = map(int, children.read_text().split()) if children.exists() else ()
    return [pid, *(one for child in found for one in _tree(child))]


def start(
    command: Sequence[str], *, core: int | None, environment: Mapping[str, str], folder: Path
) -> Process:
    """Start a server and wait until its output names `127.0.0.1:<port>`.

    Args:
        command: program and arguments.
        core: where to pin it, None for nowhere.
        environment: variables on top of this process's own.
        folder: its working folder.

    Raises:
        NotStartedError: it ended, or named no port in time; the text ends with what it printed last.
    """
    output = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
    with pinned(core):
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            cwd=folder,
        )
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if found := _PORT.search(os.pread(output.fileno(), 65536, 0)):
            return Process(process, output, int(found[1]))
        if process.poll() is not None:
            break
        time.sleep(0.01)
    failed = Process(process, output, 0)
    printed = failed.printed()
    failed.stop()
    raise NotStartedError(f"{command[0]} did not start: {printed}")

"""Worker processes: each runs one function, one invocation at a time, and is frozen in between."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import Any, Final

from gateway.emulator.output import Lines, Output, pass_on

BOOTSTRAP: Final = Path(__file__).with_name("bootstrap.py")

UNHANDLED: Final = "Unhandled"

_ABSENT: Final = frozenset(
    {"Runtime.ImportModuleError", "Runtime.HandlerNotFound", "Runtime.MalformedHandlerName"}
)

_LENGTHS: Final = Struct("!II")

_EXIT_S: Final = 5.0
"""How long a process may take to end after it has closed its side of the socket."""

_LAST_LINES_S: Final = 1.0
"""How long the end of what a killed process printed is waited for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an invocation ended.

    Attributes:
        payload: what the function returned, or the error as JSON.
        error: `Unhandled` for an error; empty for none.
    """

    payload: bytes
    error: str = ""


class WorkerDiedError(Exception):
    """The process ended in the middle; the text says how, as Lambda does."""


class NotStartedError(Exception):
    """The handler cannot be imported. The text is one line.

    Attributes:
        payload: the error as JSON.
        is_absent: whether there is no such module or function.
    """

    def __init__(self, payload: bytes) -> None:
        error = json.loads(payload)  # noqa: TID251 - of our own making
        kind, message = error["errorType"], " ".join(error["errorMessage"].split())
        super().__init__(
            message if kind.startswith(("Runtime.", "Sandbox.")) else f"{kind}: {message}"
        )
        self.payload = payload
        self.is_absent = kind in _ABSENT


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How the processes of a function are started.

    Attributes:
        name: of the function.
        handler: to import, `module:function`.
        arn: of the function.
        environment: all variables of its processes.
        root: folder that handlers are imported from and run in.
        init_s: how long importing may take, in seconds.
        output: gets what is printed.
    """

    name: str
    handler: str
    arn: str
    environment: Mapping[str, str]
    root: Path
    init_s: float
    output: Output


class Worker:
    """One process. It is started by making this, and ended by `kill`, which must be called.

    Its group is its own, so that `kill` takes along what a handler has started, and so that Ctrl-C in a
    terminal is the emulator's alone. While no invocation runs it is stopped (SIGSTOP), as Lambda freezes
    an environment: background work stands still, open connections are not read.

    Args:
        launch: what is started, and how.

    Raises:
        NotStartedError: this machine has no room for another process.
    """

    def __init__(self, launch: Launch) -> None:
        self._launch = launch
        self._socket, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = _spawn(launch, theirs.fileno())
        except OSError as exc:
            self._socket.close()
            raise NotStartedError(error_payload("Runtime.InvalidEntrypoint", str(exc))) from exc
        self._writer: asyncio.StreamWriter | None = None
        self._printed: tuple[asyncio.ReadTransport, Lines] | None = None

    async def open(self) -> None:
        """Wait until the handler is imported. Needed once, before anything is invoked.

        Raises:
            NotStartedError: it cannot be imported, or not in time.
        """
        self._reader, self._writer = await asyncio.open_unix_connection(sock=self._socket)
        assert self._process.stdout is not None
        self._printed = await pass_on(self._process.stdout, self._launch.name, self._launch.output)
        try:
            async with asyncio.timeout(self._launch.init_s):
                said, body = await self._receive()
        except TimeoutError:
            text = f"Init phase timed out after {self._launch.init_s:.2f} seconds"
            raise NotStartedError(error_payload("Sandbox.Timedout", text)) from None
        except (OSError, asyncio.IncompleteReadError):
            text = await self._how_it_ended()
            raise NotStartedError(error_payload("Runtime.ExitError", text)) from None
        if not said["ready"]:
            raise NotStartedError(body)
        self._freeze()

    @property
    def is_alive(self) -> bool:
        """Whether the process is there."""
        if self._process.returncode is None and self._process.poll() is not None:
            self._clear_up()
        return self._process.returncode is None

    @property
    def process_id(self) -> int:
        """Return its id."""
        return self._process.pid

    async def invoke(self, event: bytes, *, request_id: str, deadline: float) -> Outcome:
        """Run one invocation. If this is cancelled, the process must be killed.

        Args:
            event: JSON.
            request_id: of the invocation.
            deadline: what the context counts down to, Unix time in seconds.

        Raises:
            WorkerDiedError: the process ended.
        """
        assert self._writer is not None, "open it first"
        head = {"request_id": request_id, "arn": self._launch.arn, "deadline": deadline}
        try:
            self._signal(signal.SIGCONT)
            packed = json.dumps(head).encode()
            self._writer.write(_LENGTHS.pack(len(packed), len(event)) + packed + event)
            await self._writer.drain()
            said, body = await self._receive()
        except (OSError, asyncio.IncompleteReadError):
            raise WorkerDiedError(await self._how_it_ended()) from None
        self._freeze()
        return Outcome(payload=body, error="" if said["ok"] else UNHANDLED)

    def strike(self) -> None:
        """Kill the process and all of its group now; whoever awaits an invocation is told."""
        if self._process.returncode is None:  # after that its number may be another's
            self._signal(signal.SIGKILL)

    async def kill(self) -> None:
        """Kill the process and all of its group, and wait for its end and for what it printed."""
        self.strike()
        await asyncio.to_thread(self._reap)
        self._socket.close() if self._writer is None else self._writer.close()
        if self._printed is None:
            assert self._process.stdout is not None
            self._process.stdout.close()
            return
        pipe, lines = self._printed
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_LINES_S):
                await lines.ended.wait()
        pipe.close()

    def _freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def _signal(self, sign: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):  # the latter on macOS, for zombies
            os.killpg(self._process.pid, sign)

    def _reap(self, timeout: float | None = None) -> int:
        """Wait for the end of the process, and kill what it has left of its group."""
        ended_before = self._process.returncode is not None
        code = self._process.wait(timeout)
        if not ended_before:
            self._clear_up()
        return code

    def _clear_up(self) -> None:
        """Called right after the process was reaped: its number is not given to another so soon."""
        self._signal(signal.SIGKILL)

    async def _receive(self) -> tuple[dict[str, Any], bytes]:
        of_head, of_body = _LENGTHS.unpack(await self._reader.readexactly(_LENGTHS.size))
        head = json.loads(await self._reader.readexactly(of_head))  # noqa: TID251 - of our own making
        return head, await self._reader.readexactly(of_body)

    async def _how_it_ended(self) -> str:
        """Return Lambda's words for the end of the process, which has closed its side of the socket."""
        try:
            code = await asyncio.to_thread(self._reap, _EXIT_S)
        except subprocess.TimeoutExpired:
            self.strike()
            code = await asyncio.to_thread(self._reap)
        if code < 0:
            return f"Runtime exited with error: signal: {(signal.strsignal(-code) or '').lower()}"
        return f"Runtime exited with error: exit status {code}"


def error_payload(kind: str, message: str) -> bytes:
    """Return the JSON of an error that is no exception of the handler."""
    return json.dumps({"errorType": kind, "errorMessage": message}).encode()


def _spawn(launch: Launch, descriptor: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(  # noqa: S603 - our bootstrap; the handler is what this is for
        [
            *(sys.executable, "-u", "-P", str(BOOTSTRAP)),
            *(str(descriptor), launch.handler, str(launch.root)),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=launch.root,
        env=dict(launch.environment),
        pass_fds=(descriptor,),
        process_group=0,
    )

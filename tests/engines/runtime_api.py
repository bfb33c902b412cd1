"""Lambda on loopback: our handlers in `awslambdaric`, Amazon's own runtime client, one process per function.

`LambdaFunction` is the Runtime API that the client polls
(https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html) and the process that polls it. As on
Lambda, a process has one invocation at a time and stays between them; it is not frozen, which a test that
needs it does with SIGSTOP.
"""

import os
import queue
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any

import orjson

ROOT = Path(__file__).parents[2]

_NEXT = "/2018-06-01/runtime/invocation/next"
_RESULT = "/2018-06-01/runtime/invocation/"
_ARN = "arn:aws:lambda:eu-central-1:000000000000:function:test"
_INIT_ERROR = "/2018-06-01/runtime/init/error"


class FunctionError(Exception):
    """The handler has raised, or the process ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Invocation:
    request_id: str
    event: bytes
    deadline_ms: int


class LambdaFunction:
    """One function; see `lambda_function`.

    Attributes:
        starts: how many processes it has had.
    """

    def __init__(self, handler: str, environ: Mapping[str, str], output: IO[bytes]) -> None:
        self._handler = handler
        self._environ = environ
        self._output = output
        self._turn = threading.Lock()
        self._process: _Process | None = None
        self.starts = 0

    def invoke(self, event: object, *, timeout_s: float = 30.0) -> Any:
        """Run the handler and return what it returns, in the process there is or a new one.

        Args:
            event: what it gets, once as JSON; `bytes` as they are.
            timeout_s: of the function: the process is killed when it is over.

        Raises:
            FunctionError: the handler raised, or did not end in time.
        """
        body = event if isinstance(event, bytes) else orjson.dumps(event)
        with self._turn:
            try:
                return self.start().invoke(body, timeout_s)
            except _EndedError as exc:
                self.kill()
                raise FunctionError(f"{exc}: {self.said()[-2000:]}") from None

    def start(self) -> "_Process":
        """Start a process, if none runs; the next invocation would do it."""
        if self._process is None:
            self.starts += 1
            self._process = _Process(self._handler, self._environ, self._output)
        return self._process

    def kill(self) -> None:
        """End the process at once, as Lambda does with one that is not needed."""
        process, self._process = self._process, None
        if process is not None:
            process.stop()

    def said(self) -> str:
        """Return what the function has logged."""
        return Path(self._output.name).read_text(errors="replace")


class _EndedError(Exception):
    """The process is no more, or shall be no more."""


class _Process:
    """A process of the runtime client, and the Runtime API that is its own."""

    def __init__(self, handler: str, environ: Mapping[str, str], output: IO[bytes]) -> None:
        self._waiting: queue.Queue[_Invocation | None] = queue.Queue()
        self._results: queue.Queue[tuple[str, bool, bytes]] = queue.Queue()
        self._polled = threading.Event()
        self._server = _Server(self)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "awslambdaric", handler],
            cwd=ROOT,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(ROOT),
                "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self._server.server_port}",
                "AWS_LAMBDA_FUNCTION_NAME": handler.split(".")[-2],
                **environ,
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def invoke(self, event: bytes, timeout_s: float) -> Any:
        request_id = str(uuid.uuid4())
        deadline_ms = int((time.time() + timeout_s) * 1000)
        self._waiting.put(_Invocation(request_id=request_id, event=event, deadline_ms=deadline_ms))
        until = time.monotonic() + timeout_s
        while True:
            try:
                answered, failed, body = self._results.get(timeout=0.1)
            except queue.Empty:
                if self._popen.poll() is not None:
                    raise _EndedError("the process ended") from None
                if time.monotonic() > until:
                    raise _EndedError("Task timed out") from None
                continue
            assert answered == request_id
            if failed:
                raise FunctionError(body.decode())
            return orjson.loads(body) if body else None

    def wait_ready(self, *, timeout_s: float = 30.0) -> None:
        """Wait until the process asks for its first event: what Lambda calls its init phase is over."""
        assert self._polled.wait(timeout_s), "the process does not start"

    def stop(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait(timeout=10)
        self._waiting.put(None)
        self._server.shutdown()
        self._server.server_close()

    # Called by the server's threads

    def next_invocation(self) -> _Invocation | None:
        self._polled.set()
        return self._waiting.get()

    def ended(self, request_id: str, *, failed: bool, body: bytes) -> None:
        self._results.put((request_id, failed, body))


@contextmanager
def lambda_function(
    handler: str, environ: Mapping[str, str], *, logs: Path
) -> Iterator[LambdaFunction]:
    """Run a handler, such as `gateway.hosts.aws.message.handler`, with these variables until the end.

    Args:
        handler: its module and name.
        environ: what the template would give it.
        logs: a folder.
    """
    with (logs / f"{handler}.log").open("ab") as output:
        function = LambdaFunction(handler, environ, output)
        try:
            yield function
        finally:
            function.kill()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, process: _Process) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.process = process


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def handle(self) -> None:
        with suppress(OSError):  # the process was killed
            super().handle()

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        assert self.path == _NEXT, self.path
        invocation = self.server.process.next_invocation()
        if invocation is None:
            self.close_connection = True
            return
        self._answer(
            200,
            invocation.event,
            {
                "Content-Type": "application/json",
                "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
                "Lambda-Runtime-Deadline-Ms": str(invocation.deadline_ms),
                "Lambda-Runtime-Invoked-Function-Arn": _ARN,
            },
        )

    def do_POST(self) -> None:
        body = self._body()
        if self.path.startswith(_RESULT):
            request_id, _, kind = self.path.removeprefix(_RESULT).partition("/")
            self._answer(202, b"{}", {})
            self.server.process.ended(request_id, failed=kind == "error", body=body)
        else:
            assert self.path == _INIT_ERROR, self.path
            self._answer(202, b"{}", {})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = bytearray()
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return bytes(body)

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

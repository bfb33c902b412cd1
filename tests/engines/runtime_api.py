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
    """One running function; see `lambda_function`.

    Attributes:
        process: where the handler runs; the next invocation after its end starts another.
        starts: how many processes there were.
    """

    def __init__(self, handler: str, environ: Mapping[str, str], output: IO[bytes]) -> None:
        self._handler = handler
        self._environ = environ
        self._output = output
        self._waiting: queue.Queue[_Invocation | None] = queue.Queue()
        self._results: queue.Queue[tuple[str, bool, bytes]] = queue.Queue()
        self._server = _Server(self)
        self._turn = threading.Lock()
        self._number = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.starts = 0
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def invoke(self, event: object, *, timeout_s: float = 30.0) -> Any:
        """Run the handler and return what it returns.

        Args:
            event: what it gets, once as JSON; `bytes` as they are.
            timeout_s: of the function: the process is killed when it is over.

        Raises:
            FunctionError: the handler raised, or did not end in time.
        """
        with self._turn:
            self._start()
            self._number += 1
            request_id = f"00000000-0000-4000-8000-{self._number:012}"
            self._waiting.put(
                _Invocation(
                    request_id=request_id,
                    event=event if isinstance(event, bytes) else orjson.dumps(event),
                    deadline_ms=int((time.time() + timeout_s) * 1000),
                )
            )
            return self._result(request_id, time.monotonic() + timeout_s)

    def said(self) -> str:
        """Return what the function has logged."""
        self._output.flush()
        return Path(self._output.name).read_text(errors="replace")

    def kill(self) -> None:
        """End the process at once, as Lambda does with one that is not needed."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(timeout=10)
            self.process = None

    def stop(self) -> None:
        self._waiting.put(None)
        self.kill()
        self._server.shutdown()
        self._server.server_close()

    def _start(self) -> None:
        if self.process is not None and self.process.poll() is None:
            return
        self.starts += 1
        self.process = subprocess.Popen(
            [sys.executable, "-m", "awslambdaric", self._handler],
            cwd=ROOT,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(ROOT),
                "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self._server.server_port}",
                "AWS_LAMBDA_FUNCTION_NAME": self._handler.split(".")[-2],
                "AWS_REGION": "eu-central-1",
                "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
                "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
                **self._environ,
            },
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def _result(self, request_id: str, until: float) -> Any:
        while True:
            assert self.process is not None
            try:
                answered, failed, body = self._results.get(timeout=0.1)
            except queue.Empty:
                if self.process.poll() is not None:
                    self._forget_waiting()
                    raise FunctionError(f"the process ended: {self.said()[-2000:]}") from None
                if time.monotonic() > until:
                    self.kill()
                    raise FunctionError("Task timed out") from None
                continue
            if answered != request_id:
                continue  # of a process that was killed meanwhile
            if failed:
                raise FunctionError(body.decode())
            return orjson.loads(body) if body else None

    def _forget_waiting(self) -> None:
        self.process = None
        with suppress(queue.Empty):
            while True:
                self._waiting.get_nowait()

    def next_invocation(self) -> _Invocation | None:
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
            function.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, function: LambdaFunction) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.function = function


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        assert self.path == _NEXT, self.path
        invocation = self.server.function.next_invocation()
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
            self.server.function.ended(request_id, failed=kind == "error", body=body)
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

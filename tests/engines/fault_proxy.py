"""An HTTP proxy before an engine that does what no engine does: it throttles, fails and loses replies.

::

    with fault_proxy(dynoxide) as proxy:
        proxy.fail("PutItem", Fault.LOSE_REPLY)     # the next one only
        proxy.fail("UpdateItem", THROTTLE, times=2)

What it is not told to fail it passes on. It has threads of its own, so that a test may block its loop.
"""

import http.client
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson

from tests.engines.processes import Engine

_NAMESPACE = "com.amazonaws.dynamodb.v20120810"
_HANG_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the proxy says instead of the engine, which hears nothing of the request."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class Fault(Enum):
    """What else can go wrong with a request."""

    CUT = auto()
    """The connection ends before the engine hears of the request."""
    LOSE_REPLY = auto()
    """The engine does it, and the connection ends without an answer."""
    HALF_REPLY = auto()
    """The engine does it, and the connection ends in the middle of the answer's body."""
    HANG = auto()
    """The engine does not hear of it, and nothing comes until the client gives up."""
    HANG_AFTER = auto()
    """The engine does it, and nothing comes until the client gives up."""
    TRICKLE = auto()
    """The engine does it, and the answer comes at 5 bytes a second."""
    UNPROCESSED = auto()
    """Of a BatchWriteItem or BatchGetItem on one table only the first half is done."""


def refusal(code: str, status: int = 400) -> Answer:
    """Return an error of DynamoDB, or of another service that speaks JSON."""
    body = orjson.dumps({"__type": f"{_NAMESPACE}#{code}", "message": "by the fault proxy"})
    return Answer(status=status, body=body, headers={"Content-Type": "application/x-amz-json-1.0"})


THROTTLE = refusal("ProvisionedThroughputExceededException")
THROTTLE_ACCOUNT = refusal("ThrottlingException")
FAIL = refusal("InternalServerError", 500)
SLOW_DOWN = Answer(
    status=503,
    body=b"<Error><Code>SlowDown</Code><Message>by the fault proxy</Message></Error>",
    headers={"Content-Type": "application/xml"},
)
"""What S3 says when it is asked too often."""


@dataclass(slots=True, kw_only=True)
class _Order:
    operation: str
    fault: Answer | Fault
    times: int


class FaultProxy:
    """A running proxy, to be asked at `url` instead of the engine.

    Attributes:
        asked: the operations of all requests so far, with their repeats.
        connections: how many were opened so far.
    """

    def __init__(self, engine: Engine, tls: ssl.SSLContext | None) -> None:
        self.asked: list[str] = []
        self.connections = 0
        self.ended = threading.Event()
        self._engine = engine
        self._orders: list[_Order] = []
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._server = _Server(self)
        self._scheme = "https" if tls else "http"
        if tls is not None:
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}"

    def fail(self, operation: str, fault: Answer | Fault, *, times: int = 1) -> None:
        """Let the next requests of an operation fail, after those that were ordered before.

        Args:
            operation: such as `PutItem` (from `X-Amz-Target`), or an HTTP method where there is none.
        """
        with self._lock:
            self._orders.append(_Order(operation=operation, fault=fault, times=times))

    def heal(self) -> None:
        """Pass on everything again."""
        with self._lock:
            self._orders.clear()

    def cut_idle(self) -> None:
        """End all connections, as a service does with those that were idle for long."""
        with self._lock:
            sockets, self._sockets = self._sockets, set()
        for each in sockets:
            with suppress(OSError):
                socket.socket.shutdown(each, socket.SHUT_RDWR)  # without a farewell of TLS

    def serve(self) -> None:
        self._server.serve_forever(poll_interval=0.05)

    def stop(self) -> None:
        self.ended.set()
        self._server.shutdown()
        self.cut_idle()
        self._server.server_close()

    def fault_for(self, operation: str) -> Answer | Fault | None:
        with self._lock:
            self.asked.append(operation)
            for order in self._orders:
                if order.operation == operation and order.times > 0:
                    order.times -= 1
                    return order.fault
        return None

    def opened(self, connection: socket.socket) -> None:
        with self._lock:
            self.connections += 1
            self._sockets.add(connection)

    def closed(self, connection: socket.socket) -> None:
        with self._lock:
            self._sockets.discard(connection)

    def ask_engine(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self._engine.port, timeout=30)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            response = connection.getresponse()
            received = response.read()
        finally:
            connection.close()
        return Answer(status=response.status, body=received, headers=dict(response.getheaders()))


@contextmanager
def fault_proxy(engine: Engine, *, tls: ssl.SSLContext | None = None) -> Iterator[FaultProxy]:
    """Stand before the engine until the block ends; with `tls`, which shows a certificate, as HTTPS."""
    proxy = FaultProxy(engine, tls)
    thread = threading.Thread(target=proxy.serve, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.stop()
        thread.join(timeout=10)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, proxy: FaultProxy) -> None:
        self.proxy = proxy
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.proxy.opened(self.connection)

    def finish(self) -> None:
        self.server.proxy.closed(self.connection)
        with suppress(OSError):
            super().finish()

    def handle(self) -> None:
        with suppress(OSError):
            super().handle()

    def log_message(self, *args: object) -> None:
        pass

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        operation = self.headers.get("X-Amz-Target", self.command).rpartition(".")[2]
        fault = self.server.proxy.fault_for(operation)
        match fault:
            case None:
                self._say(self._ask(body))
            case Answer():
                self._say(fault)
            case Fault():
                _FAULTS[fault](self, body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = _serve  # noqa: N815

    def _ask(self, body: bytes) -> Answer:
        headers = dict(self.headers.items())
        if "Transfer-Encoding" not in headers and self.command in {"POST", "PUT"}:
            headers["Content-Length"] = str(len(body))
        return self.server.proxy.ask_engine(self.command, self.path, headers, body)

    def _say(self, answer: Answer, *, length: int | None = None) -> None:
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in {"content-length", "transfer-encoding", "connection"}:
                self.send_header(name, value)
        size = len(answer.body)
        if self.command == "HEAD":
            size = int(answer.headers.get("Content-Length", 0))
        self.send_header("Content-Length", str(size))
        self.end_headers()
        self.wfile.write(answer.body[:length])

    def _cut(self, body: bytes) -> None:
        self.close_connection = True

    def _lose_reply(self, body: bytes) -> None:
        self._ask(body)
        self.close_connection = True

    def _half_reply(self, body: bytes) -> None:
        answer = self._ask(body)
        self._say(answer, length=len(answer.body) // 2)
        self.close_connection = True

    def _trickle(self, body: bytes) -> None:
        answer = self._ask(body)
        self._say(answer, length=0)
        for byte in answer.body:
            if self.server.proxy.ended.wait(0.2):
                break
            self.wfile.write(bytes([byte]))

    def _hang(self, body: bytes) -> None:
        self.server.proxy.ended.wait(_HANG_S)
        self.close_connection = True

    def _hang_after(self, body: bytes) -> None:
        self._ask(body)
        self._hang(body)

    def _unprocessed(self, body: bytes) -> None:
        request = orjson.loads(body)
        ((table, whole),) = request["RequestItems"].items()
        done, left = _halves(whole)
        request["RequestItems"] = {table: done}
        answer = self._ask(orjson.dumps(request))
        said = orjson.loads(answer.body)
        said["UnprocessedItems" if isinstance(whole, list) else "UnprocessedKeys"] = {table: left}
        headers = {name: value for name, value in answer.headers.items() if "crc" not in name}
        self._say(Answer(status=answer.status, body=orjson.dumps(said), headers=headers))


_FAULTS: dict[Fault, Callable[[_Handler, bytes], None]] = {
    Fault.CUT: _Handler._cut,
    Fault.LOSE_REPLY: _Handler._lose_reply,
    Fault.HALF_REPLY: _Handler._half_reply,
    Fault.HANG: _Handler._hang,
    Fault.HANG_AFTER: _Handler._hang_after,
    Fault.TRICKLE: _Handler._trickle,
    Fault.UNPROCESSED: _Handler._unprocessed,
}


def _halves(whole: Any) -> tuple[Any, Any]:
    """Split what is asked of one table: a list to be written, or `Keys` to be read."""
    parts: Sequence[Any] = whole if isinstance(whole, list) else whole["Keys"]
    middle = max(1, len(parts) // 2)
    if isinstance(whole, list):
        return parts[:middle], parts[middle:]
    return {**whole, "Keys": parts[:middle]}, {**whole, "Keys": parts[middle:]}

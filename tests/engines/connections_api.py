"""API Gateway's @connections API, as far as it can be seen from outside, under the control of a test.

::

    with connections_api() as api:                  # at api.url
        api.fail(TOO_MANY, times=3)                 # the next three requests
        api.gone.add("c1=")

It checks every signature by botocore's own signer, refuses what is above 131,072 bytes, and notes each
post with its time. It has threads of its own, so that a test may block its loop.
"""

import hmac
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import orjson
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials

from storage.sigv4 import Credentials
from tests.engines.fault_proxy import Answer, Fault

REGION = "eu-central-1"
CREDENTIALS = Credentials(
    access_key_id="AKIDEXAMPLE", secret_access_key="secret", session_token="token/of+a=role"
)
STAGE = "/dev"
MESSAGE_BYTES = 131_072
_HANG_S = 60


def refusal(status: int, code: str) -> Answer:
    """Return an error as API Gateway says it."""
    return Answer(
        status=status,
        body=orjson.dumps({"message": "by the test"}),
        headers={"x-amzn-ErrorType": f"{code}:http://internal.amazon.com/coral/"},
    )


GONE = refusal(410, "GoneException")
TOO_LARGE = refusal(413, "PayloadTooLargeException")
TOO_MANY = refusal(429, "LimitExceededException")
FORBIDDEN = refusal(403, "ForbiddenException")
BAD_REQUEST = refusal(400, "BadRequestException")
BROKEN = Answer(status=500)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request, whatever became of it.

    Attributes:
        at: when it had come, Unix time in seconds.
        status: what was answered; 0 for nothing.
        arrived: whether its frame went on to the client.
    """

    at: float
    method: str
    connection_id: str
    frame: bytes
    status: int
    arrived: bool


@dataclass(slots=True, kw_only=True)
class _Order:
    connection_id: str | None
    what: Answer | Fault
    times: int


@dataclass(kw_only=True)
class ConnectionsApi:
    """What the test says and sees.

    Attributes:
        url: of the stage.
        gone: connections that are answered 410.
        delay_s: how long each post takes.
        per_second: more requests than these in a second are answered 429; 0 for no such limit.
        requests: in the order in which they were answered.
        overlapping: connections that had two requests at a time.
        sockets: how many connections to the API were opened.
    """

    url: str
    gone: set[str] = field(default_factory=set)
    delay_s: float = 0.0
    per_second: int = 0
    requests: list[Request] = field(default_factory=list)
    overlapping: set[str] = field(default_factory=set)
    sockets: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    over: threading.Event = field(default_factory=threading.Event)
    open: set[socket.socket] = field(default_factory=set)
    _orders: list[_Order] = field(default_factory=list)
    _under_way: set[str] = field(default_factory=set)
    _recent: list[float] = field(default_factory=list)

    def fail(
        self, what: Answer | Fault, *, times: int = 1, connection_id: str | None = None
    ) -> None:
        """Let the next requests (to one connection) fail."""
        self._orders.append(_Order(connection_id=connection_id, what=what, times=times))

    def relent(self) -> None:
        """Let nothing fail any more that was told to."""
        with self.lock:
            self._orders.clear()

    def statuses(self) -> list[int]:
        return [request.status for request in self.requests]

    def arrived(self, connection_id: str) -> list[bytes]:
        """Return the frames that a client got, in their order."""
        return [
            request.frame
            for request in self.requests
            if request.arrived and request.connection_id == connection_id
        ]

    def times(self, connection_id: str | None = None) -> list[float]:
        """Return when posts came, failed ones included."""
        return [
            request.at
            for request in self.requests
            if request.method == "POST" and connection_id in (None, request.connection_id)
        ]

    def drop_idle_connections(self) -> None:
        """Cut every connection, as a network does while a Lambda function is frozen."""
        with self.lock:
            for each in self.open:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    # Called by the server's threads

    def begin(self, connection_id: str) -> None:
        with self.lock:
            if connection_id in self._under_way:
                self.overlapping.add(connection_id)
            self._under_way.add(connection_id)

    def order(self, method: str, connection_id: str, body: bytes, now: float) -> Answer | Fault:
        """Return what is to happen."""
        with self.lock:
            for order in self._orders:
                if order.times and order.connection_id in (None, connection_id):
                    order.times -= 1
                    return order.what
            if self.per_second:
                self._recent = [at for at in self._recent if now - at < 1.0]
                if len(self._recent) >= self.per_second:
                    return TOO_MANY
                self._recent.append(now)
        if connection_id in self.gone:
            return GONE
        if len(body) > MESSAGE_BYTES:
            return TOO_LARGE
        return Answer(status=200 if method == "POST" else 204)

    def end(self, request: Request) -> None:
        with self.lock:
            self._under_way.discard(request.connection_id)
            self.requests.append(request)
            if request.method == "DELETE" and request.arrived:
                self.gone.add(request.connection_id)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    api: ConnectionsApi

    def setup(self) -> None:
        super().setup()
        with self.api.lock:
            self.api.sockets += 1
            self.api.open.add(self.connection)

    def handle(self) -> None:
        with suppress(OSError):
            super().handle()

    def finish(self) -> None:
        with self.api.lock:
            self.api.open.discard(self.connection)
        with suppress(OSError):
            super().finish()

    def do_POST(self) -> None:
        self._handle()

    def do_DELETE(self) -> None:
        self._handle()

    def log_message(self, *args: Any) -> None:
        pass

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        now = time.time()
        prefix, _, last = self.path.partition("/@connections/")
        assert prefix == STAGE
        connection_id = unquote(last)
        self.api.begin(connection_id)
        what = self.api.order(self.command, connection_id, body, now)
        if not _is_signed(self, body):
            what = FORBIDDEN
        lost = what in (Fault.LOSE_REPLY, Fault.HANG_AFTER)
        arrived = lost or (isinstance(what, Answer) and what.status < 300)
        if arrived and self.api.delay_s:
            self.api.over.wait(self.api.delay_s)
        self.api.end(
            Request(
                at=now,
                method=self.command,
                connection_id=connection_id,
                frame=body,
                status=what.status if isinstance(what, Answer) else 0,
                arrived=arrived,
            )
        )
        if isinstance(what, Answer):
            self._answer(what)
            return
        if what in (Fault.HANG, Fault.HANG_AFTER):
            self.api.over.wait(_HANG_S)
        self.close_connection = True

    def _answer(self, answer: Answer) -> None:
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)


def _is_signed(handler: BaseHTTPRequestHandler, body: bytes) -> bool:
    """Sign what came again, by the SDK's own signer, and compare."""
    given = handler.headers["Authorization"]
    names = given.partition("SignedHeaders=")[2].partition(",")[0].split(";")
    host = handler.headers["Host"]
    request = AWSRequest(
        method=handler.command,
        url=f"http://{host}{handler.path}",
        data=body,
        headers={name: handler.headers[name] for name in names},
    )
    request.context["timestamp"] = handler.headers["X-Amz-Date"]
    signer = SigV4Auth(
        BotocoreCredentials(CREDENTIALS.access_key_id, CREDENTIALS.secret_access_key),
        "execute-api",
        REGION,
    )
    text = signer.string_to_sign(request, signer.canonical_request(request))
    ours = given.rpartition("Signature=")[2]
    must = {"host", "x-amz-date", "x-amz-security-token"}
    return must <= set(names) and hmac.compare_digest(signer.signature(text, request), ours)


@contextmanager
def connections_api() -> Iterator[ConnectionsApi]:
    """Serve on loopback until the end."""

    class Handler(_Handler):
        pass

    with _Server(("127.0.0.1", 0), Handler) as server:
        api = ConnectionsApi(url=f"http://127.0.0.1:{server.server_port}{STAGE}")
        Handler.api = api
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield api
        finally:
            api.over.set()
            api.drop_idle_connections()
            server.shutdown()
            thread.join()

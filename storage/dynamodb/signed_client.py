"""DynamoDB without the SDK, for functions that a person waits for while they start (connect, disconnect).

A request is signed here and sent by the standard library from a thread.
"""

import http.client
import selectors
import ssl
import threading
import time
from asyncio import get_running_loop
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from storage.dynamodb.attempts import (
    CONNECT_TIMEOUT_S,
    READ_TIMEOUT_S,
    repeatable,
    until_answered,
)
from storage.dynamodb.faults import AttemptFailedError, fault_of
from storage.dynamodb.json_format import decoded, encoded
from storage.sigv4 import Credentials, Scope, signed

_CONTENT_TYPE: Final = "application/x-amz-json-1.0"
_TARGET: Final = "DynamoDB_20120810"
_THREADS: Final = 4
_IDLE_S: Final = 15.0
"""A connection that was idle for longer is not used again: something between may have forgotten it."""


class SignedClient:
    """`DynamoClient` by the standard library; for one event loop, until `aclose`.

    Args:
        region: as `eu-central-1`.
        credentials: of whoever asks; they must outlive the client.
        endpoint_url: where DynamoDB is, if not at AWS: `http://host:port` or `https://...`.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        *,
        region: str,
        credentials: Credentials,
        endpoint_url: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._scope = Scope(region=region, service="dynamodb")
        self._credentials = credentials
        self._clock = clock
        self._connections = _Connections(endpoint_url or _endpoint(region))
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="dynamodb")

    async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out one operation; see `DynamoClient.call`."""
        body = encoded(repeatable(operation, request))
        return await until_answered(lambda: self._attempt(operation, body))

    async def aclose(self) -> None:
        """Close the connections; what is still under way ends by its own timeout."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._connections.close()

    async def _attempt(self, operation: str, body: bytes) -> dict[str, Any]:
        headers = signed(
            {
                "Host": self._connections.host,
                "Content-Type": _CONTENT_TYPE,
                "X-Amz-Target": f"{_TARGET}.{operation}",
            },
            method="POST",
            path="/",
            body=body,
            scope=self._scope,
            credentials=self._credentials,
            now=self._clock(),
        )
        exchange = partial(self._connections.exchange, headers, body)
        try:
            status, received = await get_running_loop().run_in_executor(self._threads, exchange)
        except (OSError, http.client.HTTPException) as error:
            raise AttemptFailedError(type(error).__name__) from error
        return _answer(status, received)


def _endpoint(region: str) -> str:
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"https://dynamodb.{region}.{suffix}"


def _answer(status: int, received: bytes) -> dict[str, Any]:
    try:
        answer = decoded(received)
    except ValueError as error:
        raise AttemptFailedError(f"{status} with a body that is no JSON") from error
    if status == http.HTTPStatus.OK:
        return answer
    code = str(answer.get("__type", "")).rpartition("#")[2]
    raise fault_of(status, code, answer)


class _Connections:
    """Connections to one endpoint, kept open between requests. Used from several threads at once."""

    def __init__(self, endpoint_url: str) -> None:
        url = urlsplit(endpoint_url)
        self.host: Final = url.netloc
        self._secure = url.scheme == "https"
        self._lock = threading.Lock()
        self._idle: list[tuple[http.client.HTTPConnection, float]] = []
        self._tls: ssl.SSLContext | None = None
        self._closed = False

    def exchange(self, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        """Send one request and return the status and body of its answer.

        Raises:
            OSError, http.client.HTTPException: there is no whole answer.
        """
        connection = self._take() or self._connect()
        try:
            connection.request("POST", "/", body, dict(headers))
            response = connection.getresponse()
            received = response.read()
        except BaseException:
            connection.close()
            raise
        self._keep(connection)
        return response.status, received

    def close(self) -> None:
        """Close those that are idle, and from now on each as soon as its request is answered."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection, _ in idle:
            connection.close()

    def _take(self) -> http.client.HTTPConnection | None:
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection, since = self._idle.pop()
            if time.monotonic() - since < _IDLE_S and _is_quiet(connection):
                return connection
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection
        if self._secure:
            with self._lock:
                self._tls = self._tls or ssl.create_default_context()
            connection = http.client.HTTPSConnection(
                self.host, timeout=CONNECT_TIMEOUT_S, context=self._tls
            )
        else:
            connection = http.client.HTTPConnection(self.host, timeout=CONNECT_TIMEOUT_S)
        connection.connect()
        connection.sock.settimeout(READ_TIMEOUT_S)
        return connection

    def _keep(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if not self._closed and connection.sock is not None:
                self._idle.append((connection, time.monotonic()))
                return
        connection.close()


def _is_quiet(connection: http.client.HTTPConnection) -> bool:
    """Whether nothing came since the last answer; what comes unasked is the end of the connection."""
    with selectors.DefaultSelector() as selector:
        selector.register(connection.sock, selectors.EVENT_READ)
        return not selector.select(timeout=0)

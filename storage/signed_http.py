"""A service of AWS without the SDK: signed requests on connections that are kept, sent from threads.

The SDK takes the first request of a process 0.1 to 0.4 s. Here nothing is asked twice and no answer is
understood: who asks knows when a repeat is right, and what an answer says.
"""

import http.client
import selectors
import ssl
import threading
import time
from asyncio import get_running_loop
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Final
from urllib.parse import urlsplit

from storage.sigv4 import Credentials, Scope, signed

THREADS: Final = 4
"""How many requests of one endpoint are under way at once; those above wait."""

IDLE_S: Final = 15.0
"""A connection that was idle for longer is not used again: something between may have forgotten it."""


class NoAnswerError(Exception):
    """A request got no whole answer; it may have been carried out. The text is the class of the cause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A whole answer.

    Attributes:
        status: of HTTP.
        body: not shown when this is printed, as asyncio does with results in its debug mode.
    """

    status: int
    body: bytes = field(repr=False)


class SignedEndpoint:
    """One service in one region. Opens connections as they are needed and keeps them, until `close`.

    Args:
        service: as signatures name it, such as `dynamodb`.
        region: as `eu-central-1`.
        credentials: of whoever asks; they must outlive this.
        connect_timeout_s: until a connection is there, TLS included.
        read_timeout_s: of silence, while an answer is awaited.
        url: where the service is, if not at AWS: `http://host:port` or `https://...`.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        *,
        service: str,
        region: str,
        credentials: Credentials,
        connect_timeout_s: float,
        read_timeout_s: float,
        url: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._scope = Scope(region=region, service=service)
        self._credentials = credentials
        self._clock = clock
        self._connections = _Connections(
            url or url_at_aws(service, region), connect_timeout_s, read_timeout_s
        )
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix=service)

    async def ask(self, headers: Mapping[str, str], body: bytes, *, path: str = "/") -> Response:
        """POST a body once and return the answer, whatever its status.

        Cancelling takes nothing back: a request that is on its way ends by its own timeout.

        Args:
            headers: beside those of HTTP and of the signature.
            body: whole.
            path: percent-encoded.

        Raises:
            NoAnswerError: nothing came, or half an answer.
        """
        sent = signed(
            {"Host": self._connections.host, **headers},
            method="POST",
            path=path,
            body=body,
            scope=self._scope,
            credentials=self._credentials,
            now=self._clock(),
        )
        exchange = partial(self._connections.exchange, path, sent, body)
        try:
            return await get_running_loop().run_in_executor(self._threads, exchange)
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswerError(type(error).__name__) from error

    def drop_idle(self) -> None:
        """Close the connections that are not in use, of which one showed that they may be broken."""
        self._connections.drop_idle()

    def close(self) -> None:
        """Close the connections, each as soon as its request is answered; nothing can be asked any more."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._connections.close()


def url_at_aws(service: str, region: str) -> str:
    """Return where AWS has a service in a region."""
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"https://{service}.{region}.{suffix}"


class _Connections:
    """Connections to one endpoint, kept open between requests. Used from several threads at once."""

    def __init__(self, url: str, connect_timeout_s: float, read_timeout_s: float) -> None:
        parts = urlsplit(url)
        self.host: Final = parts.netloc
        self._secure = parts.scheme == "https"
        self._connect_timeout_s = connect_timeout_s
        self._read_timeout_s = read_timeout_s
        self._lock = threading.Lock()
        self._idle: list[tuple[http.client.HTTPConnection, float]] = []
        self._closed = False

    def exchange(self, path: str, headers: Mapping[str, str], body: bytes) -> Response:
        """Send one request and return its answer.

        Raises:
            OSError, http.client.HTTPException: there is no whole answer.
        """
        connection = self._take() or self._connect()
        try:
            connection.request("POST", path, body, dict(headers))
            response = connection.getresponse()
            received = response.read()
        except BaseException:
            connection.close()
            raise
        self._keep(connection)
        return Response(status=response.status, body=received)

    def drop_idle(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection, _ in idle:
            connection.close()

    def close(self) -> None:
        """Close those that are idle, and from now on each as soon as its request is answered."""
        with self._lock:
            self._closed = True
        self.drop_idle()

    def _take(self) -> http.client.HTTPConnection | None:
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection, since = self._idle.pop()
            if time.monotonic() - since < IDLE_S and _is_quiet(connection):
                return connection
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection
        timeout_s = self._connect_timeout_s
        if self._secure:
            tls = shared_tls()
            connection = http.client.HTTPSConnection(self.host, timeout=timeout_s, context=tls)
        else:
            connection = http.client.HTTPConnection(self.host, timeout=timeout_s)
        connection.connect()
        connection.sock.settimeout(self._read_timeout_s)
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


_MAKING_TLS: Final = threading.Lock()


def shared_tls() -> ssl.SSLContext:
    """Return the settings of all endpoints. The first call reads whom this machine trusts: 20 ms of CPU."""
    with _MAKING_TLS:
        return _tls()


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()

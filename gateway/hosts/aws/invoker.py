"""Replies are generated in invocations of their own: the `RunStarter` of the AWS host.

One signed request per run, `Invoke` with the type `Event`, which Lambda queues and answers with 202; see
https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html. The SDK's client for it would take the first
message of a process 90 to 300 ms to make.
"""

import asyncio
import http.client
import logging
import ssl
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Final
from urllib.parse import quote, urlsplit

import orjson

from gateway.runs.live_run import LiveRun
from storage.records import Owner
from storage.sigv4 import Credentials, Scope, signed

ATTEMPTS: Final = 4
TIMEOUT_S: Final = 2.0
"""For one attempt; Lambda answers in some 20 ms."""

PAUSE_S: Final = 0.1
"""Before the third attempt; the second comes at once, on a new connection."""

IDLE_S: Final = 15.0
"""A connection that was idle for longer is not used again: something between may have forgotten it."""

_FINAL: Final = frozenset(
    status
    for status in HTTPStatus
    if 400 <= status < 500 and status != HTTPStatus.TOO_MANY_REQUESTS
)
"""No repeat would change these."""

log = logging.getLogger(__name__)


class NotInvokedError(Exception):
    """An invocation was not accepted; the text says why."""


class Invoker:
    """Invokes one function. Keeps a connection open until `close`, or the end of the process.

    Args:
        function: its name or ARN.
        region: that it is in.
        credentials: of whoever invokes, allowed `lambda:InvokeFunction`; they must outlive this.
        endpoint_url: where Lambda is, if not at AWS.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        *,
        function: str,
        region: str,
        credentials: Credentials,
        endpoint_url: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        url = urlsplit(endpoint_url or _endpoint(region))
        self._host, self._secure = url.netloc, url.scheme == "https"
        self._path = f"/2015-03-31/functions/{quote(function, safe='')}/invocations"
        self._scope = Scope(region=region, service="lambda")
        self._credentials = credentials
        self._clock = clock
        self._idle: list[tuple[http.client.HTTPConnection, float]] = []
        self._tls: ssl.SSLContext | None = None

    async def invoke(self, payload: bytes) -> None:
        """Have the function run once with that payload (JSON), soon; perhaps twice.

        Raises:
            NotInvokedError: it will not run.
        """
        for attempt in range(ATTEMPTS):
            if attempt > 1:
                await asyncio.sleep(PAUSE_S * 2 ** (attempt - 2))
            said = await self._attempt(payload)
            if said == HTTPStatus.ACCEPTED:
                return
            if said in _FINAL:
                break
        raise NotInvokedError(str(said))

    def close(self) -> None:
        """Close what is kept open. What is invoked after that opens another connection."""
        while self._idle:
            self._idle.pop()[0].close()

    async def _attempt(self, payload: bytes) -> int | str:
        """Return the status of the answer, or what kept it from coming."""
        headers = signed(
            {
                "Host": self._host,
                "Content-Type": "application/json",
                "X-Amz-Invocation-Type": "Event",
            },
            method="POST",
            path=self._path,
            body=payload,
            scope=self._scope,
            credentials=self._credentials,
            now=self._clock(),
        )
        try:
            return await asyncio.to_thread(self._exchange, headers, payload)
        except (OSError, http.client.HTTPException) as exc:
            self.close()  # what was kept may be broken, too: the process was frozen
            return type(exc).__name__

    # In threads

    def _exchange(self, headers: dict[str, str], payload: bytes) -> int:
        connection = self._take() or self._connect()
        try:
            connection.request("POST", self._path, payload, headers)
            response = connection.getresponse()
            response.read()
        except BaseException:
            connection.close()
            raise
        self._idle.append((connection, time.monotonic()))
        return response.status

    def _take(self) -> http.client.HTTPConnection | None:
        """Return a connection that may be used again, if there is one."""
        while self._idle:
            connection, since = self._idle.pop()
            if time.monotonic() - since < IDLE_S:
                return connection
            connection.close()
        return None

    def _connect(self) -> http.client.HTTPConnection:
        if not self._secure:
            return http.client.HTTPConnection(self._host, timeout=TIMEOUT_S)
        self._tls = self._tls or ssl.create_default_context()
        return http.client.HTTPSConnection(self._host, timeout=TIMEOUT_S, context=self._tls)


class InvokeStarter:
    """`RunStarter` for one invocation of ours, which ends with `settle`.

    Args:
        invoker: of the function that generates replies.
    """

    def __init__(self, invoker: Invoker) -> None:
        self._invoker = invoker
        self._under_way: set[asyncio.Task[None]] = set()

    def start(self, live: LiveRun) -> None:
        """See `RunStarter.start`. Several invocations for one run are harmless: one of them claims it."""
        if live.started:
            return
        live.started = True
        task = asyncio.create_task(self._start(live.owner, live.run.run_id))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def settle(self) -> None:
        """Wait until every start has been handed over, or was given up within some seconds.

        A run whose start is given up stays queued; whoever asks for it starts it again.
        """
        while self._under_way:
            await asyncio.wait(self._under_way)

    async def _start(self, owner: Owner, run_id: str) -> None:
        try:
            await self._invoker.invoke(payload_of(owner, run_id))
        except NotInvokedError as exc:
            log.warning("reply not invoked", extra={"run_id": run_id, "cause": str(exc)})


def payload_of(owner: Owner, run_id: str) -> bytes:
    """Return what the function `reply` is invoked with: the key of a run, and nothing of its content."""
    return orjson.dumps({"tenant_id": owner.tenant_id, "user_id": owner.user_id, "run_id": run_id})


def run_of(payload: object) -> tuple[Owner, str]:
    """Read such a payload.

    Raises:
        ValueError: it is none.
    """
    match payload:
        case {"tenant_id": str(tenant_id), "user_id": str(user_id), "run_id": str(run_id)}:
            if tenant_id and user_id and run_id:
                return Owner(tenant_id=tenant_id, user_id=user_id), run_id
    raise ValueError("no run is named")


def _endpoint(region: str) -> str:
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"https://lambda.{region}.{suffix}"

"""Replies are generated in invocations of their own: the `RunStarter` of the AWS host.

One signed request per run, `Invoke` with the type `Event`, which Lambda queues and answers with 202; see
https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html. The SDK's client for it would take the first
message of a process 90 to 300 ms to make.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

import orjson

from gateway.runs.live_run import LiveRun
from storage.records import Owner
from storage.signed_http import NoAnswerError, SignedEndpoint
from storage.sigv4 import Credentials

ATTEMPTS: Final = 4
TIMEOUT_S: Final = 2.0
"""For a connection, and for an answer on it; Lambda answers in some 20 ms."""

PAUSE_S: Final = 0.1
"""Before the third attempt; the second comes at once, on a new connection."""

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
        self._path = f"/2015-03-31/functions/{quote(function, safe='')}/invocations"
        self._endpoint = SignedEndpoint(
            service="lambda",
            region=region,
            credentials=credentials,
            connect_timeout_s=TIMEOUT_S,
            read_timeout_s=TIMEOUT_S,
            url=endpoint_url,
            clock=clock,
        )

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
        """Close what is kept open."""
        self._endpoint.close()

    async def _attempt(self, payload: bytes) -> int | str:
        """Return the status of the answer, or what kept it from coming."""
        headers = {"Content-Type": "application/json", "X-Amz-Invocation-Type": "Event"}
        try:
            response = await self._endpoint.ask(headers, payload, path=self._path)
        except NoAnswerError as error:
            self._endpoint.drop_idle()  # what was kept may be broken, too: the process was frozen
            return str(error)
        return response.status


class InvokeStarter:
    """`RunStarter` for one invocation of ours, which ends with `settle`.

    Args:
        invoker: of the function that generates replies.
    """

    def __init__(self, invoker: Invoker) -> None:
        self._invoker = invoker
        self._under_way: set[asyncio.Task[None]] = set()
        self._given_up: NotInvokedError | None = None

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

    async def confirm(self) -> None:
        """Settle, and fail if a start was given up: where failures are watched, nobody need ask for it.

        Raises:
            NotInvokedError: one was.
        """
        await self.settle()
        if self._given_up is not None:
            raise self._given_up

    async def _start(self, owner: Owner, run_id: str) -> None:
        try:
            await self._invoker.invoke(payload_of(owner, run_id))
        except NotInvokedError as exc:
            self._give_up(run_id, exc)

    def _give_up(self, run_id: str, why: NotInvokedError) -> None:
        self._given_up = why
        log.error("reply not invoked", extra={"run_id": run_id, "cause": str(why)})


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

"""What `message`, `reply` and `seal` stand on: clients that the process keeps, the rest made for each."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

from gateway.aws_settings import read_aws_settings
from gateway.bootstrap.aws import AwsBackend, AwsFoundation, make_foundation, open_backend
from gateway.bootstrap.door import open_client
from gateway.hosts.aws.connections_api import ConnectionsApi
from gateway.hosts.aws.invoker import Invoker, InvokeStarter
from gateway.hosts.aws.post_budget import PostBudget
from gateway.hosts.aws.transport import ConnectionsTransport
from gateway.identity.verifier import TokenVerifier
from gateway.runs.transport import GoneError
from gateway.telemetry import set_up_logs
from gateway.wire.answers import Answer
from storage.dynamodb.post_slots import DynamoPostSlots

SETTLE_BEFORE_END_S: Final = 2.0
"""How long before its deadline an invocation gives up what it still posts."""


class Context(Protocol):
    """What Lambda says of an invocation."""

    def get_remaining_time_in_millis(self) -> int:
        """Return in how many milliseconds the process is ended."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """One event's own things, from `Process.begin`; a context whose end waits for all that was begun."""

    on: AwsFoundation
    transport: ConnectionsTransport
    starter: InvokeStarter
    verifier: TokenVerifier
    deadline: float

    async def post(self, connection_id: str, answer: Answer) -> None:
        """Post an answer, if its connection is still there."""
        with suppress(GoneError):
            await self.transport.post(connection_id, answer.encode())

    async def __aenter__(self) -> "Invocation":
        return self

    async def __aexit__(self, *_: object) -> None:
        """Wait for replays, invocations of `reply`, writes and key refreshes; frozen, they would fail."""
        await self.starter.settle()
        remaining = self.deadline - SETTLE_BEFORE_END_S - self.on.clock()
        await self.transport.settle(within_s=max(remaining, 0.0))
        await self.on.store.aclose()
        await self.verifier.settle()


class Process:
    """What the invocations of one process share; `open_process` makes it.

    Args:
        backend: open.
        invoker: of `reply`.
    """

    def __init__(self, backend: AwsBackend, *, invoker: Invoker) -> None:
        self.backend = backend
        self._invoker = invoker
        self._apis: dict[str, ConnectionsApi] = {}
        rate = backend.aws.posts_per_second
        slots = DynamoPostSlots(backend.client, backend.aws.door_table)
        self._budget = PostBudget(slots, per_second=rate, clock=backend.clock) if rate else None

    def begin(self, context: Context, *, tenant_id: str, connections_url: str = "") -> Invocation:
        """Return what one event stands on.

        Args:
            context: of the invocation.
            tenant_id: whose share of the post budget is used.
            connections_url: where to post if the settings do not say.

        Raises:
            ValueError: neither says where to post.
        """
        store = self.backend.new_store()
        transport = ConnectionsTransport(
            self._api(self.backend.aws.connections_url or connections_url),
            on_gone=store.connections.remove,
            slot=self._budget.share_of(tenant_id) if self._budget else None,
        )
        return Invocation(
            on=make_foundation(self.backend, store=store, transport=transport),
            transport=transport,
            starter=InvokeStarter(self._invoker),
            verifier=self.backend.verifier,
            deadline=self.backend.clock() + context.get_remaining_time_in_millis() / 1000,
        )

    def _api(self, url: str) -> ConnectionsApi:
        if not url:
            raise ValueError("MAKOTO_CONNECTIONS_URL is not set")
        if url not in self._apis:
            region, credentials = self.backend.aws.signing()
            self._apis[url] = ConnectionsApi(
                url=url, region=region, credentials=credentials, clock=self.backend.clock
            )
        return self._apis[url]


async def open_process(
    apart: Mapping[str, str] | None = None,
    *,
    clock: Callable[[], float] = time.time,
) -> Process:
    """Read the settings and open what invocations share.

    Args:
        apart: variables that are kept apart from the environment.
        clock: Unix time in seconds.

    Raises:
        ValueError, SettingsError: a setting is missing or not valid; the text is one line.
    """
    aws = read_aws_settings()
    set_up_logs(aws.log_level)
    aws.require("reply_function")
    region, credentials = aws.signing()
    return Process(
        open_backend(aws, client=open_client(aws), apart=apart or {}, clock=clock),
        invoker=Invoker(
            function=aws.reply_function,
            region=region,
            credentials=credentials,
            endpoint_url=aws.lambda_url,
            clock=clock,
        ),
    )

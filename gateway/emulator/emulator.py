"""The emulator in one piece: what is deployed, served on one loopback port."""

import asyncio
import secrets
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from gateway.emulator.certificates import make_certificates
from gateway.emulator.chaos import Chaos
from gateway.emulator.connections_api import ConnectionsApi
from gateway.emulator.deployment import Deployment, DeploymentError, Function, HandlerAbsentError
from gateway.emulator.environment import (
    Surroundings,
    function_environment,
    inherited_environment,
)
from gateway.emulator.http import HttpConnection, Request, Response, refusal
from gateway.emulator.invocations import Invocations
from gateway.emulator.lambda_api import PATH as INVOKE_PATH
from gateway.emulator.lambda_api import LambdaApi
from gateway.emulator.limits import Limits
from gateway.emulator.listener import HOST, Listener
from gateway.emulator.output import Output
from gateway.emulator.pools import Pool
from gateway.emulator.queues import LocalQueue, Message
from gateway.emulator.sockets import Sockets
from gateway.emulator.websocket_api import WebSocketApi
from gateway.emulator.workers import Launch, NotStartedError, Outcome

_API_ID: Final = "abcdefghijklmnopqrstuvwxyz0123456789"

FORBIDDEN: Final = refusal(403, "ForbiddenException", message="Forbidden")


def to_stderr(name: str, line: str) -> None:
    """Print what a worker process printed."""
    sys.stderr.write(f"{name} | {line}\n")


class Emulator:
    """Serves a deployment inside `async with`, in the running event loop.

    Args:
        deployment: what is served.
        port: to listen on; 0 for a free one.
        root: the folder that handlers are imported from and run in.
        limits: instead of those of AWS.
        chaos: orders and rates of faults.
        output: gets what worker processes print.
    """

    def __init__(
        self,
        deployment: Deployment,
        *,
        port: int = 0,
        root: Path | None = None,
        limits: Limits | None = None,
        chaos: Chaos | None = None,
        output: Output = to_stderr,
    ) -> None:
        self.deployment = deployment
        self.limits = limits or Limits()
        self.chaos = chaos or Chaos()
        self._wanted_port = port
        self._root = (root or Path.cwd()).resolve()
        self._output = output
        self._stack = AsyncExitStack()
        self._sockets = Sockets()
        self._requests: set[asyncio.Task[None]] = set()
        self._pools: dict[str, Pool] = {}
        self._queues: dict[str, LocalQueue] = {}
        self._invocations = Invocations(
            deployment,
            pools=self._pools,
            send=lambda name, body: self._queues[name].send(body),
            limits=self.limits,
            chaos=self.chaos,
        )
        self._upgrades = WebSocketApi(
            deployment,
            invocations=self._invocations,
            sockets=self._sockets,
            limits=self.limits,
            chaos=self.chaos,
            api_id="".join(secrets.choice(_API_ID) for _ in range(10)),
            output=output,
        )
        self._connections_api = ConnectionsApi(self._sockets, limits=self.limits, chaos=self.chaos)
        self._lambda_api = LambdaApi(deployment, invocations=self._invocations, limits=self.limits)
        self._listener: Listener | None = None

    # Lifetime

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            DeploymentError: the root is no folder.
            OSError: the port cannot be had.
        """
        if not self._root.is_dir():
            raise DeploymentError(f"{self._root} is no folder")
        async with AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="emulator-")))
            certificates = make_certificates(folder)
            self._listener = Listener(
                lambda: HttpConnection(self._answer, self._upgrades.protocol, self._requests),
                tls=certificates.server,
                port=self._wanted_port,
            )
            stack.push_async_callback(self._listener.aclose)
            stack.push_async_callback(_cancel_all, self._requests)
            self._open_pools(certificates.bundle)
            stack.push_async_callback(self._close_pools)
            stack.push_async_callback(self._invocations.aclose)
            self._open_queues(stack)
            stack.push_async_callback(self._upgrades.aclose)
            self._listener.start()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close connections, give up what runs, kill the processes, and close the port."""
        await self._stack.__aexit__(kind, error, trace)

    # Where it is

    @property
    def port(self) -> int:
        """Return the port that is listened on."""
        assert self._listener is not None, "use the emulator inside its `async with`"
        return self._listener.port

    @property
    def url(self) -> str:
        """Return what clients connect to."""
        return f"ws://{HOST}:{self.port}/{self.deployment.stage}"

    @property
    def connections_url(self) -> str:
        """Return the `endpoint_url` of a client for the @connections API."""
        return f"http://{HOST}:{self.port}/{self.deployment.stage}"

    @property
    def lambda_url(self) -> str:
        """Return the `endpoint_url` of a client for Lambda."""
        return f"http://{HOST}:{self.port}"

    # What a test wants to know or do

    @property
    def connection_ids(self) -> list[str]:
        """Return the open connections, oldest first."""
        return [socket.peer.connection_id for socket in self._sockets]

    def busy(self, function: str) -> int:
        """Return how many processes of a function run an invocation."""
        return self._pools[function].busy

    def process_ids(self, function: str) -> list[int]:
        """Return the processes of a function, busy ones first."""
        return self._pools[function].process_ids

    def kill(self, function: str) -> int:
        """Kill the processes of a function that run an invocation; return how many."""
        return self._pools[function].kill_busy()

    def queued(self, queue: str) -> int:
        """Return how many messages a queue has, received ones that were not dealt with included."""
        return len(self._queues[queue])

    def dead_letters(self, queue: str) -> list[Message]:
        """Return the messages of a queue that were received too often."""
        return list(self._queues[queue].dead_letters)

    async def warm_up(self) -> None:
        """Start a process of every function, which its first invocation finds.

        Raises:
            HandlerAbsentError: there is no such module, or no such function in it.
            DeploymentError: importing a handler fails.
        """
        pools = self._pools.values()
        results = await asyncio.gather(*(each.warm_up() for each in pools), return_exceptions=True)
        for name, result in zip(self._pools, results, strict=True):
            if isinstance(result, NotStartedError):
                kind = HandlerAbsentError if result.is_absent else DeploymentError
                raise kind(f"function {name}: {result}")
            if result is not None:
                raise result

    async def settle(self) -> None:
        """Wait until no invocation runs, is retried or waits for the visibility of its message."""
        while len(self._invocations) or any(map(len, self._queues.values())):
            await self._invocations.settle()
            await asyncio.sleep(0.01)

    # What it is made of

    def _open_pools(self, authorities: Path) -> None:
        surroundings = Surroundings(
            inherited=inherited_environment(),
            root=self._root,
            authorities=authorities,
            url=self.url,
            connections_url=self.connections_url,
            lambda_url=self.lambda_url,
        )
        for name, function in self.deployment.functions.items():

            def launch(name: str = name, function: Function = function) -> Launch:
                return Launch(
                    name=name,
                    handler=function.handler,
                    arn=self.deployment.function_arn(name),
                    environment=function_environment(name, self.deployment, surroundings),
                    root=self._root,
                    init_s=self.limits.init_s,
                    output=self._output,
                )

            self._pools[name] = Pool(
                name,
                launch,
                concurrency=function.concurrency or self.limits.concurrency,
                timeout_s=function.timeout_s,
                limits=self.limits,
                chaos=self.chaos,
                output=self._output,
            )

    async def _close_pools(self) -> None:
        await asyncio.gather(*(pool.aclose() for pool in self._pools.values()))

    def _open_queues(self, stack: AsyncExitStack) -> None:
        for name, queue in self.deployment.queues.items():

            async def invoke(event: bytes, consumer: str = queue.consumer) -> Outcome:
                return await self._invocations.run_or_fail(consumer, event)

            self._queues[name] = LocalQueue(
                queue,
                arn=self.deployment.queue_arn(name),
                region=self.deployment.region,
                invoke=invoke,
                chaos=self.chaos,
            )
            consumer = asyncio.create_task(self._queues[name].consume())
            stack.push_async_callback(_cancel_all, {consumer})

    async def _answer(self, request: Request) -> Response:
        if invoked := INVOKE_PATH.fullmatch(request.path):
            return await self._lambda_api.answer(request, invoked["name"])
        prefix = f"/{self.deployment.stage}/@connections/"
        if request.path.startswith(prefix) and (connection_id := request.path[len(prefix) :]):
            return await self._connections_api.answer(request, connection_id)
        return FORBIDDEN


async def _cancel_all(tasks: "set[asyncio.Task[None]]") -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)

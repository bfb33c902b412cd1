"""Invocations of functions: synchronous ones, and asynchronous ones with retries and a destination.

See https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html and, for the record of
a failure, https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html.
"""

import asyncio
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import orjson

from gateway.emulator.chaos import Chaos, Fault
from gateway.emulator.deployment import Deployment, Function
from gateway.emulator.limits import Limits
from gateway.emulator.pools import Pool, ThrottledError
from gateway.emulator.workers import UNHANDLED, Outcome, error_payload

THROTTLED_PAUSE_S: Final = 300.0
"""The longest pause before a throttled event is tried again."""


T = TypeVar("T")


class NoSuchFunctionError(Exception):
    """The function is not deployed; the text is its name."""


@dataclass(slots=True, kw_only=True)
class _AsyncEvent:
    name: str
    function: Function
    payload: bytes
    request_id: str
    came_at: float
    attempts: int = 0


class Invocations:
    """Invokes what is deployed. Ends with `aclose`, before the pools do.

    Args:
        deployment: what there is.
        pools: by the name of the function.
        send: puts a text into a queue by its name.
        limits: pauses between retries.
        chaos: drops, doubles and delays asynchronous invocations.
    """

    def __init__(
        self,
        deployment: Deployment,
        *,
        pools: Mapping[str, Pool],
        send: Callable[[str, str], None],
        limits: Limits,
        chaos: Chaos,
    ) -> None:
        self._deployment = deployment
        self._pools = pools
        self._send = send
        self._limits = limits
        self._chaos = chaos
        self._under_way: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._under_way)

    async def run(self, name: str, event: bytes, *, request_id: str = "") -> Outcome:
        """Invoke a function and wait for its answer. Cancelling kills its process.

        Raises:
            NoSuchFunctionError: it is not deployed.
            ThrottledError: too many invocations of it run.
        """
        pool = self._pool(name)
        return await pool.invoke(event, request_id=request_id or str(uuid.uuid4()))

    async def run_or_fail(self, name: str, event: bytes, *, request_id: str = "") -> Outcome:
        """Invoke a function that there is; being throttled is an error like any other."""
        try:
            return await self.run(name, event, request_id=request_id)
        except ThrottledError:
            return Outcome(payload=error_payload("TooManyRequests", "throttled"), error=UNHANDLED)

    def start(self, name: str, event: bytes) -> str:
        """Invoke a function asynchronously; return the id of the request.

        Raises:
            NoSuchFunctionError: it is not deployed.
        """
        self._pool(name)
        request_id = str(uuid.uuid4())
        if self._chaos.strikes(Fault.DROP_INVOKE, name):
            return request_id
        copies = 2 if self._chaos.strikes(Fault.DUPLICATE_INVOKE, name) else 1
        for _ in range(copies):
            self.spawn(
                self._see_through(
                    _AsyncEvent(
                        name=name,
                        function=self._deployment.functions[name],
                        payload=event,
                        request_id=request_id,
                        came_at=time.time(),
                    )
                )
            )
        return request_id

    def spawn(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Run something that invokes, until it ends or this does. It must raise nothing of its own."""
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    async def settle(self) -> None:
        """Wait until nothing runs or waits for a retry."""
        while self._under_way:
            await asyncio.wait(self._under_way)

    async def aclose(self) -> None:
        """Give up everything that runs."""
        given_up: set[asyncio.Task[Any]] = set()
        while self._under_way:
            for task in self._under_way - given_up:
                task.cancel()
            given_up |= self._under_way
            await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)

    def _pool(self, name: str) -> Pool:
        if name not in self._pools:
            raise NoSuchFunctionError(name)
        return self._pools[name]

    # Asynchronous invocations

    async def _see_through(self, event: _AsyncEvent) -> None:
        if self._chaos.strikes(Fault.DELAY_INVOKE, event.name):
            await asyncio.sleep(self._chaos.delay(Fault.DELAY_INVOKE))
        throttled_s = self._limits.throttled_retry_s
        outcome: Outcome | None = None
        while True:
            pause = throttled_s
            try:
                outcome = await self.run(event.name, event.payload, request_id=event.request_id)
            except ThrottledError:
                throttled_s = min(throttled_s * 2, THROTTLED_PAUSE_S)
            else:
                event.attempts += 1
                if not outcome.error:
                    return None
                if event.attempts > event.function.retries:
                    return self._give_up(event, "RetriesExhausted", outcome)
                pause = self._pause_after(event.attempts)
            left = event.came_at + event.function.event_age_s - time.time()
            if left <= pause:
                await asyncio.sleep(max(left, 0.0))
                return self._give_up(event, "EventAgeExceeded", outcome)
            await asyncio.sleep(pause)

    def _pause_after(self, attempts: int) -> float:
        pauses = self._limits.retry_s
        return pauses[min(attempts, len(pauses)) - 1] if pauses else 0.0

    def _give_up(self, event: _AsyncEvent, condition: str, outcome: Outcome | None) -> None:
        if event.function.on_failure:
            record = self._record(event, condition, outcome)
            self._send(event.function.on_failure, orjson.dumps(record).decode())

    def _record(
        self, event: _AsyncEvent, condition: str, outcome: Outcome | None
    ) -> dict[str, Any]:
        arn = self._deployment.function_arn(event.name)
        record: dict[str, Any] = {
            "version": "1.0",
            "timestamp": datetime.now(UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "requestContext": {
                "requestId": event.request_id,
                "functionArn": f"{arn}:$LATEST",
                "condition": condition,
                "approximateInvokeCount": event.attempts,
            },
            "requestPayload": orjson.loads(event.payload),
        }
        if outcome is not None:
            record["responseContext"] = {
                "statusCode": 200,
                "executedVersion": "$LATEST",
                "functionError": outcome.error,
            }
            record["responsePayload"] = orjson.loads(outcome.payload)
        return record

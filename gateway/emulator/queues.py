"""Queues with one consumer each: SQS and Lambda's event source mapping, in memory.

See https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html for the event and for partial batch responses.
"""

import asyncio
import hashlib
import secrets
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from gateway.emulator.chaos import Chaos, Fault
from gateway.emulator.deployment import Queue
from gateway.emulator.workers import Outcome

ALL: Final = frozenset({"*"})
"""In place of message ids: none of the batch was dealt with."""


@dataclass(slots=True, kw_only=True)
class Message:
    """One message of a queue.

    Attributes:
        body: text.
        message_id: a UUID.
        sent_at: Unix time in seconds.
        visible_at: when it may be received, in seconds of the loop's clock.
        receives: how often it was.
        first_received_at: Unix time in seconds; 0 before.
    """

    body: str
    visible_at: float
    message_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    sent_at: float = field(default_factory=time.time)
    receives: int = 0
    first_received_at: float = 0.0


class LocalQueue:
    """One queue. `consume` hands over its messages until it is cancelled.

    Args:
        queue: what it is.
        arn: its name in events.
        region: likewise.
        invoke: its consumer; raises nothing: a throttled invocation is an error like any other.
        chaos: lets messages come again.
    """

    def __init__(
        self,
        queue: Queue,
        *,
        arn: str,
        region: str,
        invoke: Callable[[bytes], Awaitable[Outcome]],
        chaos: Chaos,
    ) -> None:
        self._queue = queue
        self._arn = arn
        self._region = region
        self._invoke = invoke
        self._chaos = chaos
        self._messages: list[Message] = []
        self._changed = asyncio.Event()
        self.dead_letters: list[Message] = []

    def __len__(self) -> int:
        return len(self._messages)

    def send(self, body: str) -> None:
        """Put in a message."""
        now = asyncio.get_running_loop().time()
        self._messages.append(Message(body=body, visible_at=now))
        self._changed.set()

    async def consume(self) -> None:
        """Hand over messages, one batch at a time."""
        while True:
            batch = self._receive()
            if batch:
                await self._hand_over(batch)
            else:
                await self._wait()

    def _receive(self) -> list[Message]:
        now = asyncio.get_running_loop().time()
        batch = [each for each in self._messages if each.visible_at <= now]
        batch = batch[: self._queue.batch_size]
        for message in batch:
            message.receives += 1
            message.first_received_at = message.first_received_at or time.time()
            message.visible_at = now + self._queue.visibility_s
        return batch

    async def _wait(self) -> None:
        now = asyncio.get_running_loop().time()
        soonest = min((each.visible_at for each in self._messages), default=None)
        self._changed.clear()
        try:
            async with asyncio.timeout(None if soonest is None else max(soonest - now, 0.0)):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _hand_over(self, batch: list[Message]) -> None:
        event = {"Records": [self._record(message) for message in batch]}
        failed = self._failed(await self._invoke(orjson.dumps(event)), batch)
        for message in batch:
            if failed is ALL or message.message_id in failed:
                self._fail(message)
            elif not self._chaos.strikes(Fault.DUPLICATE_RECORD, self._queue.consumer):
                self._messages.remove(message)

    def _fail(self, message: Message) -> None:
        if 0 < self._queue.max_receives <= message.receives:
            self._messages.remove(message)
            self.dead_letters.append(message)

    def _failed(self, outcome: Outcome, batch: list[Message]) -> frozenset[str]:
        """Return the ids of messages that were not dealt with. A list that is malformed fails them all."""
        if outcome.error:
            return ALL
        if not self._queue.reports_failures:
            return frozenset()
        try:
            answer = orjson.loads(outcome.payload)
        except orjson.JSONDecodeError:  # the runtime lets NaN through
            return ALL
        items = answer.get("batchItemFailures") if isinstance(answer, dict) else None
        named: list[object] = [
            item.get("itemIdentifier") if isinstance(item, dict) else "" for item in items or ()
        ]
        failed = frozenset(m.message_id for m in batch if m.message_id in named)
        return failed if len(failed) == len(set(named)) else ALL

    def _record(self, message: Message) -> dict[str, Any]:
        return {
            "messageId": message.message_id,
            "receiptHandle": secrets.token_urlsafe(64),
            "body": message.body,
            "attributes": {
                "ApproximateReceiveCount": str(message.receives),
                "SentTimestamp": str(int(message.sent_at * 1000)),
                "SenderId": "AROAEMULATOR:emulator",
                "ApproximateFirstReceiveTimestamp": str(int(message.first_received_at * 1000)),
            },
            "messageAttributes": {},
            "md5OfBody": hashlib.md5(message.body.encode(), usedforsecurity=False).hexdigest(),
            "eventSource": "aws:sqs",
            "eventSourceARN": self._arn,
            "awsRegion": self._region,
        }

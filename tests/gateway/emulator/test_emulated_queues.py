"""What a consumer's answer says of a batch."""

import asyncio
from typing import Any

import orjson
import pytest

from gateway.emulator.chaos import Chaos
from gateway.emulator.deployment import Queue
from gateway.emulator.queues import LocalQueue
from gateway.emulator.workers import UNHANDLED, Outcome


async def left_after(answer: Any, *, error: str = "", reports_failures: bool = True) -> list[str]:
    """Return what stays of the messages `a` and `b` after their consumer said something."""
    handed_over: list[dict[str, Any]] = []
    said = asyncio.Event()

    async def consumer(event: bytes) -> Outcome:
        handed_over.extend(orjson.loads(event)["Records"])
        ids = {record["body"]: record["messageId"] for record in handed_over}
        payload = orjson.dumps(answer(ids) if callable(answer) else answer)
        said.set()
        return Outcome(payload=payload, error=error)

    queue = LocalQueue(
        Queue(consumer="f", reports_failures=reports_failures),
        arn="arn:aws:sqs:us-east-1:123456789012:q",
        region="us-east-1",
        invoke=consumer,
        chaos=Chaos(),
    )
    for body in ("a", "b"):
        queue.send(body)
    task = asyncio.create_task(queue.consume())
    await asyncio.wait_for(said.wait(), 10)
    await asyncio.sleep(0)
    task.cancel()
    return [message.body for message in queue._messages]


@pytest.mark.parametrize(
    "answer",
    [None, {}, "", {"statusCode": 200}, {"batchItemFailures": []}, {"batchItemFailures": None}],
)
async def test_an_answer_without_failures_settles_the_batch(answer: Any) -> None:
    assert await left_after(answer) == []


async def test_what_is_reported_stays() -> None:
    assert await left_after(lambda ids: {"batchItemFailures": [{"itemIdentifier": ids["b"]}]}) == [
        "b"
    ]


@pytest.mark.parametrize(
    "item",
    ["x", None, {}, {"itemIdentifier": ""}, {"itemIdentifier": None}, {"itemIdentifier": "x"}],
)
async def test_a_malformed_report_fails_the_batch(item: Any) -> None:
    assert await left_after({"batchItemFailures": [item]}) == ["a", "b"]


async def test_what_is_no_json_fails_the_batch() -> None:
    assert await left_after(orjson.Fragment(b"NaN")) == ["a", "b"]


async def test_an_error_fails_the_batch() -> None:
    assert await left_after({"errorMessage": "x"}, error=UNHANDLED) == ["a", "b"]


async def test_a_report_does_not_count_where_it_is_not_configured() -> None:
    report = {"batchItemFailures": [{"itemIdentifier": "x"}]}
    assert await left_after(report, reports_failures=False) == []

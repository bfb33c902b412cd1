"""Lambda's Invoke by the SDK: concurrency, retries, the queue of failures, and what chaos does to them."""

import asyncio
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from gateway.emulator import Fault, Function, Limits, Queue
from tests.gateway.emulator.conftest import Printed, until

Emulating = Callable[..., Any]
Sdk = Callable[..., Any]

QUICK = Limits(retry_s=(0.05, 0.1), throttled_retry_s=0.05)


async def start(api: Any, name: str, event: Any = None) -> int:
    """Invoke asynchronously; return the status."""
    answer = await api.invoke(
        FunctionName=name, InvocationType="Event", Payload=json.dumps(event).encode()
    )
    status: int = answer["StatusCode"]
    return status


async def refused(api: Any, **request: Any) -> tuple[int, str]:
    with pytest.raises(ClientError) as error:
        await api.invoke(**request)
    metadata = error.value.response["ResponseMetadata"]
    return metadata["HTTPStatusCode"], error.value.response["Error"]["Code"]


# What is asked


@pytest.mark.parametrize(
    "name",
    [
        "f",
        "f:$LATEST",
        "123456789012:function:f",
        "arn:aws:lambda:us-east-1:123456789012:function:f",
        "arn:aws:lambda:us-east-1:123456789012:function:f:live",
    ],
)
async def test_a_function_is_named_in_several_ways(
    emulating: Emulating, sdk: Sdk, name: str
) -> None:
    emulated = await emulating(functions={"f": "room:give_back"})
    api = await sdk("lambda", emulated.lambda_url)
    answer = await api.invoke(FunctionName=name, Payload=b'{"a": 1}')
    assert (answer["StatusCode"], answer["ExecutedVersion"]) == (200, "$LATEST")
    async with answer["Payload"] as stream:
        assert json.loads(await stream.read()) == {"a": 1}


async def test_what_cannot_be_invoked_is_refused(emulating: Emulating, sdk: Sdk) -> None:
    emulated = await emulating(functions={"f": "room:give_back"})
    api = await sdk("lambda", emulated.lambda_url)
    assert await refused(api, FunctionName="g") == (404, "ResourceNotFoundException")
    assert await refused(api, FunctionName="g", InvocationType="Event") == (
        404,
        "ResourceNotFoundException",
    )
    assert await refused(api, FunctionName="f", Payload=b"{") == (
        400,
        "InvalidRequestContentException",
    )
    large = b'"%s"' % (b"x" * 1_048_576)
    assert await refused(
        api, FunctionName="f", InvocationType="Event", Payload=io.BytesIO(large)
    ) == (
        413,
        "RequestTooLargeException",
    )
    assert (await api.invoke(FunctionName="f", InvocationType="DryRun"))["StatusCode"] == 204


async def test_as_many_run_as_are_reserved(
    emulating: Emulating, sdk: Sdk, printed: Printed
) -> None:
    emulated = await emulating(functions={"f": Function(handler="room:hang", concurrency=2)})
    api = await sdk("lambda", emulated.lambda_url)
    running = [asyncio.create_task(api.invoke(FunctionName="f")) for _ in range(2)]
    await printed.wait("f", 2)
    assert await refused(api, FunctionName="f") == (429, "TooManyRequestsException")
    emulated.kill("f")
    for task in running:
        assert (await task)["FunctionError"] == "Unhandled"


# Asynchronous invocations


async def test_one_that_succeeds_runs_once(
    emulating: Emulating, sdk: Sdk, printed: Printed
) -> None:
    emulated = await emulating(functions={"f": "room:seen"})
    api = await sdk("lambda", emulated.lambda_url)
    assert await start(api, "f", {"a": 1}) == 202
    assert await printed.event("f") == {"a": 1}
    await emulated.settle()
    assert len(printed.of("f")) == 1


async def test_one_that_fails_is_repeated_with_the_same_request_id(
    emulating: Emulating, sdk: Sdk, tmp_path: Path
) -> None:
    emulated = await emulating(
        functions={"f": "room:by_turns"},
        environment={"FOLDER": str(tmp_path), "ATTEMPTS": "3"},
        limits=QUICK,
    )
    await start(await sdk("lambda", emulated.lambda_url), "f")
    await emulated.settle()
    attempts = (tmp_path / "attempts").read_text().splitlines()
    assert len(attempts) == 3
    assert len(set(attempts)) == 1


async def test_one_that_failed_for_good_goes_to_the_queue(
    emulating: Emulating, sdk: Sdk, printed: Printed
) -> None:
    emulated = await emulating(
        functions={
            "f": Function(handler="room:fail", retries=1, on_failure="failures"),
            "seal": "room:seen",
        },
        queues={"failures": Queue(consumer="seal")},
        limits=QUICK,
    )
    await start(await sdk("lambda", emulated.lambda_url), "f", {"run": 7})
    event = await printed.event("seal")
    (record,) = event["Records"]
    assert record["eventSource"] == "aws:sqs"
    assert record["eventSourceARN"] == "arn:aws:sqs:us-east-1:123456789012:failures"
    assert record["attributes"]["ApproximateReceiveCount"] == "1"
    told = json.loads(record["body"])
    assert told["requestPayload"] == {"run": 7}
    assert told["requestContext"]["condition"] == "RetriesExhausted"
    assert told["requestContext"]["approximateInvokeCount"] == 2
    assert told["requestContext"]["functionArn"].endswith(":function:f:$LATEST")
    assert told["responseContext"]["functionError"] == "Unhandled"
    assert told["responsePayload"]["errorMessage"] == "a detail"
    await emulated.settle()
    assert emulated.queued("failures") == 0


async def test_one_that_was_killed_goes_there_too(
    emulating: Emulating, sdk: Sdk, printed: Printed
) -> None:
    emulated = await emulating(
        functions={
            "f": Function(handler="room:hang", retries=0, on_failure="failures"),
            "seal": "room:seen",
        },
        queues={"failures": Queue(consumer="seal")},
    )
    await start(await sdk("lambda", emulated.lambda_url), "f", {"run": 7})
    await printed.wait("f")
    assert emulated.kill("f") == 1
    told = json.loads((await printed.event("seal"))["Records"][0]["body"])
    assert told["requestPayload"] == {"run": 7}
    assert told["responsePayload"]["errorType"] == "Runtime.ExitError"


async def test_one_that_is_throttled_waits_until_it_is_too_old(
    emulating: Emulating, sdk: Sdk, printed: Printed
) -> None:
    emulated = await emulating(
        functions={
            "f": Function(
                handler="room:hang",
                concurrency=1,
                retries=0,
                event_age_s=0.5,
                on_failure="failures",
            ),
            "seal": "room:seen",
        },
        queues={"failures": Queue(consumer="seal")},
        limits=QUICK,
    )
    api = await sdk("lambda", emulated.lambda_url)
    await start(api, "f", "first")
    await printed.wait("f")
    await start(api, "f", "second")
    told = json.loads((await printed.event("seal"))["Records"][0]["body"])
    assert told["requestPayload"] == "second"
    assert told["requestContext"]["condition"] == "EventAgeExceeded"
    assert told["requestContext"]["approximateInvokeCount"] == 0
    assert "responsePayload" not in told


async def test_one_that_is_throttled_runs_when_there_is_room(
    emulating: Emulating, sdk: Sdk, printed: Printed
) -> None:
    emulated = await emulating(functions={"f": "room:seen"}, limits=QUICK)
    emulated.chaos.order(Fault.THROTTLE, times=2)
    await start(await sdk("lambda", emulated.lambda_url), "f", "waits")
    assert await printed.event("f") == "waits"
    assert sum(line.endswith("throttled") for line in printed.of("f")) == 2


# The queue


@pytest.fixture
async def failing(emulating: Emulating, sdk: Sdk) -> Callable[..., Any]:
    """Start an emulator whose `f` fails at once; its failures go to `seal`."""

    async def begin(seal: str, **queue: Any) -> tuple[Any, Any]:
        emulated = await emulating(
            functions={
                "f": Function(handler="room:fail", retries=0, on_failure="failures"),
                "seal": seal,
            },
            queues={"failures": Queue(consumer="seal", visibility_s=0.1, **queue)},
            environment={"ATTEMPTS": "3"},
        )
        return emulated, await sdk("lambda", emulated.lambda_url)

    return begin


async def test_a_message_comes_again_while_its_consumer_fails(
    failing: Callable[..., Any], printed: Printed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOLDER", str(tmp_path))
    emulated, api = await failing("room:by_turns")
    await start(api, "f")
    await emulated.settle()
    await until(lambda: emulated.queued("failures") == 0 and len(printed.of("seal")) >= 3)
    events = printed.events("seal")
    counts = [event["Records"][0]["attributes"]["ApproximateReceiveCount"] for event in events]
    assert counts == ["1", "2", "3"]
    assert len({event["Records"][0]["messageId"] for event in events}) == 1


async def test_messages_that_are_reported_come_again_alone(
    failing: Callable[..., Any], printed: Printed
) -> None:
    emulated, api = await failing("room:some_of_a_batch")
    for text in ("now", "later"):
        await start(api, "f", text)
    await until(lambda: emulated.queued("failures") == 0 and len(printed.of("seal")) >= 2)
    bodies = [
        json.loads(record["body"])["requestPayload"]
        for line in printed.of("seal")
        for record in json.loads(line)["Records"]
    ]
    assert sorted(bodies) == ["later", "later", "now"]


async def test_a_message_that_comes_too_often_is_a_dead_letter(
    failing: Callable[..., Any],
) -> None:
    emulated, api = await failing("room:fail", max_receives=2)
    await start(api, "f", "hopeless")
    await until(lambda: bool(emulated.dead_letters("failures")))
    (letter,) = emulated.dead_letters("failures")
    assert letter.receives == 2
    assert emulated.queued("failures") == 0


async def test_a_message_that_was_dealt_with_can_come_again(
    failing: Callable[..., Any], printed: Printed
) -> None:
    emulated, api = await failing("room:some_of_a_batch")
    emulated.chaos.order(Fault.DUPLICATE_RECORD)
    await start(api, "f", "twice")
    await until(lambda: len(printed.of("seal")) == 2)
    await until(lambda: emulated.queued("failures") == 0)


# Chaos


async def test_one_can_be_lost_doubled_or_late(
    emulating: Emulating, sdk: Sdk, printed: Printed
) -> None:
    emulated = await emulating(functions={"f": "room:seen"})
    api = await sdk("lambda", emulated.lambda_url)
    emulated.chaos.order(Fault.DROP_INVOKE)
    assert await start(api, "f", "lost") == 202
    emulated.chaos.order(Fault.DUPLICATE_INVOKE)
    assert await start(api, "f", "doubled") == 202
    emulated.chaos.order(Fault.DELAY_INVOKE)
    assert await start(api, "f", "late") == 202
    await emulated.settle()
    assert sorted(printed.of("f")) == ['"doubled"', '"doubled"', '"late"']

"""DynamoDB or S3 fails under the real functions: what people get, how soon, and that it passes."""

import secrets
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from gateway.hosts.aws.invoker import payload_of
from storage.records import Owner
from tests.engines.fault_proxy import FAIL, THROTTLE, Answer, Fault
from tests.engines.processes import Engine
from tests.gateway.hosts.aws.functions import TENANT, Functions, running_functions
from tests.gateway.hosts.aws.test_aws_functions import (
    asked,
    events,
    send,
    stored_reply,
    text,
    wait_for,
)

WITHIN_S = 5.0
"""What is promised of an error, and of the end of an answer that cannot be kept."""

MARGIN_S = 1.0
"""For the rest of an invocation, on a busy machine."""

ALWAYS = 10_000
LARGEST_FRAME = 10_240 + 200
ACCEPT = ("TransactWriteItems",)
EVERYTHING = (
    *("GetItem", "BatchGetItem", "Query"),
    *("PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "TransactWriteItems"),
)


@pytest.fixture(scope="module")
def functions(
    dynoxide: Engine, moto_server: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Functions]:
    """Functions whose model writes forty fragments a second."""
    folder: Path = tmp_path_factory.mktemp("faults")
    with running_functions(dynoxide, moto_server, folder, MAKOTO_SCRIPTED_PACE="40") as running:
        yield running


@pytest.fixture(autouse=True)
def somebody_new(functions: Functions) -> Iterator[None]:
    """Let each test be another person's, and begin with all well."""
    functions.user = f"user-{secrets.token_hex(4)}"
    functions.lambdas.asked.clear()
    yield
    functions.dynamodb.heal()
    functions.s3.heal()


def dynamodb_fails(
    functions: Functions, fault: Answer | Fault, operations: tuple[str, ...] = EVERYTHING
) -> None:
    for operation in operations:
        functions.dynamodb.fail(operation, fault, times=ALWAYS)


@pytest.mark.parametrize(
    ("operations", "fault", "was_stored"),
    [
        (EVERYTHING, THROTTLE, False),
        (ACCEPT, FAIL, False),
        (ACCEPT, Fault.LOSE_REPLY, True),
    ],
    ids=["throttled", "500", "stored-all-the-same"],
)
def test_a_refused_message_is_told_in_time_and_may_be_sent_again(
    functions: Functions, operations: tuple[str, ...], fault: Answer | Fault, was_stored: bool
) -> None:
    here = functions.connect()
    functions.command(here, type="hello")  # warm
    dynamodb_fails(functions, fault, operations)
    began = time.monotonic()
    functions.command(here, type="send", id="s1", content="echo Hello")
    took = time.monotonic() - began
    error = functions.last(here)
    assert (error["code"], error["id"], error["retryable"]) == ("storage.unavailable", "s1", True)
    assert took < WITHIN_S + MARGIN_S

    functions.dynamodb.heal()
    run_id = send(functions, here, "echo Hello", id="s1")
    assert functions.last(here).get("duplicate", False) is was_stored
    # One that was stored is handed over again only when it is late; here it is not waited for.
    functions.reply(payload_of(Owner(tenant_id=TENANT, user_id=functions.user), run_id))
    answer = events(functions, here, run_id)
    assert (text(answer), answer[-1]["saved"]) == ("Hello", True)
    functions.command(here, type="sessions", id="all")
    assert len(functions.last(here)["items"]) == 1


def test_a_message_whose_confirmation_was_lost_is_accepted_once(functions: Functions) -> None:
    here = functions.connect()
    functions.dynamodb.fail("TransactWriteItems", Fault.LOSE_REPLY)
    send(functions, here, "echo Hello")
    assert "duplicate" not in functions.last(here)
    asked(functions)
    functions.command(here, type="sessions", id="all")
    assert len(functions.last(here)["items"]) == 1


def test_an_answer_is_shown_while_dynamodb_hangs_and_kept_afterwards(functions: Functions) -> None:
    here, there = functions.connect(), functions.connect()
    said = "Whatever becomes of the table, the person who asked shall read this to its end."
    run_id = send(functions, here, f"echo {said}")
    session_id = functions.last(here)["session_id"]
    writing = functions.in_background(functions["reply"], asked(functions))
    wait_for(lambda: text(events(functions, here, run_id)))

    dynamodb_fails(functions, Fault.HANG)
    failing = time.monotonic()
    functions.command(there, type="send", id="s2", content="echo Hello")
    assert time.monotonic() - failing < WITHIN_S + MARGIN_S
    assert functions.last(there)["code"] == "storage.unavailable"
    wait_for(lambda: text(events(functions, here, run_id)) == said)
    shown = time.monotonic()
    assert shown - failing < WITHIN_S + MARGIN_S
    wait_for(lambda: events(functions, here, run_id)[-1]["type"] == "done")
    assert time.monotonic() - shown < WITHIN_S + MARGIN_S
    done = events(functions, here, run_id)[-1]
    assert (done["reason"], done["saved"]) == ("stop", False)

    functions.dynamodb.heal()
    writing.result(timeout=60)
    assert stored_reply(functions, here, session_id)["content"] == said
    again = send(functions, here, "echo More", session_id=session_id)
    functions.reply(asked(functions))
    assert events(functions, here, again)[-1]["saved"] is True


def test_while_s3_hangs_a_large_text_arrives_in_smaller_frames(functions: Functions) -> None:
    here = functions.connect()
    functions.s3.fail("PUT", Fault.HANG, times=ALWAYS)
    run_id = send(functions, here, "large")
    began = time.monotonic()
    functions.reply(asked(functions))
    took = time.monotonic() - began
    answer = events(functions, here, run_id)
    assert len(text(answer)) > 10_240
    assert (answer[-1]["reason"], answer[-1]["saved"]) == ("stop", True)
    assert max(len(frame) for frame in functions.api.arrived(here)) <= LARGEST_FRAME
    assert took < WITHIN_S + 3 * MARGIN_S

    functions.s3.heal()
    before = len(functions.frames(here))
    again = send(functions, here, "large")
    functions.reply(asked(functions))
    (payload,) = [frame for frame in functions.frames(here)[before:] if frame["type"] == "payload"]
    assert payload["run_id"] == again
    with urllib.request.urlopen(payload["url"], timeout=20) as response:
        assert text(orjson.loads(response.read())["events"]) == text(answer)


def test_what_dynamodb_leaves_undone_is_asked_for_again(functions: Functions) -> None:
    here = functions.connect()
    runs = {send(functions, here, f"echo {number}") for number in range(4)}
    session_id = functions.last(here)["session_id"]
    functions.dynamodb.fail("BatchGetItem", Fault.UNPROCESSED, times=2)
    functions.command(here, type="hello")
    assert {run["run_id"] for run in functions.last(here)["runs"]} == runs

    functions.reply_to_all()
    functions.dynamodb.fail("BatchWriteItem", Fault.UNPROCESSED, times=2)
    functions.command(here, type="forget", id="f", session_id=session_id)
    functions.command(here, type="sessions", id="all")
    assert len(functions.last(here)["items"]) == 3
    functions.command(here, type="history", id="h", session_id=session_id)
    assert functions.last(here)["code"] == "not_found"

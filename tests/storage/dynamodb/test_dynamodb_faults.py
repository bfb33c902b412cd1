"""What the client does when DynamoDB throttles, fails, hangs, or does the work and loses the reply."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from storage import attempts
from storage.attempts import AttemptFailedError
from storage.dynamodb import batches
from storage.dynamodb.batches import delete_all, get_all, write_all
from storage.dynamodb.client import (
    CONDITION_FAILED,
    ConditionFailedError,
    TransactionCanceledError,
)
from storage.dynamodb.faults import fault_of
from storage.errors import StorageError, StorageUnavailableError
from tests.engines.fault_proxy import (
    FAIL,
    THROTTLE,
    THROTTLE_ACCOUNT,
    Answer,
    Fault,
    FaultProxy,
    refusal,
)
from tests.storage.dynamodb.clients import Table, item, opened, signed
from tests.storage.sqlite.waiting import until

WITHIN_S = 5.0
"""What the repositories promise."""

UNBLOCKED_S = 0.7
"""How long a loop that nobody blocks may keep a ticker waiting on a busy machine; one attempt that hangs
takes twice that."""


@dataclass(slots=True)
class Watch:
    """What was seen while a block ran."""

    took_s: float = 0.0
    longest_gap_s: float = 0.0


@asynccontextmanager
async def watched() -> AsyncIterator[Watch]:
    """Measure the block, and how well other tasks run meanwhile."""
    watch = Watch()
    started = latest = time.monotonic()

    async def tick() -> None:
        nonlocal latest
        while True:
            await asyncio.sleep(0.01)
            now = time.monotonic()
            watch.longest_gap_s = max(watch.longest_gap_s, now - latest)
            latest = now

    ticker = asyncio.create_task(tick())
    try:
        yield watch
    finally:
        ticker.cancel()
        ended = time.monotonic()
        watch.took_s = ended - started
        watch.longest_gap_s = max(watch.longest_gap_s, ended - latest)


def colliding(operation: str) -> Answer:
    """Return what DynamoDB says to a write that meets a transaction under way."""
    if operation != "TransactWriteItems":
        return refusal("TransactionConflictException")
    said = orjson.loads(refusal("TransactionCanceledException").body)
    said["CancellationReasons"] = [{"Code": "TransactionConflict"}, {"Code": "None"}]
    return Answer(status=400, body=orjson.dumps(said))


@pytest.mark.parametrize(
    "fault",
    [THROTTLE, THROTTLE_ACCOUNT, FAIL, colliding("PutItem"), Fault.CUT, Answer(status=503)],
    ids=["throttle", "account", "500", "conflict", "cut", "503"],
)
async def test_what_passes_is_tried_again(
    proxy: FaultProxy, faulty_table: Table, fault: Answer | Fault
) -> None:
    proxy.fail("PutItem", fault, times=2)
    await faulty_table.put_new(item("a"))

    assert proxy.asked == ["PutItem"] * 3
    assert await faulty_table.get(item("a")) is not None


@pytest.mark.parametrize(
    "fault", [THROTTLE, FAIL, Fault.CUT, Fault.HALF_REPLY], ids=["throttle", "500", "cut", "half"]
)
async def test_what_does_not_pass_is_unavailable_in_time(
    proxy: FaultProxy, faulty_table: Table, fault: Answer | Fault
) -> None:
    proxy.fail("GetItem", fault, times=99)
    async with watched() as watch:
        with pytest.raises(StorageUnavailableError) as raised:
            await faulty_table.get(item("a"))

    assert raised.value.retryable
    assert proxy.asked == ["GetItem"] * 3
    assert watch.took_s < WITHIN_S
    assert watch.longest_gap_s < UNBLOCKED_S


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.TRICKLE], ids=["silent", "slow"])
async def test_a_service_that_hangs_is_unavailable_in_time_and_blocks_nobody(
    proxy: FaultProxy, faulty_table: Table, fault: Fault
) -> None:
    await faulty_table.put_new(item("a", text={"S": "x" * 500}))
    proxy.fail("GetItem", fault, times=99)
    async with watched() as watch:
        with pytest.raises(StorageUnavailableError):
            await faulty_table.get(item("a"))

    assert watch.took_s < WITHIN_S
    assert watch.longest_gap_s < UNBLOCKED_S


async def test_calls_beside_one_that_hangs_go_on(proxy: FaultProxy, faulty_table: Table) -> None:
    proxy.fail("PutItem", Fault.HANG, times=99)
    hanging = asyncio.create_task(faulty_table.put_new(item("a")))
    await until(lambda: "PutItem" in proxy.asked)
    async with watched() as watch:
        for _ in range(5):
            assert await faulty_table.get(item("a")) is None
    proxy.heal()
    await hanging

    assert watch.took_s < 1


async def test_a_call_that_hangs_can_be_cancelled(proxy: FaultProxy, faulty_table: Table) -> None:
    proxy.fail("PutItem", Fault.HANG)
    hanging = asyncio.create_task(faulty_table.put_new(item("a")))
    await until(lambda: "PutItem" in proxy.asked)
    hanging.cancel()
    async with watched() as watch:
        with pytest.raises(asyncio.CancelledError):
            await hanging
        await faulty_table.put_new(item("a"))

    assert watch.took_s < 1


async def test_an_address_where_nobody_listens_is_unavailable_in_time() -> None:
    async with opened(signed("http://127.0.0.1:9")) as client, watched() as watch:
        with pytest.raises(StorageUnavailableError):
            await client.call("GetItem", {"TableName": "test", "Key": item("a")})

    assert watch.took_s < WITHIN_S


async def test_a_client_outlives_its_connections(proxy: FaultProxy, faulty_table: Table) -> None:
    for _ in range(3):
        found = await asyncio.gather(*(faulty_table.get(item("a")) for _ in range(4)))
        assert found == [None] * 4
        proxy.cut_idle()
        # One call has fewer attempts than there are connections that are no good any more.
        assert await faulty_table.get(item("a")) is None


async def test_calls_one_after_the_other_share_a_connection(
    proxy: FaultProxy, faulty_table: Table
) -> None:
    for _ in range(5):
        await faulty_table.get(item("a"))

    assert proxy.connections == 1


def test_a_client_outlives_a_frozen_loop(proxy: FaultProxy) -> None:
    client = signed(proxy.url)

    async def ask_at_once() -> None:
        await asyncio.gather(*(client.call("ListTables", {}) for _ in range(4)))

    with asyncio.Runner() as runner:  # as a function keeps it between its invocations
        for _ in range(3):
            runner.run(ask_at_once())
            proxy.cut_idle()
            runner.run(client.call("ListTables", {}))
        runner.run(client.aclose())


async def test_a_connection_that_ended_while_idle_costs_no_pause(
    proxy: FaultProxy, faulty_table: Table
) -> None:
    await faulty_table.get(item("a"))
    proxy.cut_idle()
    async with watched() as watch:
        await faulty_table.get(item("a"))

    assert watch.took_s < 0.5


@pytest.mark.parametrize("fault", [Fault.LOSE_REPLY, Fault.HANG_AFTER], ids=["cut", "hang"])
async def test_a_write_whose_reply_was_lost_is_known_by_its_old_item(
    proxy: FaultProxy, faulty_table: Table, fault: Fault
) -> None:
    ours = item("slot", by={"S": "us"}, body={"B": b"\xff" * 50})
    proxy.fail("PutItem", fault)
    with pytest.raises(ConditionFailedError) as raised:
        await faulty_table.put_new(ours)

    assert raised.value.item == ours
    assert proxy.asked == ["PutItem"] * 2


@pytest.mark.parametrize("fault", [Fault.LOSE_REPLY, Fault.HALF_REPLY], ids=["none", "half"])
async def test_a_transaction_whose_reply_was_lost_is_carried_out_once(
    proxy: FaultProxy, faulty_table: Table, fault: Fault
) -> None:
    adding = {
        "TableName": faulty_table.name,
        "Key": item("counter"),
        "UpdateExpression": "ADD n :one",
        "ExpressionAttributeValues": {":one": {"N": "1"}},
    }
    proxy.fail("TransactWriteItems", fault)
    await faulty_table.client.call("TransactWriteItems", {"TransactItems": [{"Update": adding}]})

    assert proxy.asked == ["TransactWriteItems"] * 2
    assert await faulty_table.get(item("counter")) == item("counter", n={"N": "1"})


async def test_two_transactions_are_not_taken_for_one(faulty_table: Table) -> None:
    adding = {
        "TableName": faulty_table.name,
        "Key": item("counter"),
        "UpdateExpression": "ADD n :one",
        "ExpressionAttributeValues": {":one": {"N": "1"}},
    }
    for _ in range(2):
        await faulty_table.client.call(
            "TransactWriteItems", {"TransactItems": [{"Update": adding}]}
        )

    assert await faulty_table.get(item("counter")) == item("counter", n={"N": "2"})


async def test_a_transaction_that_collides_is_tried_again(
    proxy: FaultProxy, faulty_table: Table
) -> None:
    put = {"TableName": faulty_table.name, "Item": item("a")}
    proxy.fail("TransactWriteItems", colliding("TransactWriteItems"), times=2)
    await faulty_table.client.call("TransactWriteItems", {"TransactItems": [{"Put": put}]})

    assert await faulty_table.get(item("a")) == item("a")


async def test_half_an_answer_is_none(proxy: FaultProxy, faulty_table: Table) -> None:
    whole = item("a", text={"S": "x" * 5000})
    await faulty_table.put_new(whole)
    proxy.fail("GetItem", Fault.HALF_REPLY)

    assert await faulty_table.get(whole) == whole


async def test_a_batch_is_done_to_its_end(proxy: FaultProxy, faulty_table: Table) -> None:
    client, name = faulty_table.client, faulty_table.name
    items = [item(f"many-{n}", n={"N": f"{n}"}, b={"B": b"\xff"}) for n in range(130)]
    keys = [item(f"many-{n}") for n in range(130)]
    for operation in ("BatchWriteItem", "BatchGetItem"):
        proxy.fail(operation, Fault.UNPROCESSED, times=3)

    await write_all(client, name, [{"PutRequest": {"Item": each}} for each in items])
    assert len(proxy.asked) == 6 + 3
    found = await get_all(client, name, [*keys, item("never")])
    assert {each["pk"]["S"]: each for each in found} == {each["pk"]["S"]: each for each in items}
    assert len(found) == len(items)
    proxy.fail("BatchWriteItem", Fault.UNPROCESSED, times=3)
    await delete_all(client, name, keys)
    assert await get_all(client, name, keys) == []


async def test_an_empty_batch_asks_nobody(proxy: FaultProxy, faulty_table: Table) -> None:
    await write_all(faulty_table.client, faulty_table.name, [])

    assert await get_all(faulty_table.client, faulty_table.name, []) == []
    assert proxy.asked == []


async def test_a_batch_that_does_not_get_on_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_PATIENCE_S", 0.2)

    class Lazy:
        calls = 0

        async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
            self.calls += 1
            return {"UnprocessedItems": request["RequestItems"]}

    lazy = Lazy()
    async with watched() as watch:
        with pytest.raises(StorageUnavailableError):
            await delete_all(lazy, "test", [item("a")])
    assert lazy.calls > 1
    assert watch.took_s < 1


def canceled(*codes: str) -> dict[str, Any]:
    return {"CancellationReasons": [{"Code": code} for code in codes]}


@pytest.mark.parametrize(
    ("status", "code", "answer", "error"),
    [
        (400, "ConditionalCheckFailedException", {}, ConditionFailedError),
        (
            400,
            "TransactionCanceledException",
            canceled("TransactionConflict", CONDITION_FAILED),
            TransactionCanceledError,
        ),
        (400, "TransactionCanceledException", canceled("None", "ValidationError"), StorageError),
        (
            400,
            "TransactionCanceledException",
            canceled("None", "ThrottlingError"),
            AttemptFailedError,
        ),
        (400, "TransactionCanceledException", {}, AttemptFailedError),
        (400, "ValidationException", {}, StorageError),
        (400, "AccessDeniedException", {}, StorageUnavailableError),
        (400, "ExpiredTokenException", {}, StorageUnavailableError),
        (400, "", {}, StorageUnavailableError),
        (400, "ThrottlingException", {}, AttemptFailedError),
        (500, "", {}, AttemptFailedError),
        (502, "Unheard", {}, AttemptFailedError),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_an_error_code_has_its_meaning(
    status: int, code: str, answer: dict[str, Any], error: type[Exception]
) -> None:
    assert type(fault_of(status, code, answer)) is error


async def test_all_attempts_together_have_a_bound(
    monkeypatch: pytest.MonkeyPatch, proxy: FaultProxy, faulty_table: Table
) -> None:
    monkeypatch.setattr(attempts, "WITHIN_S", 0.05)
    proxy.fail("GetItem", Fault.HANG)
    with pytest.raises(StorageUnavailableError, match="does not answer"):
        await faulty_table.get(item("a"))

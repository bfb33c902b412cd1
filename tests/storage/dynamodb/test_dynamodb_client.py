"""What the client promises, on each engine."""

import asyncio
import math
import uuid
from typing import Any

import pytest
from aiobotocore.session import get_session

from storage.dynamodb.client import (
    CONDITION_FAILED,
    ConditionFailedError,
    Reason,
    TransactionCanceledError,
)
from storage.dynamodb.signed_client import SignedClient
from storage.dynamodb.tables import LIVE_INDEX, LIVE_OF, SESSIONS_INDEX, SESSIONS_OF, TTL
from storage.errors import StorageError, StorageUnavailableError, UnstorableTextError
from tests.engines.processes import Engine
from tests.storage.dynamodb.clients import CREDENTIALS, REGION, Table, deviates, item


async def test_every_type_comes_back_as_it_was_stored(table: Table) -> None:
    whole = item(
        "types",
        text={"S": "日本語 \0 \U0001f600"},
        empty={"S": ""},
        number={"N": "1789999999.123456"},
        data={"B": bytes(range(256))},
        truth={"BOOL": True},
        nothing={"NULL": True},
        list={"L": [{"S": "a"}, {"B": b"\xff"}]},
        map={"M": {"B": {"S": "not bytes"}, "BS": {"L": [{"S": "nor these"}]}, "x": {"B": b""}}},
        texts={"SS": ["a"]},
        datas={"BS": [b"\x00\xff"]},
    )
    await table.call("PutItem", Item=whole)

    assert await table.get(whole) == whole


async def test_the_sdk_reads_what_is_stored_and_stores_what_is_read(
    table: Table, engine: Engine
) -> None:
    """A mistake that reading undoes again, as in the form of bytes, would be seen by nobody else."""
    whole = item("ours", data={"B": b"\x00\xff"}, list={"L": [{"M": {"x": {"B": b"y"}}}]})
    theirs = {**whole, **item("theirs")}
    await table.call("PutItem", Item=whole)
    options = {
        "region_name": REGION,
        "endpoint_url": engine.url,
        "aws_access_key_id": CREDENTIALS.access_key_id,
        "aws_secret_access_key": CREDENTIALS.secret_access_key,
    }
    async with get_session().create_client("dynamodb", **options) as sdk:
        read = await sdk.get_item(TableName=table.name, Key=item("ours"), ConsistentRead=True)
        await sdk.put_item(TableName=table.name, Item=theirs)

    assert read["Item"] == whole
    assert await table.get(theirs) == theirs


async def test_a_time_comes_back_exactly(table: Table) -> None:
    times = [1789999999.1234567, 0.1, math.nextafter(2e9, 3e9), 0.0]
    values = {"L": [{"N": repr(time)} for time in times]}
    await table.call("PutItem", Item=item("times", values=values))

    stored = await table.get(item("times"))
    assert stored is not None
    assert [float(value["N"]) for value in stored["values"]["L"]] == times


async def test_what_is_not_there_has_no_item(table: Table) -> None:
    assert await table.get(item("nothing")) is None


async def test_a_failed_condition_brings_the_old_item(table: Table) -> None:
    first = item("once", by={"S": "first"}, data={"B": b"\xff"})
    await table.put_new(first)

    with pytest.raises(ConditionFailedError) as raised:
        await table.put_new(item("once", by={"S": "second"}))
    assert raised.value.item == first
    assert await table.get(first) == first


async def test_a_failed_condition_on_nothing_brings_no_item(table: Table) -> None:
    with pytest.raises(ConditionFailedError) as raised:
        await table.call(
            "UpdateItem",
            Key=item("nothing"),
            UpdateExpression="SET a = :a",
            ConditionExpression="attribute_exists(pk)",
            ExpressionAttributeValues={":a": {"S": "a"}},
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )
    assert raised.value.item is None


def put_new(table: Table, name: str) -> dict[str, Any]:
    return {
        "Put": {
            "TableName": table.name,
            "Item": item(name, by={"S": "transaction"}),
            "ConditionExpression": "attribute_not_exists(pk)",
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
    }


async def test_a_canceled_transaction_says_which_entry_failed_on_what(table: Table) -> None:
    there = item("there", by={"S": "somebody"})
    await table.put_new(there)

    with pytest.raises(TransactionCanceledError) as raised:
        await table.client.call(
            "TransactWriteItems",
            {"TransactItems": [put_new(table, "free"), put_new(table, "there")]},
        )
    assert raised.value.reasons == (
        Reason(code=None, item=None),
        Reason(code=CONDITION_FAILED, item=there),
    )
    assert await table.get(item("free")) is None


async def test_a_transaction_with_the_same_token_is_carried_out_once(
    table: Table, request: pytest.FixtureRequest
) -> None:
    deviates(request, "moto", how="carries a repeated transaction out again")
    adding = {
        "Update": {
            "TableName": table.name,
            "Key": item("counter"),
            "UpdateExpression": "ADD n :one",
            "ExpressionAttributeValues": {":one": {"N": "1"}},
        }
    }
    once = {"TransactItems": [adding], "ClientRequestToken": str(uuid.uuid4())}
    for _ in range(2):
        await table.client.call("TransactWriteItems", once)

    assert await table.get(item("counter")) == item("counter", n={"N": "1"})


async def test_a_malformed_request_is_our_own_fault(table: Table) -> None:
    with pytest.raises(StorageError) as raised:
        await table.call("PutItem", Item={"pk": {"S": "no sort key"}})
    assert not raised.value.retryable


async def test_a_table_that_is_not_there_is_unavailable(client: SignedClient) -> None:
    with pytest.raises(StorageUnavailableError):
        await client.call("GetItem", {"TableName": "no-such-table", "Key": item("a")})


@pytest.mark.parametrize("text", ["\ud83d", "half \udc00 of it"], ids=["high", "low"])
async def test_half_a_surrogate_pair_is_refused(table: Table, text: str) -> None:
    with pytest.raises(UnstorableTextError):
        await table.call("PutItem", Item=item("half", text={"S": text}))
    with pytest.raises(UnstorableTextError):
        await table.get(item(text))


async def test_many_calls_at_once_are_answered_each(table: Table) -> None:
    numbers = range(40)
    await asyncio.gather(*(table.put_new(item(f"at-once-{n}")) for n in numbers))
    found = await asyncio.gather(*(table.get(item(f"at-once-{n}")) for n in numbers))

    assert found == [item(f"at-once-{n}") for n in numbers]


async def test_a_query_goes_on_where_its_page_ended(table: Table) -> None:
    for n in range(5):
        await table.call("PutItem", Item={"pk": {"S": "list"}, "sk": {"S": f"{n}"}})
    asked: dict[str, Any] = {
        "KeyConditionExpression": "pk = :pk",
        "ExpressionAttributeValues": {":pk": {"S": "list"}},
        "ConsistentRead": True,
        "ScanIndexForward": False,
        "Limit": 3,
    }
    first = await table.call("Query", **asked)
    second = await table.call("Query", **asked, ExclusiveStartKey=first["LastEvaluatedKey"])

    read = [found["sk"]["S"] for found in first["Items"] + second["Items"]]
    assert read == ["4", "3", "2", "1", "0"]
    assert "LastEvaluatedKey" not in second


async def test_the_table_of_data_has_its_indexes_and_expires_items(table: Table) -> None:
    owner = {"S": "owner"}
    await table.call(
        "PutItem",
        Item=item("session", **{SESSIONS_OF: owner, "updated_at": {"N": "2.5"}}, title={"S": "t"}),
    )
    await table.call(
        "PutItem",
        Item=item("run", **{LIVE_OF: owner, "created_at": {"N": "1.5"}}, state={"S": "queued"}),
    )
    read = {}
    for index, attribute in ((SESSIONS_INDEX, SESSIONS_OF), (LIVE_INDEX, LIVE_OF)):
        answer = await table.call(
            "Query",
            IndexName=index,
            KeyConditionExpression=f"{attribute} = :owner",
            ExpressionAttributeValues={":owner": owner},
        )
        ((read[index]),) = answer["Items"]
    described = await table.call("DescribeTimeToLive")

    assert read[SESSIONS_INDEX]["title"] == {"S": "t"}
    assert read[LIVE_INDEX] == item(
        "run", **{LIVE_OF: owner, "created_at": {"N": "1.5"}}
    )  # keys only
    assert described["TimeToLiveDescription"]["AttributeName"] == TTL


async def test_an_ended_client_keeps_nothing_open(client: SignedClient) -> None:
    with pytest.raises(StorageUnavailableError):
        await client.call("DescribeTable", {"TableName": "no-such-table"})
    await client.aclose()
    await client.aclose()

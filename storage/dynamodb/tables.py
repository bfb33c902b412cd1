"""The two tables, as data: their keys, indexes and the attribute by which items expire.

On AWS the template makes them, and a test holds it to what is said here; `create_tables` makes them on an
engine for tests and local use. Both bill per request.
"""

import asyncio
from dataclasses import dataclass
from typing import Any, Final, Literal

from storage.dynamodb.client import DynamoClient
from storage.errors import StorageUnavailableError

PARTITION_KEY: Final = "pk"
SORT_KEY: Final = "sk"
TTL: Final = "ttl"
"""Unix time in seconds, a whole number: DynamoDB deletes the item some time after it."""

SESSIONS_INDEX: Final = "sessions"
SESSIONS_OF: Final = "sessions_of"
UPDATED_AT: Final = "updated_at"
LIVE_INDEX: Final = "live"
LIVE_OF: Final = "live_of"
CREATED_AT: Final = "created_at"

_ACTIVE_WITHIN_S: Final = 30.0
_POLL_S: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """A global secondary index. It holds the items that have both of its key attributes.

    Attributes:
        partition: a text attribute, whose value is an owner.
        sort: a number attribute.
        projection: what the index repeats of an item.
    """

    name: str
    partition: str
    sort: str
    projection: Literal["ALL", "KEYS_ONLY"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table with the keys `pk` and `sk`, both text, whose items expire by `ttl`.

    Attributes:
        point_in_time_recovery: whether AWS can restore it to any second of the last 35 days.
    """

    indexes: tuple[Index, ...]
    point_in_time_recovery: bool


DATA: Final = Table(
    indexes=(
        # Of SESSION items: an owner's conversations by their latest turn.
        Index(name=SESSIONS_INDEX, partition=SESSIONS_OF, sort=UPDATED_AT, projection="ALL"),
        # Of HEAD items until they are ended. A beat changes none of its attributes, so writes nothing here.
        Index(name=LIVE_INDEX, partition=LIVE_OF, sort=CREATED_AT, projection="KEYS_ONLY"),
    ),
    point_in_time_recovery=True,
)
"""What belongs to owners."""

DOOR: Final = Table(indexes=(), point_in_time_recovery=False)
"""What a connect needs before it knows anybody; all of it may be lost."""


async def create_tables(client: DynamoClient, *, data: str, door: str) -> None:
    """Create both tables under these names and wait until they can be used.

    Raises:
        StorageError: a table of that name exists already.
        StorageUnavailableError: they cannot be used within 30 seconds.
    """
    for name, table in ((data, DATA), (door, DOOR)):
        await client.call("CreateTable", _creation(name, table))
        await _wait_until_active(client, name)
        ttl = {"Enabled": True, "AttributeName": TTL}
        await client.call("UpdateTimeToLive", {"TableName": name, "TimeToLiveSpecification": ttl})


def _creation(name: str, table: Table) -> dict[str, Any]:
    """Return the request that creates the table, but for what only an account on AWS has."""
    attributes = {PARTITION_KEY: "S", SORT_KEY: "S"}
    for index in table.indexes:
        attributes |= {index.partition: "S", index.sort: "N"}
    request: dict[str, Any] = {
        "TableName": name,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [
            {"AttributeName": attribute, "AttributeType": kind}
            for attribute, kind in attributes.items()
        ],
        "KeySchema": _key_schema(PARTITION_KEY, SORT_KEY),
    }
    if table.indexes:
        request["GlobalSecondaryIndexes"] = [
            {
                "IndexName": index.name,
                "KeySchema": _key_schema(index.partition, index.sort),
                "Projection": {"ProjectionType": index.projection},
            }
            for index in table.indexes
        ]
    return request


def _key_schema(partition: str, sort: str) -> list[dict[str, str]]:
    return [
        {"AttributeName": partition, "KeyType": "HASH"},
        {"AttributeName": sort, "KeyType": "RANGE"},
    ]


async def _wait_until_active(client: DynamoClient, name: str) -> None:
    try:
        async with asyncio.timeout(_ACTIVE_WITHIN_S):
            while True:
                described = await client.call("DescribeTable", {"TableName": name})
                if described["Table"]["TableStatus"] == "ACTIVE":
                    return
                await asyncio.sleep(_POLL_S)
    except TimeoutError as error:
        raise StorageUnavailableError("a new table does not become active") from error

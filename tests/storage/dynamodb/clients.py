"""The client and what it is tested on: one table, on each engine."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from storage.dynamodb.client import Item
from storage.dynamodb.signed_client import SignedClient
from storage.sigv4 import Credentials

REGION = "eu-central-1"
CREDENTIALS = Credentials(access_key_id="AKIDEXAMPLE", secret_access_key="secret")


def signed(url: str) -> SignedClient:
    return SignedClient(region=REGION, endpoint_url=url, credentials=CREDENTIALS)


@asynccontextmanager
async def opened(client: SignedClient) -> AsyncIterator[SignedClient]:
    try:
        yield client
    finally:
        await client.aclose()


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of its own for one test, and a client to ask."""

    client: SignedClient
    name: str

    async def call(self, operation: str, **request: Any) -> dict[str, Any]:
        return await self.client.call(operation, {"TableName": self.name, **request})

    async def get(self, item: Item) -> Item | None:
        key = {"pk": item["pk"], "sk": item["sk"]}
        answer = await self.call("GetItem", Key=key, ConsistentRead=True)
        return answer.get("Item")

    async def put_new(self, item: Item) -> None:
        await self.call(
            "PutItem",
            Item=item,
            ConditionExpression="attribute_not_exists(pk)",
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )


def item(name: str, **attributes: dict[str, Any]) -> Item:
    return {"pk": {"S": name}, "sk": {"S": "one"}, **attributes}


def deviates(request: pytest.FixtureRequest, engine: str, *, how: str) -> None:
    """Expect the test to fail on an engine that is known not to do as DynamoDB does."""
    if request.getfixturevalue("engine").name == engine:
        request.applymarker(pytest.mark.xfail(strict=True, reason=f"{engine}: {how}"))

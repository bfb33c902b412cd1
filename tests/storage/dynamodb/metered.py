"""A client that adds up what DynamoDB would bill, with indexes and transactions, as dynoxide counts it."""

from collections.abc import Mapping
from typing import Any

from storage.dynamodb.client import DynamoClient

_READS = {"GetItem", "Query", "BatchGetItem"}


class Metered:
    """Asks another client.

    Attributes:
        reads, writes: capacity units so far.
        calls: how often each operation was asked for.
    """

    def __init__(self, client: DynamoClient) -> None:
        self.reads = 0.0
        self.writes = 0.0
        self.calls: dict[str, int] = {}
        self._client = client

    async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        self.calls[operation] = self.calls.get(operation, 0) + 1
        answer = await self._client.call(operation, {**request, "ReturnConsumedCapacity": "TOTAL"})
        consumed = answer["ConsumedCapacity"]
        consumed = consumed if isinstance(consumed, list) else [consumed]
        units = sum(table["CapacityUnits"] for table in consumed)
        assert units > 0
        if operation in _READS:
            self.reads += units
        else:
            self.writes += units
        return answer

"""A table, as the repositories use it: each verb is one operation of the DynamoDB API."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from storage.dynamodb import batches, expressions
from storage.dynamodb.client import DynamoClient, Item
from storage.dynamodb.expressions import Value
from storage.dynamodb.keys import Key


class DataTable:
    """One table, reached through one client; cheap to make. Errors are those of `DynamoClient.call`.

    Every read is consistent, but for those of an index, which trails the table by milliseconds.

    Args:
        client: stays open for as long as this is used.
        name: of the table.
    """

    __slots__ = ("_client", "_name")

    def __init__(self, client: DynamoClient, name: str) -> None:
        self._client = client
        self._name = name

    async def get(self, key: Key) -> Item | None:
        """Return the item, or `None`."""
        answer = await self._call("GetItem", {"Key": key, "ConsistentRead": True})
        return answer.get("Item")

    async def put(
        self, item: Item, condition: str = "", values: Mapping[str, Value] | None = None
    ) -> None:
        """Store an item whole."""
        await self._call("PutItem", expressions.put(item, condition, values))

    async def update(
        self,
        key: Key,
        expression: str,
        condition: str,
        values: Mapping[str, Value],
        names: Mapping[str, str] | None = None,
    ) -> Item:
        """Change an item and return it as it is now; arguments as of `expressions.update`."""
        request = expressions.update(key, expression, condition, values, names)
        answer = await self._call("UpdateItem", {**request, "ReturnValues": "ALL_NEW"})
        item: Item = answer["Attributes"]
        return item

    async def delete(self, key: Key) -> None:
        """Delete an item; harmless when there is none."""
        await self._call("DeleteItem", {"Key": key})

    async def transact(self, *entries: tuple[str, Mapping[str, Any]]) -> None:
        """Write all or nothing.

        Args:
            entries: at most 100 pairs of `Put`, `Update` or `ConditionCheck` and its request, no two of
                them for one item.
        """
        await self._client.call(
            "TransactWriteItems",
            {
                "TransactItems": [
                    {verb: {"TableName": self._name, **request}} for verb, request in entries
                ]
            },
        )

    async def query(
        self,
        condition: str,
        values: Mapping[str, Value],
        *,
        index: str | None = None,
        descending: bool = False,
        start: Key | None = None,
        only: str | None = None,
        limit: int | None = None,
    ) -> AsyncGenerator[Item, None]:
        """Yield the items of one partition, in the order of their sort keys.

        Who does not read to the end closes it (`contextlib.aclosing`).

        Args:
            condition: on the keys.
            values: of the condition.
            index: to be read instead of the table.
            descending: whether the greatest sort key comes first.
            start: the keys after which to begin.
            only: which attributes to bring, as `#one, #two`; else all.
            limit: items of one request. Ask for what is likely needed: each is paid for.
        """
        request: dict[str, Any] = {
            "KeyConditionExpression": condition,
            "ExpressionAttributeNames": expressions.names_in(f"{condition} {only or ''}"),
            "ExpressionAttributeValues": dict(values),
            "ScanIndexForward": not descending,
        }
        given = {
            "ConsistentRead": None if index else True,
            "IndexName": index,
            "ProjectionExpression": only,
            "Limit": limit,
            "ExclusiveStartKey": start,
        }
        request |= {name: value for name, value in given.items() if value is not None}
        while True:
            answer = await self._call("Query", request)
            for item in answer.get("Items", ()):
                yield item
            if not (last := answer.get("LastEvaluatedKey")):
                return
            request["ExclusiveStartKey"] = last

    async def get_all(self, keys: Sequence[Key]) -> list[Item]:
        """Return the items that exist, in no order."""
        return await batches.get_all(self._client, self._name, keys)

    async def delete_all(self, keys: Sequence[Key]) -> None:
        """Delete items, in no order and not as one transaction; harmless where there are none."""
        await batches.delete_all(self._client, self._name, keys)

    async def _call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        return await self._client.call(operation, {"TableName": self._name, **request})

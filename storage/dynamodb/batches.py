"""Many items at once: in batches as large as DynamoDB takes, until all of them are done.

DynamoDB may do a part of a batch and name the rest, most often because of a throttle. See
https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchWriteItem.html.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from storage.dynamodb.client import DynamoClient, Item
from storage.dynamodb.keys import Key
from storage.errors import StorageUnavailableError

T = TypeVar("T")

WRITES: Final = 25
READS: Final = 100

_PATIENCE_S: Final = 4.5
"""For how long to go on while nothing more of a batch is done."""

_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 1.0


async def write_all(client: DynamoClient, table: str, writes: Sequence[Mapping[str, Any]]) -> None:
    """Put and delete items, in no order and not as one transaction.

    Args:
        client: whom to ask.
        table: the name of the table.
        writes: `{"PutRequest": ...}` or `{"DeleteRequest": ...}`, no two of them for one item.

    Raises:
        StorageUnavailableError: nothing is done for 5 seconds; a part may be done.
    """

    async def write(left: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        answer = await client.call("BatchWriteItem", {"RequestItems": {table: left}})
        rest: Sequence[Mapping[str, Any]] = answer.get("UnprocessedItems", {}).get(table, ())
        return rest

    for batch in _batches(writes, WRITES):
        await _until_done(batch, write)


async def delete_all(client: DynamoClient, table: str, keys: Sequence[Key]) -> None:
    """Delete items; those that do not exist are no matter. Raises as `write_all`."""
    await write_all(client, table, [{"DeleteRequest": {"Key": key}} for key in keys])


async def get_all(client: DynamoClient, table: str, keys: Sequence[Key]) -> list[Item]:
    """Return the items that exist, in no order, each as it is now (a consistent read).

    Args:
        client: whom to ask.
        table: the name of the table.
        keys: of the items, each once.

    Raises:
        StorageUnavailableError: no further item comes for 5 seconds.
    """
    found: list[Item] = []

    async def read(left: Sequence[Key]) -> Sequence[Key]:
        asked = {table: {"Keys": left, "ConsistentRead": True}}
        answer = await client.call("BatchGetItem", {"RequestItems": asked})
        found.extend(answer.get("Responses", {}).get(table, ()))
        rest: Sequence[Key] = answer.get("UnprocessedKeys", {}).get(table, {}).get("Keys", ())
        return rest

    for batch in _batches(keys, READS):
        await _until_done(batch, read)
    return found


def _batches(whole: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(whole), size):
        yield whole[start : start + size]


async def _until_done(
    batch: Sequence[T], once: Callable[[Sequence[T]], Awaitable[Sequence[T]]]
) -> None:
    """Call `once` with what is left of the batch, until it leaves nothing."""
    now = asyncio.get_running_loop().time
    pause_s = _PAUSE_S
    left = batch
    try:
        async with asyncio.timeout(_PATIENCE_S) as patience:
            while rest := await once(left):
                if len(rest) < len(left):
                    patience.reschedule(now() + _PATIENCE_S)
                    pause_s = _PAUSE_S
                left = rest
                await asyncio.sleep(random.uniform(0, pause_s))  # noqa: S311 - spreads callers
                pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)
    except TimeoutError as error:
        raise StorageUnavailableError("DynamoDB does not get on with a batch") from error

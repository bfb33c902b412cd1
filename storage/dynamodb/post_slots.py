"""The slots of a post budget in the table of the door: who may post when, told by all processes.

::

    pk                       sk       s{place}    ttl
    POSTS#{window}           SLOTS    holder      a while after its time

A window is an item. It holds few places, so that it stays under 1 KB and a reservation is one write unit,
and so that a large budget is spread over many items.
"""

from typing import Final

from storage.dynamodb.client import ConditionFailedError, DynamoClient, Item
from storage.dynamodb.expressions import number, text
from storage.dynamodb.keys import key
from storage.dynamodb.table import DataTable
from storage.dynamodb.tables import TTL

_PLACE: Final = "s"


class DynamoPostSlots:
    """Takes places in windows, each for one holder only. Errors are those of `DynamoClient.call`.

    Args:
        client: stays open for as long as this is used.
        table: the table of the door.
    """

    __slots__ = ("_table",)

    def __init__(self, client: DynamoClient, table: str) -> None:
        self._table = DataTable(client, table)

    async def take(
        self, window: str, place: int, *, holder: str, expires_at: float
    ) -> dict[int, str]:
        """Take a place unless somebody has it, and return who has which place of the window now.

        Args:
            window: its name, the same in all processes.
            place: 0 or more; all places of a window with their holders have to stay under 1 KB.
            holder: another one for each attempt, to be found in its place after one that succeeded,
                also if the answer was lost on the way and the attempt repeated.
            expires_at: when the window may be deleted, Unix time in seconds.
        """
        try:
            item = await self._table.update(
                key(f"POSTS#{window}", "SLOTS"),
                "SET #place = :holder, #ttl = :ttl",
                "attribute_not_exists(#place)",
                {":holder": text(holder), ":ttl": number(int(expires_at))},
                {"place": f"{_PLACE}{place}", "ttl": TTL},
            )
        except ConditionFailedError as error:
            item = error.item or {}
        return _holders(item)


def _holders(item: Item) -> dict[int, str]:
    return {
        int(name.removeprefix(_PLACE)): value["S"]
        for name, value in item.items()
        if name.removeprefix(_PLACE).isdecimal()
    }

"""The issuers' key documents, in the table at the door."""

from typing import Final

from storage.dynamodb.client import ConditionFailedError, DynamoClient
from storage.dynamodb.expressions import number, text
from storage.dynamodb.keys import Key, key
from storage.dynamodb.table import DataTable
from storage.dynamodb.tables import PARTITION_KEY
from storage.records import KeyDocument

SKEW_S: Final = 60.0
"""How far the clocks of two processes may be apart."""


class DynamoKeyDocuments:
    """`KeyDocuments` of the shared backend. They stay: there are as many as issuers.

    Args:
        client: stays open for as long as this is used.
        table: the name of the table at the door.
    """

    __slots__ = ("_table",)

    def __init__(self, client: DynamoClient, table: str) -> None:
        self._table = DataTable(client, table)

    async def get(self, url: str) -> KeyDocument | None:
        """Return the document of that URL as it was last stored, or `None`."""
        item = await self._table.get(_key(url))
        if item is None:
            return None
        return KeyDocument(
            url=item["url"]["S"],
            body=item["body"]["B"],
            fetched_at=float(item["fetched_at"]["N"]),
        )

    async def put(self, document: KeyDocument) -> None:
        """Store a document that was just fetched, unless one that was fetched a little later is stored.

        One from the far future was dated by a clock that is wrong, and nobody uses it.
        """
        fetched_at = number(document.fetched_at)
        item = {
            **_key(document.url),
            "url": text(document.url),
            "body": {"B": document.body},
            "fetched_at": fetched_at,
        }
        condition = (
            f"attribute_not_exists(#{PARTITION_KEY}) OR #fetched_at <= :fetched_at"
            " OR #fetched_at > :far"
        )
        values = {":fetched_at": fetched_at, ":far": number(document.fetched_at + SKEW_S)}
        try:
            await self._table.put(item, condition, values)
        except ConditionFailedError:
            return


def _key(url: str) -> Key:
    return key(f"JWKS#{url}", "JWKS")

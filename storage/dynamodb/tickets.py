"""Single-use handshake tickets, in the table at the door.

Whoever redeems a ticket writes a fresh random mark into it, on condition that there is none. A ticket is
not deleted: if the answer to the first attempt is lost, its repeat finds its own mark and gets the ticket,
where a repeated deletion would find nothing. TTL deletes it.
"""

import math
import secrets
from collections.abc import Callable
from typing import Final

from storage.dynamodb.client import ConditionFailedError, DynamoClient, Item
from storage.dynamodb.expressions import number, text
from storage.dynamodb.keys import Key, key
from storage.dynamodb.table import DataTable
from storage.dynamodb.tables import PARTITION_KEY, TTL
from storage.errors import StorageError
from storage.records import Owner, Ticket

_UNREDEEMED: Final = (
    f"attribute_exists(#{PARTITION_KEY})"
    " AND (attribute_not_exists(#redeemed_by) OR #redeemed_by = :mark)"
)


class DynamoTickets:
    """`Tickets` of the shared backend.

    Args:
        client: stays open for as long as this is used.
        table: the name of the table at the door.
        new_mark: makes a text that no other redeemer has.
    """

    __slots__ = ("_new_mark", "_table")

    def __init__(
        self,
        client: DynamoClient,
        table: str,
        *,
        new_mark: Callable[[], str] = secrets.token_hex,
    ) -> None:
        self._table = DataTable(client, table)
        self._new_mark = new_mark

    async def issue(self, ticket: Ticket) -> None:
        """Store a ticket.

        Its repeat must not undo a redemption, so there is a condition also where the hash is fresh.
        """
        item = _item(ticket)
        try:
            await self._table.put(item, f"attribute_not_exists(#{PARTITION_KEY})")
        except ConditionFailedError as error:
            if error.item is None or _ticket(error.item) != ticket:
                raise StorageError("another ticket with that hash exists already") from error

    async def find(self, ticket_hash: str, *, now: float) -> Ticket | None:
        """Return the ticket and leave it; see `Tickets.find`."""
        item = await self._table.get(_key(ticket_hash))
        if item is None or "redeemed_by" in item:
            return None
        ticket = _ticket(item)
        return ticket if now < ticket.expires_at else None

    async def redeem(self, ticket_hash: str, *, now: float) -> Ticket | None:
        """Take the ticket, also one that has expired; see `Tickets.redeem`."""
        mark = {":mark": text(self._new_mark())}
        try:
            item = await self._table.update(
                _key(ticket_hash), "SET #redeemed_by = :mark", _UNREDEEMED, mark
            )
        except ConditionFailedError:
            return None
        ticket = _ticket(item)
        return ticket if now < ticket.expires_at else None


def _key(ticket_hash: str) -> Key:
    return key(f"TICKET#{ticket_hash}", "TICKET")


def _item(ticket: Ticket) -> Item:
    return {
        **_key(ticket.ticket_hash),
        "ticket_hash": text(ticket.ticket_hash),
        "tenant_id": text(ticket.owner.tenant_id),
        "user_id": text(ticket.owner.user_id),
        "issuer": text(ticket.issuer),
        "auth_expires_at": number(ticket.auth_expires_at),
        "expires_at": number(ticket.expires_at),
        TTL: number(math.ceil(ticket.expires_at)),
    }


def _ticket(item: Item) -> Ticket:
    return Ticket(
        ticket_hash=item["ticket_hash"]["S"],
        owner=Owner(tenant_id=item["tenant_id"]["S"], user_id=item["user_id"]["S"]),
        issuer=item["issuer"]["S"],
        auth_expires_at=float(item["auth_expires_at"]["N"]),
        expires_at=float(item["expires_at"]["N"]),
    )

"""Single-use handshake tickets, in SQLite."""

import sqlite3

from storage.records import Ticket
from storage.sqlite.rows import ticket_of
from storage.sqlite.threads import Reader, Writer


class SqliteTickets:
    """`Tickets` of the embedded backend."""

    __slots__ = ("_reader", "_writer")

    def __init__(self, reader: Reader, writer: Writer) -> None:
        self._reader = reader
        self._writer = writer

    async def issue(self, ticket: Ticket) -> None:
        """Store a ticket."""
        row = (
            ticket.ticket_hash,
            ticket.owner.tenant_id,
            ticket.owner.user_id,
            ticket.issuer,
            ticket.auth_expires_at,
            ticket.expires_at,
        )
        await self._writer.call(
            lambda connection: (
                connection.execute(
                    "INSERT INTO tickets (ticket_hash, tenant_id, user_id, issuer, auth_expires_at,"
                    " expires_at) VALUES (?, ?, ?, ?, ?, ?)",
                    row,
                ).rowcount
            )
        )

    async def find(self, ticket_hash: str, *, now: float) -> Ticket | None:
        """Return the ticket and leave it; see `Tickets.find`."""
        ticket = await self._reader.call(lambda connection: _find(connection, ticket_hash))
        return ticket if ticket is not None and now < ticket.expires_at else None

    async def redeem(self, ticket_hash: str, *, now: float) -> Ticket | None:
        """Take the ticket out of the store; see `Tickets.redeem`."""
        ticket = await self._writer.call(lambda connection: _take(connection, ticket_hash))
        return ticket if ticket is not None and now < ticket.expires_at else None


def _find(connection: sqlite3.Connection, ticket_hash: str) -> Ticket | None:
    row = connection.execute(
        "SELECT * FROM tickets WHERE ticket_hash = ?", (ticket_hash,)
    ).fetchone()
    return ticket_of(row) if row is not None else None


def _take(connection: sqlite3.Connection, ticket_hash: str) -> Ticket | None:
    ticket = _find(connection, ticket_hash)
    if ticket is not None:
        connection.execute("DELETE FROM tickets WHERE ticket_hash = ?", (ticket_hash,))
    return ticket

"""Tickets, connections and key documents at the door, through both clients on each engine."""

import asyncio
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from storage.dynamodb.client import DynamoClient
from storage.dynamodb.connections import DynamoConnections
from storage.dynamodb.key_documents import DynamoKeyDocuments
from storage.dynamodb.tickets import DynamoTickets
from storage.errors import StorageError, StorageUnavailableError
from storage.records import Connection, KeyDocument, Ticket
from tests.engines.fault_proxy import THROTTLE, Fault, FaultProxy
from tests.storage.dynamodb.clients import Table
from tests.storage.samples import ANNA, NOW, Clock

TICKET = Ticket(
    ticket_hash="5" * 64,
    owner=ANNA,
    issuer="https://issuer.example/",
    auth_expires_at=NOW + 3600.25,
    expires_at=NOW + 60.5,
)
CONNECTION = Connection(
    connection_id="L0SM9cOFvHcCIhw=",
    owner=None,
    issuer="",
    auth_expires_at=0.0,
    opened_at=NOW + 0.123456,
    expires_at=NOW + 7200.5,
)
DOCUMENT = KeyDocument(
    url="https://issuer.example/keys?a=1#b", body=b'{"keys": []}\xff', fetched_at=NOW
)


def tickets_at(table: Table) -> DynamoTickets:
    return DynamoTickets(table.client, table.name)


async def test_a_ticket_is_redeemed_once(table: Table) -> None:
    tickets = tickets_at(table)
    await tickets.issue(TICKET)
    taken = await asyncio.gather(
        *(tickets.redeem(TICKET.ticket_hash, now=NOW + 60) for _ in range(20))
    )

    assert taken.count(TICKET) == 1
    assert taken.count(None) == 19


async def test_an_expired_ticket_is_worth_nothing_and_stays_so(table: Table) -> None:
    tickets = tickets_at(table)
    await tickets.issue(TICKET)

    assert await tickets.redeem(TICKET.ticket_hash, now=NOW + 60.5) is None
    assert await tickets.redeem(TICKET.ticket_hash, now=NOW) is None
    assert await tickets.redeem("unknown", now=NOW) is None


async def test_a_ticket_of_somebody_else_with_that_hash_is_refused(table: Table) -> None:
    tickets = tickets_at(table)
    await tickets.issue(TICKET)
    await tickets.issue(TICKET)

    with pytest.raises(StorageError):
        await tickets.issue(replace(TICKET, issuer="https://other.example/"))


@pytest.mark.parametrize("fault", [Fault.LOSE_REPLY, Fault.HANG_AFTER], ids=["cut", "hang"])
async def test_a_ticket_whose_redemption_lost_its_reply_is_not_lost(
    proxy: FaultProxy, faulty_table: Table, fault: Fault
) -> None:
    tickets = tickets_at(faulty_table)
    proxy.fail("PutItem", Fault.LOSE_REPLY)
    await tickets.issue(TICKET)
    proxy.fail("UpdateItem", fault)

    assert await tickets.redeem(TICKET.ticket_hash, now=NOW) == TICKET
    assert await tickets.redeem(TICKET.ticket_hash, now=NOW) is None


async def test_a_late_repeat_of_the_issue_does_not_undo_a_redemption(table: Table) -> None:
    tickets = tickets_at(table)
    await tickets.issue(TICKET)
    assert await tickets.redeem(TICKET.ticket_hash, now=NOW) == TICKET
    await tickets.issue(TICKET)

    assert await tickets.redeem(TICKET.ticket_hash, now=NOW) is None


async def test_a_throttled_door_is_unavailable_and_gives_the_ticket_away_to_nobody(
    proxy: FaultProxy, faulty_table: Table
) -> None:
    tickets = tickets_at(faulty_table)
    await tickets.issue(TICKET)
    proxy.fail("UpdateItem", THROTTLE, times=3)
    with pytest.raises(StorageUnavailableError):
        await tickets.redeem(TICKET.ticket_hash, now=NOW)

    assert await tickets.redeem(TICKET.ticket_hash, now=NOW) == TICKET


async def test_a_connection_is_known_as_it_was_saved_last(table: Table) -> None:
    connections = DynamoConnections(table.client, table.name, clock=Clock())
    await connections.save(CONNECTION)
    assert await connections.get(CONNECTION.connection_id) == CONNECTION

    known = replace(CONNECTION, owner=ANNA, issuer="i", auth_expires_at=NOW + 9)
    await connections.save(known)
    assert await connections.get(CONNECTION.connection_id) == known


async def test_a_removed_or_expired_connection_is_unknown(table: Table) -> None:
    clock = Clock()
    connections = DynamoConnections(table.client, table.name, clock=clock)
    await connections.save(CONNECTION)
    await connections.save(replace(CONNECTION, connection_id="c2"))
    await connections.remove("c2")
    await connections.remove("c2")

    assert await connections.get("c2") is None
    clock.now = NOW + 7200.25
    assert await connections.get(CONNECTION.connection_id) == CONNECTION
    clock.now = NOW + 7200.5
    assert await connections.get(CONNECTION.connection_id) is None


async def test_the_key_document_that_was_fetched_last_is_kept(table: Table) -> None:
    documents = DynamoKeyDocuments(table.client, table.name)
    assert await documents.get(DOCUMENT.url) is None
    await documents.put(DOCUMENT)
    await documents.put(replace(DOCUMENT, body=b"older", fetched_at=NOW - 0.5))
    assert await documents.get(DOCUMENT.url) == DOCUMENT

    newer = replace(DOCUMENT, body=b"newer", fetched_at=NOW + 0.5)
    await documents.put(newer)
    assert await documents.get(DOCUMENT.url) == newer
    assert await documents.get("https://other.example/keys") is None


async def test_a_key_document_from_the_far_future_is_replaced(table: Table) -> None:
    documents = DynamoKeyDocuments(table.client, table.name)
    await documents.put(replace(DOCUMENT, body=b"misdated", fetched_at=NOW + 3600))
    await documents.put(DOCUMENT)
    assert await documents.get(DOCUMENT.url) == DOCUMENT


async def test_what_expires_is_deleted_after_its_time_and_never_before() -> None:
    stored: list[dict[str, Any]] = []

    class Recording:
        async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
            stored.append(request["Item"])
            return {}

        async def aclose(self) -> None:
            pass

    client: DynamoClient = Recording()
    await DynamoTickets(client, "door").issue(TICKET)
    await DynamoConnections(client, "door", clock=Clock()).save(CONNECTION)
    await DynamoKeyDocuments(client, "door").put(DOCUMENT)

    whole = [each["ttl"]["N"] for each in stored if "ttl" in each]
    assert whole == [f"{int(NOW) + 61}", f"{int(NOW) + 7201}"]


def test_the_door_needs_none_of_what_is_slow_to_load() -> None:
    check = (
        "import sys\n"
        "import storage.dynamodb.signed_client, storage.dynamodb.tickets\n"
        "import storage.dynamodb.connections, storage.dynamodb.key_documents\n"
        "slow = {'pydantic', 'aiobotocore', 'botocore', 'aiohttp', 'sqlite3', 'openai', 'msgspec'}\n"
        "print(sorted(slow & set(sys.modules)), sorted(\n"
        "    name for name in sys.modules if name.startswith(('storage.sqlite', 'storage.blobs'))))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[] []"

import asyncio
from dataclasses import replace

import pytest

from storage.errors import StorageError, UnstorableTextError
from storage.repositories import Store
from tests.storage.contract.backends import Backend
from tests.storage.samples import ANNA, CONNECTION, NOW, TICKET, accept, payload, send


async def test_a_ticket_is_redeemed_once(store: Store) -> None:
    await store.tickets.issue(TICKET)
    taken = await asyncio.gather(
        *(store.tickets.redeem(TICKET.ticket_hash, now=NOW + 59) for _ in range(20))
    )

    assert taken.count(TICKET) == 1
    assert taken.count(None) == 19


async def test_a_ticket_is_found_for_as_long_as_it_can_be_redeemed(store: Store) -> None:
    await store.tickets.issue(TICKET)

    assert await store.tickets.find(TICKET.ticket_hash, now=NOW + 59) == TICKET
    assert await store.tickets.find(TICKET.ticket_hash, now=NOW + 60) is None
    assert await store.tickets.find("unknown", now=NOW) is None
    assert await store.tickets.redeem(TICKET.ticket_hash, now=NOW) == TICKET
    assert await store.tickets.find(TICKET.ticket_hash, now=NOW) is None


async def test_an_expired_ticket_is_worth_nothing_and_stays_so(store: Store) -> None:
    await store.tickets.issue(TICKET)

    assert await store.tickets.redeem(TICKET.ticket_hash, now=NOW + 60) is None
    assert await store.tickets.redeem(TICKET.ticket_hash, now=NOW) is None
    assert await store.tickets.redeem("unknown", now=NOW) is None


async def test_a_connection_is_known_as_it_was_saved_last(store: Store) -> None:
    await store.connections.save(CONNECTION)
    assert await store.connections.get("c1") == CONNECTION

    known = replace(CONNECTION, owner=ANNA, issuer="i", auth_expires_at=NOW + 9)
    await store.connections.save(known)
    assert await store.connections.get("c1") == known


async def test_a_removed_or_expired_connection_is_unknown(
    backend: Backend[Store], store: Store
) -> None:
    await store.connections.save(CONNECTION)
    await store.connections.save(replace(CONNECTION, connection_id="c2"))
    await store.connections.remove("c1")
    await store.connections.remove("c1")

    assert await store.connections.get("c1") is None
    backend.clock.now = NOW + 7200
    assert await store.connections.get("c2") is None


async def test_an_expired_payload_is_unknown_before_it_is_purged(
    backend: Backend[Store], store: Store
) -> None:
    await store.of(ANNA).payloads.reserve(payload())
    backend.clock.now = NOW + 60

    assert await store.of(ANNA).payloads.get("payload-1") is None


@pytest.mark.parametrize("text", ["\ud83d", "half \udc00 of it"], ids=["high", "low"])
async def test_a_lone_surrogate_is_refused_and_harms_nobody(store: Store, text: str) -> None:
    await accept(store, send("a", new=True))
    outcomes = await asyncio.gather(
        store.of(ANNA).sessions.rename("session-1", text),
        store.of(ANNA).sessions.rename("session-1", "fine"),
        store.of(ANNA).runs.accept(send("b", session_id="x", new=True, content=text)),
        store.of(ANNA).sessions.get(text),
        return_exceptions=True,
    )

    assert isinstance(outcomes[0], UnstorableTextError)
    assert isinstance(outcomes[2], UnstorableTextError)
    assert isinstance(outcomes[3], UnstorableTextError)
    session = await store.of(ANNA).sessions.get("session-1")
    assert session is not None
    assert session.title == "fine"
    assert await store.of(ANNA).sessions.get("x") is None


async def test_text_with_a_zero_character_comes_back_whole(store: Store) -> None:
    run = await accept(store, send(new=True, content="before\0after"))
    message = await store.of(ANNA).messages.get(run.message_id)

    assert message is not None
    assert message.content == "before\0after"


async def test_a_row_that_exists_already_is_an_error_of_ours(store: Store) -> None:
    await store.of(ANNA).payloads.reserve(payload())

    with pytest.raises(StorageError) as raised:
        await store.of(ANNA).payloads.reserve(payload())
    assert not raised.value.retryable

import asyncio
from dataclasses import replace
from hashlib import sha256

import pytest

from storage.errors import (
    BlobMissingError,
    StorageError,
    StorageUnavailableError,
    UnstorableTextError,
)
from storage.keys import blob_key
from storage.records import BlobRef, Connection, LogEntry, Payload, Ticket
from storage.repositories import Store
from storage.ttl import TOMBSTONE
from tests.storage.contract.backends import Backend
from tests.storage.contract.blob_stores import BlobHost
from tests.storage.samples import (
    ANNA,
    DAY,
    NOW,
    accept,
    append,
    completion,
    finished,
    running,
    send,
)

TICKET = Ticket(
    ticket_hash=sha256(b"ticket").hexdigest(),
    owner=ANNA,
    issuer="https://issuer.example/",
    auth_expires_at=NOW + 3600,
    expires_at=NOW + 60,
)
CONNECTION = Connection(
    connection_id="c1",
    owner=None,
    issuer="",
    auth_expires_at=0,
    opened_at=NOW,
    expires_at=NOW + 7200,
)


def payload(payload_id: str = "payload-1", *, expires_at: float = NOW + 60) -> Payload:
    return Payload(
        payload_id=payload_id,
        kind="spill",
        ref=BlobRef(key=blob_key(ANNA, payload_id), bytes=4, sha256=sha256(b"body").hexdigest()),
        created_at=NOW,
        expires_at=expires_at,
    )


async def test_a_ticket_is_redeemed_once(store: Store) -> None:
    await store.tickets.issue(TICKET)
    taken = await asyncio.gather(
        *(store.tickets.redeem(TICKET.ticket_hash, now=NOW + 59) for _ in range(20))
    )

    assert taken.count(TICKET) == 1
    assert taken.count(None) == 19


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


async def test_a_removed_or_expired_connection_is_unknown(backend: Backend, store: Store) -> None:
    await store.connections.save(CONNECTION)
    await store.connections.save(replace(CONNECTION, connection_id="c2"))
    await store.connections.remove("c1")
    await store.connections.remove("c1")

    assert await store.connections.get("c1") is None
    backend.clock.now = NOW + 7200
    assert await store.connections.get("c2") is None


async def test_an_expired_payload_is_unknown_before_it_is_purged(
    backend: Backend, store: Store
) -> None:
    await store.of(ANNA).payloads.reserve(payload())
    backend.clock.now = NOW + 60

    assert await store.of(ANNA).payloads.get("payload-1") is None


async def test_purge_deletes_what_has_expired_and_nothing_else(
    backend: Backend, store: Store, host: BlobHost
) -> None:
    mine = store.of(ANNA)
    ended = await finished(store, send("a", session_id="one", new=True))
    live = await running(store, send("b", session_id="two", new=True))
    await mine.runs.cancel("early", now=NOW)
    await store.tickets.issue(TICKET)
    await store.connections.save(CONNECTION)
    for each in (payload(), payload("payload-2", expires_at=NOW + 10 * DAY)):
        await mine.payloads.reserve(each)
        await host.blobs.put(each.ref.key, b"body")

    assert await store.purge(host.blobs, now=NOW + 30, limit=100) == 0
    backend.clock.now = NOW + 2 * DAY
    assert await store.purge(host.blobs, now=NOW + 2 * DAY, limit=100) == 5
    assert await store.purge(host.blobs, now=NOW + 2 * DAY, limit=100) == 0

    assert not await store.of(ANNA).log.read(ended.run_id, after=0)
    assert await mine.runs.get(ended.run_id) is not None
    assert await mine.messages.get(ended.reply_id) is not None
    assert await mine.runs.get(live.run_id) == live
    assert await mine.payloads.get("payload-2") is not None
    assert await host.blobs.get(blob_key(ANNA, "payload-2")) == b"body"
    with pytest.raises(BlobMissingError):
        await host.blobs.get(blob_key(ANNA, "payload-1"))


async def test_a_purge_is_as_large_as_it_is_told(store: Store, host: BlobHost) -> None:
    for number in range(7):
        await store.of(ANNA).payloads.reserve(payload(f"payload-{number}"))
        await store.of(ANNA).runs.cancel(f"early-{number}", now=NOW)
    late = NOW + TOMBSTONE
    sizes = [await store.purge(host.blobs, now=late, limit=4) for _ in range(5)]

    assert sizes == [4, 4, 4, 2, 0]


async def test_the_blobs_of_a_forgotten_session_go_with_the_next_purge(
    store: Store, host: BlobHost
) -> None:
    run = await running(store, send(new=True))
    spilled = payload(expires_at=NOW + 2 * DAY)
    await store.of(ANNA).payloads.reserve(spilled)
    await host.blobs.put(spilled.ref.key, b"body")
    slot = LogEntry(run_id=run.run_id, first=1, last=1, body=b"", blob=spilled.ref)
    await append(store.of(ANNA).log, slot)
    await store.of(ANNA).runs.finish(completion(run, first=2))
    await store.of(ANNA).sessions.forget("session-1")
    await store.purge(host.blobs, now=NOW + 1, limit=10)

    with pytest.raises(BlobMissingError):
        await host.blobs.get(spilled.ref.key)


async def test_a_blob_that_cannot_be_deleted_keeps_its_row(store: Store, host: BlobHost) -> None:
    await store.of(ANNA).payloads.reserve(payload())

    class Refusing:
        async def delete(self, key: str) -> None:
            raise StorageUnavailableError

    assert await store.purge(Refusing(), now=NOW + 99, limit=10) == 0
    assert await store.purge(host.blobs, now=NOW + 99, limit=10) == 1


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

"""What only a backend in the data folder of one process can do: recover and purge."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage.blobs.files import FileBlobs, open_file_blobs
from storage.errors import BlobMissingError, StorageUnavailableError
from storage.keys import blob_key
from storage.records import LogEntry
from storage.repositories import EmbeddedStore
from storage.ttl import TOMBSTONE
from tests.storage.contract.backends import Backend
from tests.storage.samples import (
    ANNA,
    BEN,
    CONNECTION,
    DAY,
    NOW,
    TICKET,
    accept,
    append,
    completion,
    finished,
    payload,
    running,
    send,
)


@pytest.fixture
async def blobs(tmp_path: Path) -> AsyncIterator[FileBlobs]:
    blobs = await open_file_blobs(tmp_path)
    yield blobs
    await blobs.aclose()


async def test_unfinished_runs_are_those_of_everybody(embedded_store: EmbeddedStore) -> None:
    await finished(embedded_store, send("done", session_id="zero", new=True))
    first = await running(embedded_store, send("a", owner=BEN, new=True), owner=BEN)
    second = await accept(embedded_store, send("b", new=True, at=NOW + 1))

    assert list(await embedded_store.unfinished()) == [(BEN, first), (ANNA, second)]


async def test_a_clock_that_is_set_back_does_not_change_the_order_of_a_session(
    embedded_store: EmbeddedStore,
) -> None:
    first = await running(embedded_store, send("a", new=True))
    second = await accept(embedded_store, send("b", if_busy="queue", at=NOW - 2))
    other = await accept(embedded_store, send("c", session_id="another", new=True, at=NOW - 1))
    third = await accept(embedded_store, send("d", if_busy="queue", at=NOW + 1))

    in_order = [other, first, second, third]
    assert list(await embedded_store.of(ANNA).runs.live()) == in_order
    assert [run for _, run in await embedded_store.unfinished()] == in_order


async def test_purge_deletes_what_has_expired_and_nothing_else(
    embedded: Backend[EmbeddedStore], embedded_store: EmbeddedStore, blobs: FileBlobs
) -> None:
    mine = embedded_store.of(ANNA)
    ended = await finished(embedded_store, send("a", session_id="one", new=True))
    live = await running(embedded_store, send("b", session_id="two", new=True))
    await mine.runs.cancel("early", now=NOW)
    await embedded_store.tickets.issue(TICKET)
    await embedded_store.connections.save(CONNECTION)
    for each in (payload(), payload("payload-2", expires_at=NOW + 10 * DAY)):
        await mine.payloads.reserve(each)
        await blobs.put(each.ref.key, b"body")

    assert await embedded_store.purge(blobs, now=NOW + 30, limit=100) == 0
    embedded.clock.now = NOW + 2 * DAY
    assert await embedded_store.purge(blobs, now=NOW + 2 * DAY, limit=100) == 5
    assert await embedded_store.purge(blobs, now=NOW + 2 * DAY, limit=100) == 0

    assert not await embedded_store.of(ANNA).log.read(ended.run_id, after=0)
    assert await mine.runs.get(ended.run_id) is not None
    assert await mine.messages.get(ended.reply_id) is not None
    assert await mine.runs.get(live.run_id) == live
    assert await mine.payloads.get("payload-2") is not None
    assert await blobs.get(blob_key(ANNA, "payload-2")) == b"body"
    with pytest.raises(BlobMissingError):
        await blobs.get(blob_key(ANNA, "payload-1"))


async def test_a_purge_is_as_large_as_it_is_told(
    embedded_store: EmbeddedStore, blobs: FileBlobs
) -> None:
    for number in range(7):
        await embedded_store.of(ANNA).payloads.reserve(payload(f"payload-{number}"))
        await embedded_store.of(ANNA).runs.cancel(f"early-{number}", now=NOW)
    late = NOW + TOMBSTONE
    sizes = [await embedded_store.purge(blobs, now=late, limit=4) for _ in range(5)]

    assert sizes == [4, 4, 4, 2, 0]


async def test_the_blobs_of_a_forgotten_session_go_with_the_next_purge(
    embedded_store: EmbeddedStore, blobs: FileBlobs
) -> None:
    run = await running(embedded_store, send(new=True))
    spilled = payload(expires_at=NOW + 2 * DAY)
    await embedded_store.of(ANNA).payloads.reserve(spilled)
    await blobs.put(spilled.ref.key, b"body")
    slot = LogEntry(run_id=run.run_id, first=1, last=1, body=b"", blob=spilled.ref)
    await append(embedded_store.of(ANNA).log, slot)
    await embedded_store.of(ANNA).runs.finish(completion(run, first=2))
    await embedded_store.of(ANNA).sessions.forget("session-1", now=NOW)
    await embedded_store.purge(blobs, now=NOW + 1, limit=10)

    with pytest.raises(BlobMissingError):
        await blobs.get(spilled.ref.key)


class Refusing:
    """Blobs of which the first `count` cannot be deleted."""

    def __init__(self, count: int) -> None:
        self.keys = {blob_key(ANNA, f"payload-{number}") for number in range(count)}
        self.tried: list[str] = []

    async def delete(self, key: str) -> None:
        self.tried.append(key)
        if key in self.keys:
            raise StorageUnavailableError


async def test_a_blob_that_cannot_be_deleted_keeps_its_row(
    embedded_store: EmbeddedStore, blobs: FileBlobs
) -> None:
    await embedded_store.of(ANNA).payloads.reserve(payload("payload-0"))
    refusing = Refusing(1)

    for _ in range(2):
        await embedded_store.purge(refusing, now=NOW + 99, limit=10)
    assert len(refusing.tried) == 2
    assert await embedded_store.purge(blobs, now=NOW + 99, limit=10) == 1
    assert await embedded_store.purge(blobs, now=NOW + 99, limit=10) == 0


async def test_blobs_that_cannot_be_deleted_do_not_stand_before_the_others(
    embedded_store: EmbeddedStore, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(9):
        late = NOW + (5 if number == 8 else 1)
        await embedded_store.of(ANNA).payloads.reserve(
            payload(f"payload-{number}", expires_at=late)
        )
    refusing = Refusing(5)

    rounds = [await embedded_store.purge(refusing, now=NOW + 9, limit=2) for _ in range(5)]
    assert rounds == [2, 2, 2, 2, 1]
    assert len(set(refusing.tried)) == 9
    assert [(each.message, each.blobs) for each in caplog.records] == [
        ("blob cannot be deleted", 5)
    ]
    refusing.keys.clear()
    assert await embedded_store.purge(refusing, now=NOW + 9, limit=100) == 5

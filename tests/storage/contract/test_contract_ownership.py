"""Another owner's row is the same as one that does not exist."""

import pytest

from storage.errors import NotRunOwnerError, StorageError
from storage.records import Accepted, BlobRef, Owner, Payload, Refused
from storage.repositories import Store
from tests.storage.samples import (
    ANNA,
    ANNA_ELSEWHERE,
    BEN,
    NOW,
    append,
    completion,
    entry,
    finished,
    regenerate,
    running,
    send,
)


@pytest.fixture(
    params=[BEN, ANNA_ELSEWHERE, Owner(tenant_id="acm", user_id="eanna")],
    ids=["other user", "other tenant", "same letters"],
)
def stranger(request: pytest.FixtureRequest) -> Owner:
    return request.param


async def test_nothing_is_read_by_a_stranger(store: Store, stranger: Owner) -> None:
    run = await finished(store, send("a", new=True), memories=("mine",))
    live = await running(store, send("b"))
    await append(store.of(ANNA).log, entry(live, 1))
    theirs = store.of(stranger)

    assert await theirs.sessions.get("session-1") is None
    assert (await theirs.sessions.page(before=None, limit=5)).items == ()
    assert await theirs.messages.get(run.message_id) is None
    assert (await theirs.messages.page("session-1", before=None, limit=5)).items == ()
    assert not await theirs.messages.turns_before(live.message_id, max_bytes=1000)
    assert (await theirs.memories.page(before=None, limit=5)).items == ()
    assert not await theirs.memories.newest(max_bytes=1000)
    assert await theirs.runs.get(run.run_id) is None
    assert not await theirs.runs.live()
    assert not await theirs.log.read(run.run_id, after=0)
    assert not await theirs.log.read(live.run_id, after=0)


async def test_nothing_is_changed_by_a_stranger(store: Store, stranger: Owner) -> None:
    ended = await finished(store, send("a", new=True), memories=("mine",))
    live = await running(store, send("b"))
    theirs = store.of(stranger)

    assert await theirs.sessions.rename("session-1", "theirs") is None
    assert await theirs.sessions.forget("session-1", now=NOW) is False
    assert await theirs.memories.forget("memory-a-0") is False
    with pytest.raises(NotRunOwnerError):
        await theirs.runs.claim(live.run_id, claimed_by="claim", lease_until=NOW + 10)
    with pytest.raises(NotRunOwnerError):
        await theirs.runs.take_over(live.run_id, claimed_by="theirs", now=NOW + 1000)
    with pytest.raises(NotRunOwnerError):
        await theirs.runs.finish(completion(live))
    with pytest.raises(NotRunOwnerError):
        await theirs.runs.finish(completion(ended))

    mine = store.of(ANNA)
    assert await mine.runs.get(live.run_id) == live
    await append(mine.log, entry(live, 1))
    await mine.runs.finish(completion(live, first=2))
    session = await mine.sessions.get("session-1")
    assert session is not None
    assert session.title != "theirs"
    assert len((await mine.memories.page(before=None, limit=5)).items) == 1


async def test_a_stranger_cannot_speak_in_a_session(store: Store, stranger: Owner) -> None:
    run = await finished(store, send("a", new=True))
    theirs = store.of(stranger)

    outcome = await theirs.runs.accept(send("b", owner=stranger))
    assert outcome == Refused(why="not_found")
    outcome = await theirs.runs.accept(regenerate("c", run, owner=stranger))
    assert outcome == Refused(why="not_found")


async def test_a_stranger_cancels_nothing(store: Store, stranger: Owner) -> None:
    run = await running(store, send(new=True))

    assert await store.of(stranger).runs.cancel(run.run_id, now=NOW + 1) is None
    assert await store.of(ANNA).runs.get(run.run_id) == run


async def test_two_owners_use_the_same_ids_side_by_side(store: Store, stranger: Owner) -> None:
    await finished(store, send("a", new=True), content="mine")
    outcome = await store.of(stranger).runs.accept(send("a", owner=stranger, new=True))

    assert isinstance(outcome, Accepted)
    reply = await store.of(ANNA).messages.get("reply-a")
    assert reply is not None
    assert await store.of(stranger).messages.get("reply-a") is None
    assert await store.of(ANNA).sessions.forget("session-1", now=NOW)
    assert await store.of(stranger).sessions.get("session-1") is not None


async def test_a_cursor_is_good_for_its_owner_only(store: Store, stranger: Owner) -> None:
    await finished(store, send("a", new=True))
    page = await store.of(ANNA).messages.page("session-1", before=None, limit=1)

    with pytest.raises(StorageError):
        await store.of(stranger).messages.page("session-1", before=page.next, limit=1)


async def test_a_payload_is_its_owners(store: Store, stranger: Owner) -> None:
    payload = Payload(
        payload_id="payload",
        kind="upload",
        ref=BlobRef(key="acme/anna/payload", bytes=3, sha256="e" * 64),
        created_at=NOW,
        expires_at=NOW + 60,
    )
    await store.of(ANNA).payloads.reserve(payload)

    assert await store.of(ANNA).payloads.get("payload") == payload
    assert await store.of(stranger).payloads.get("payload") is None

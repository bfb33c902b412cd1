"""Ids are opaque text: whatever they hold, they name one thing and no other."""

from dataclasses import replace

import pytest

from storage.records import Accepted, Owner
from storage.repositories import Store
from tests.storage.samples import (
    ANNA,
    NOW,
    accept,
    append,
    completion,
    entry,
    finished,
    payload,
    running,
    send,
)

IDS = {
    "japanese": "会話-こんにちは",
    "emoji": "👩‍👩‍👧🌸",
    "longest ascii": "x" * 128,
    "empty": "",
    "space": " ",
    "separator": "#",
    "parts": "a#MESSAGE#b",
    "escape": "%23",
    "hash": f"%%{'0' * 64}",
    "zero": "a\0b",
    "path": "../../etc",
    "quotes": "'; DROP TABLE runs; --\"",
    "expression": ":pk AND #sk",
    "own names": "SESSION",
}

ANY = {**IDS, "long": "🌸" * 128}
"""Also one as a client may send it, but as none is made here: no cursor would hold it."""


@pytest.mark.parametrize("name", IDS.values(), ids=IDS.keys())
async def test_an_id_is_any_text(store: Store, name: str) -> None:
    mine = store.of(ANNA)
    asked = send(name, session_id=name, new=True)
    run = await accept(store, asked)
    await mine.runs.claim(run.run_id, claimed_by="claim", lease_until=NOW + 10)
    await append(mine.log, entry(run, 1))
    await mine.runs.finish(completion(run, first=2, memories=("one",)))
    await mine.payloads.reserve(replace(payload(), payload_id=name))

    session = await mine.sessions.get(name)
    assert session is not None
    assert session.session_id == name
    page = await mine.messages.page(name, before=None, limit=1)
    assert [each.message_id for each in page.items] == [run.reply_id]
    rest = await mine.messages.page(name, before=page.next, limit=1)
    assert rest.items == (asked.message,)
    assert await mine.messages.get(run.message_id) == asked.message
    assert [slot.first for slot in await mine.log.read(run.run_id, after=0)] == [1, 2]
    assert await mine.payloads.get(name) == replace(payload(), payload_id=name)
    assert await mine.memories.forget(f"memory-{name}-0") is True
    assert (await mine.sessions.page(before=None, limit=2)).items == (session,)
    assert await mine.sessions.forget(name, now=NOW) is True
    assert await mine.messages.get(run.message_id) is None


@pytest.mark.parametrize("name", ANY.values(), ids=ANY.keys())
async def test_an_id_that_names_nothing_finds_nothing(store: Store, name: str) -> None:
    await finished(store, send("one", session_id="one", new=True), memories=("one",))
    mine = store.of(ANNA)

    assert await mine.sessions.get(name) is None
    assert await mine.messages.get(name) is None
    assert (await mine.messages.page(name, before=None, limit=5)).items == ()
    assert await mine.runs.get(name) is None
    assert not await mine.log.read(name, after=0)
    assert not await mine.log.read(name, after=5)
    assert await mine.payloads.get(name) is None
    assert await mine.memories.forget(name) is False
    assert await mine.sessions.forget(name, now=NOW) is False


@pytest.mark.parametrize("name", ANY.values(), ids=ANY.keys())
async def test_a_person_is_any_text(store: Store, name: str) -> None:
    owners = [
        Owner(tenant_id="acme", user_id=name),
        Owner(tenant_id=name, user_id="acme"),
        Owner(tenant_id=f"acme{name}", user_id="x"),
    ]
    for number, owner in enumerate(owners):
        session_id = f"session-{number}"
        accepted = await store.of(owner).runs.accept(
            send("same", owner=owner, session_id=session_id, new=True)
        )
        assert isinstance(accepted, Accepted)
    for number, owner in enumerate(owners):
        page = await store.of(owner).sessions.page(before=None, limit=5)
        assert [each.session_id for each in page.items] == [f"session-{number}"]
        assert len(await store.of(owner).runs.live()) == 1


FORGERS = [
    Owner(tenant_id="acme#anna", user_id="SESSION"),
    Owner(tenant_id="acme", user_id="anna#SESSION#session-1"),
    Owner(tenant_id="acme", user_id="anna#MEMORIES"),
    Owner(tenant_id="acme#anna#MEMORIES", user_id=""),
    Owner(tenant_id="acme%23anna", user_id=""),
    Owner(tenant_id="", user_id="acme#anna"),
]


@pytest.mark.parametrize(
    "forger", FORGERS, ids=[f"{each.tenant_id}|{each.user_id}" for each in FORGERS]
)
async def test_nobody_is_called_so_that_they_reach_anothers(store: Store, forger: Owner) -> None:
    run = await running(store, send(new=True))
    await store.of(ANNA).runs.finish(completion(run, memories=("mine",)))
    theirs = store.of(forger)

    for session_id in ("session-1", "", "anna", "SESSION", "anna#SESSION#session-1"):
        assert await theirs.sessions.get(session_id) is None
        assert (await theirs.messages.page(session_id, before=None, limit=5)).items == ()
    for run_id in (run.run_id, "", f"anna#RUN#{run.run_id}"):
        assert await theirs.runs.get(run_id) is None
        assert not await theirs.log.read(run_id, after=0)
    assert (await theirs.sessions.page(before=None, limit=5)).items == ()
    assert (await theirs.memories.page(before=None, limit=5)).items == ()


async def test_the_ids_of_messages_and_replies_do_not_mix(store: Store) -> None:
    """An id that starts as another one does, with a character below the separator."""
    mine = store.of(ANNA)
    await finished(store, send("a", new=True), at=NOW + 1)
    await finished(store, send("a b", at=NOW + 2), at=NOW + 3)
    await finished(store, send("a!", at=NOW + 4), at=NOW + 5)

    page = await mine.messages.page("session-1", before=None, limit=10)
    pairs = [each.message_id.partition("-")[2] for each in page.items]
    assert pairs[0::2] == pairs[1::2]
    assert sorted(pairs[::2]) == ["a", "a b", "a!"]

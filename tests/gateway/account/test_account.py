"""Reading, renaming and forgetting one's own data, and nobody else's."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.account.account import Account
from gateway.wire.answers import MemoryItem, MessageItem, Page, SessionItem
from gateway.wire.commands import COMMAND_ADAPTER
from gateway.wire.errors import BadRequestError, NotFoundError
from storage.errors import StorageUnavailableError
from storage.records import Owner
from storage.sqlite.store import SqliteStore, open_store
from tests.storage.samples import ANNA, ANNA_ELSEWHERE, BEN, NOW, Clock, finished, send

Ask = Callable[..., Awaitable[Page]]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """One person's session with three turns and two memories."""
    store = await open_store(tmp_path, clock=Clock())
    await finished(store, send("s1", new=True, content="first"), memories=("tea",), content="one")
    await finished(
        store,
        send("s2", content="second", at=NOW + 2),
        at=NOW + 3,
        memories=("cats",),
        content="two",
    )
    await finished(store, send("s3", content="三", at=NOW + 4), at=NOW + 5, content="みっつ")
    yield store
    await store.aclose()


@pytest.fixture
def ask(store: SqliteStore) -> Ask:
    account = Account(store=store, clock=lambda: NOW)

    async def ask(type_: str, owner: Owner = ANNA, **fields: Any) -> Page:
        command = COMMAND_ADAPTER.validate_python({"type": type_, "id": "c1", **fields})
        return await account.answer(owner, command)  # type: ignore[arg-type] # as the test says

    return ask


async def test_history_is_newest_first(ask: Ask) -> None:
    page = await ask("history", session_id="session-1")
    texts = [item.content for item in page.items if isinstance(item, MessageItem)]
    assert texts == ["みっつ", "三", "two", "second", "one", "first"]
    assert (page.id, page.next) == ("c1", None)


async def test_history_in_pages(ask: Ask) -> None:
    first = await ask("history", session_id="session-1", limit=4)
    second = await ask("history", session_id="session-1", limit=4, before=first.next)
    texts = [
        item.content for item in (*first.items, *second.items) if isinstance(item, MessageItem)
    ]
    assert texts == ["みっつ", "三", "two", "second", "one", "first"]
    assert second.next is None


async def test_sessions(ask: Ask) -> None:
    (item,) = (await ask("sessions")).items
    assert isinstance(item, SessionItem)
    assert item.session_id == "session-1"


async def test_memories_are_newest_first(ask: Ask) -> None:
    page = await ask("memories")
    assert [item.value for item in page.items if isinstance(item, MemoryItem)] == ["cats", "tea"]


async def test_one_session(ask: Ask) -> None:
    (item,) = (await ask("session", session_id="session-1")).items
    assert isinstance(item, SessionItem)
    assert item.character == "sakura"


async def test_renaming(ask: Ask) -> None:
    (item,) = (await ask("session", session_id="session-1", title="  新しい題  ")).items
    assert isinstance(item, SessionItem)
    assert item.title == "新しい題"
    (listed,) = (await ask("sessions")).items
    assert listed == item


async def test_forgetting_a_memory(ask: Ask) -> None:
    item = (await ask("memories")).items[0]
    assert isinstance(item, MemoryItem)
    page = await ask("forget", memory_id=item.memory_id)
    assert (page.items, page.next) == ((), None)
    assert len((await ask("memories")).items) == 1
    with pytest.raises(NotFoundError):
        await ask("forget", memory_id=item.memory_id)


async def test_forgetting_a_session_keeps_its_memories(ask: Ask) -> None:
    assert (await ask("forget", session_id="session-1")).items == ()
    assert (await ask("sessions")).items == ()
    assert len((await ask("memories")).items) == 2
    with pytest.raises(NotFoundError):
        await ask("history", session_id="session-1")
    with pytest.raises(NotFoundError):
        await ask("forget", session_id="session-1")


@pytest.mark.parametrize("owner", [BEN, ANNA_ELSEWHERE], ids=["another user", "another tenant"])
@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("history", {"session_id": "session-1"}),
        ("session", {"session_id": "session-1"}),
        ("session", {"session_id": "session-1", "title": "mine"}),
        ("forget", {"session_id": "session-1"}),
        ("forget", {"memory_id": "memory-s1-0"}),
    ],
)
async def test_what_is_somebody_elses_does_not_exist(
    ask: Ask, owner: Owner, kind: str, fields: dict[str, str]
) -> None:
    with pytest.raises(NotFoundError):
        await ask(kind, owner, **fields)
    (session,) = (await ask("sessions")).items
    assert isinstance(session, SessionItem)
    assert session.title != "mine"
    assert len((await ask("memories")).items) == 2


@pytest.mark.parametrize("owner", [BEN, ANNA_ELSEWHERE])
@pytest.mark.parametrize("kind", ["sessions", "memories"])
async def test_lists_are_ones_own(ask: Ask, owner: Owner, kind: str) -> None:
    assert (await ask(kind, owner)).items == ()


@pytest.mark.parametrize(
    ("kind", "fields"),
    [("history", {"session_id": "session-1"}), ("sessions", {}), ("memories", {})],
)
async def test_a_cursor_that_nobody_made(ask: Ask, kind: str, fields: dict[str, str]) -> None:
    with pytest.raises(BadRequestError) as caught:
        await ask(kind, before="made-up", **fields)
    assert caught.value.public_message == "Not valid: before."


async def test_a_cursor_of_another_list(ask: Ask) -> None:
    cursor = (await ask("memories", limit=1)).next
    with pytest.raises(BadRequestError):
        await ask("history", session_id="session-1", before=cursor)


async def test_a_store_that_is_closed(store: SqliteStore, ask: Ask) -> None:
    await store.aclose()
    with pytest.raises(StorageUnavailableError):
        await ask("sessions")

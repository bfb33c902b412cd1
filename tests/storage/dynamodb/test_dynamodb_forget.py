"""Forgetting a conversation: many items, and any of the requests may fail."""

from collections.abc import AsyncIterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from storage.dynamodb.client import DynamoClient
from storage.errors import BlobMissingError, NotRunOwnerError, StorageUnavailableError
from storage.keys import blob_key
from storage.records import BlobRef, LogEntry, Refused, Run
from tests.engines.fault_proxy import FAIL, Fault
from tests.engines.processes import Engine
from tests.storage.dynamodb.stores import Faulty, faulty_store
from tests.storage.samples import (
    ANNA,
    NOW,
    accept,
    append,
    completion,
    entry,
    finished,
    regenerate,
    running,
    send,
)

TOMBSTONE = {"pk", "sk", "ttl", "forgotten"}
"""What is left of a run: nothing of what was said."""


@pytest.fixture
async def faulty(dynoxide: Engine, tmp_path: Path) -> AsyncIterator[Faulty]:
    async with faulty_store(dynoxide, tmp_path) as faulty:
        yield faulty


async def stored(faulty: Faulty) -> list[str]:
    """Return the keys of all items, but for what runs have cost, and the ids that are used no more."""
    items = [item for item in await faulty.items() if item.keys() - TOMBSTONE]
    keys = [f"{item['pk']['S']} {item['sk']['S']}" for item in items]
    return sorted(key for key in keys if "#USAGE " not in key)


async def another_talk(faulty: Faulty) -> list[str]:
    """Store another conversation, and return all that is stored."""
    await finished(faulty.store, send("other", session_id="other", new=True, at=NOW - 9))
    return await stored(faulty)


async def talk(faulty: Faulty, *, entries: int = 30, name: str = "") -> tuple[Run, BlobRef]:
    """Store every kind of item that a conversation can have.

    Args:
        entries: of the longest log.
        name: part of the ids; those of a forgotten conversation are not accepted again.

    Returns:
        A run that is running still, and a blob that another run has spilled.
    """
    first = await running(faulty.store, send(f"a{name}", new=True))
    key = blob_key(ANNA, "spilled")
    spilled = await faulty.tables.blobs.put(key, b"{}")
    for number in range(1, entries):
        await append(faulty.mine.log, entry(first, number))
    slot = LogEntry(run_id=first.run_id, first=entries, last=entries, body=b"", blob=spilled)
    await append(faulty.mine.log, slot)
    end = completion(first, first=entries + 1, content="long " * 20_000)
    await faulty.mine.runs.finish(end)
    await finished(faulty.store, regenerate(f"again{name}", first), content=None)
    await finished(faulty.store, send(f"b{name}", content="長" * 30_000))
    live = await running(faulty.store, send(f"c{name}"))
    await append(faulty.mine.log, entry(live, 1))
    await accept(faulty.store, send(f"d{name}", if_busy="queue"))
    return live, spilled


def files_of(faulty: Faulty, folder: Path) -> list[Path]:
    return [path for path in (folder / "shared").rglob("*") if path.is_file()]


async def test_nothing_is_left_of_a_forgotten_conversation(faulty: Faulty, tmp_path: Path) -> None:
    before = await another_talk(faulty)
    files = files_of(faulty, tmp_path)
    _, spilled = await talk(faulty)
    assert len(files_of(faulty, tmp_path)) == len(files) + 3

    assert await faulty.mine.sessions.forget("session-1", now=NOW) is True
    assert await stored(faulty) == before
    assert files_of(faulty, tmp_path) == files
    with pytest.raises(BlobMissingError):
        await faulty.tables.blobs.get(spilled.key)


class Cut:
    """A client that is cut off for good after some calls."""

    def __init__(self, client: DynamoClient, calls: int) -> None:
        self.calls = calls
        self._client = client

    async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        self.calls -= 1
        if self.calls < 0:
            raise StorageUnavailableError("cut off by the test")
        return await self._client.call(operation, request)


async def test_a_deletion_that_was_cut_anywhere_is_ended_by_a_repeat(faulty: Faulty) -> None:
    before = await another_talk(faulty)
    uncut = faulty.tables.client()
    for calls in count():
        live, _ = await talk(faulty, entries=2, name=f"-{calls}")
        client = Cut(uncut, calls)
        store = faulty.tables.store(client)
        try:
            assert await store.of(ANNA).sessions.forget("session-1", now=NOW) is True
        except StorageUnavailableError:
            assert await faulty.mine.sessions.forget("session-1", now=NOW) is True
        finally:
            await store.aclose()
        assert await stored(faulty) == before
        assert await faulty.mine.sessions.forget("session-1", now=NOW) is False
        with pytest.raises(NotRunOwnerError):
            await faulty.mine.runs.finish(completion(live, first=2))
        if client.calls >= 0:
            break
    assert calls >= 15


async def test_a_conversation_whose_deletion_was_cut_is_gone_for_everybody(
    faulty: Faulty,
) -> None:
    live, _ = await talk(faulty)
    faulty.proxy.fail("DeleteItem", FAIL, times=99)
    with pytest.raises(StorageUnavailableError):
        await faulty.mine.sessions.forget("session-1", now=NOW)
    faulty.proxy.heal()

    assert await faulty.mine.sessions.get("session-1") is None
    assert await faulty.mine.sessions.rename("session-1", "again") is None
    assert (await faulty.mine.sessions.page(before=None, limit=5)).items == ()
    assert await faulty.mine.runs.accept(send("late")) == Refused(why="not_found")
    with pytest.raises(NotRunOwnerError):
        await faulty.mine.runs.finish(completion(live, first=2))
    assert await faulty.mine.messages.get(live.reply_id) is None


async def test_what_a_batch_leaves_undone_is_done_too(faulty: Faulty) -> None:
    before = await another_talk(faulty)
    await talk(faulty)
    faulty.proxy.fail("BatchWriteItem", Fault.UNPROCESSED, times=6)

    assert await faulty.mine.sessions.forget("session-1", now=NOW) is True
    assert await stored(faulty) == before


async def test_live_runs_that_a_batch_leaves_out_are_read_too(faulty: Faulty) -> None:
    await talk(faulty)
    faulty.proxy.fail("BatchGetItem", Fault.UNPROCESSED)

    assert [run.send_id for run in await faulty.mine.runs.live()] == ["c", "d"]


async def test_a_conversation_of_many_items_is_forgotten_whole(faulty: Faulty) -> None:
    before = await another_talk(faulty)
    await finished(faulty.store, send("0", new=True))
    for number in range(1, 60):
        await finished(faulty.store, send(f"{number}"))

    assert await faulty.mine.sessions.forget("session-1", now=NOW) is True
    assert await stored(faulty) == before

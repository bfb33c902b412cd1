"""Where the text of a message is kept: large ones in the blob store, so that no item is near its limit."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage.dynamodb.contents import MAX_INLINE
from storage.errors import StorageUnavailableError
from storage.records import Duplicate, Message, Refused, Room
from tests.engines.fault_proxy import Fault
from tests.engines.processes import Engine
from tests.storage.dynamodb.stores import Faulty, faulty_store
from tests.storage.samples import NOW, accept, completion, finished, running, send

LARGEST = 262_144
"""UTF-8 bytes of the longest message that a tier allows."""


@pytest.fixture
async def faulty(dynoxide: Engine, tmp_path: Path) -> AsyncIterator[Faulty]:
    async with faulty_store(dynoxide, tmp_path) as faulty:
        yield faulty


@pytest.fixture
def blobs(faulty: Faulty, tmp_path: Path) -> "Blobs":
    return Blobs(tmp_path)


class Blobs:
    """The files that the blob store has made."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._before = self._files()

    def _files(self) -> set[Path]:
        return {path for path in (self._folder / "shared").rglob("*") if path.is_file()}

    def made(self) -> set[Path]:
        return self._files() - self._before


TEXTS = {
    "ascii": "x" * LARGEST,
    "japanese": "会" * (LARGEST // 3),
    "emoji": "🌸" * (LARGEST // 4),
    "escaped": "\x01" * LARGEST,
    "just above": "x" * (MAX_INLINE + 1),
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
async def test_a_large_text_comes_back_whole(faulty: Faulty, blobs: Blobs, text: str) -> None:
    asked = send(new=True, content=text)
    run = await running(faulty.store, asked)
    end = completion(run, content=text)
    await faulty.mine.runs.finish(end)
    later = await accept(faulty.store, send("send-2", at=NOW + 9))

    assert await faulty.mine.messages.get(run.message_id) == asked.message
    assert await faulty.mine.messages.get(run.reply_id) == end.reply
    page = await faulty.mine.messages.page("session-1", before=None, limit=3)
    assert page.items[1:] == (end.reply, asked.message)
    before = await faulty.mine.messages.turns_before(later.message_id, max_bytes=2 * LARGEST)
    assert list(before) == [asked.message, end.reply]
    assert len(blobs.made()) == 2
    assert all(len(str(item)) < 10_000 for item in await faulty.items())


async def test_a_text_of_the_limit_stays_in_its_item(faulty: Faulty, blobs: Blobs) -> None:
    await finished(faulty.store, send(new=True, content="x" * MAX_INLINE))

    assert not blobs.made()


async def test_large_texts_count_with_their_size(faulty: Faulty) -> None:
    await finished(faulty.store, send("a", new=True, content="x" * 100_000), content="y")
    await finished(faulty.store, send("b"), content="z")
    await accept(faulty.store, send("c"))
    turns = faulty.mine.messages.turns_before
    small = sum(len(each.content.encode()) for each in await turns("question-c", max_bytes=99_999))

    assert small < 200
    assert len(await turns("question-c", max_bytes=100_000 + small)) == 2
    assert len(await turns("question-c", max_bytes=100_001 + small)) == 4


async def test_a_page_does_not_fetch_a_large_text_that_has_no_room(
    faulty: Faulty, blobs: Blobs
) -> None:
    await finished(faulty.store, send(new=True, content="x" * 100_000), content="kept")
    room: Room[Message] = Room(max_bytes=8_000, size=lambda message: len(message.content))
    for path in blobs.made():
        path.unlink()  # which a fetch would complain of

    page = await faulty.mine.messages.page("session-1", before=None, limit=5, room=room)
    assert [each.content for each in page.items] == ["kept"]
    assert page.next is not None


async def test_what_is_refused_leaves_no_text(faulty: Faulty, blobs: Blobs) -> None:
    await running(faulty.store, send("a", new=True))
    large = "x" * 70_000
    runs = faulty.mine.runs

    assert await runs.accept(send("b", content=large)) == Refused(why="busy")
    assert await runs.accept(send("c", content=large, session_id="x")) == Refused(why="not_found")
    assert await runs.accept(send("a", content=large, request_hash="f" * 64)) == Refused(
        why="conflict"
    )
    assert not blobs.made()


async def test_a_text_whose_message_may_not_be_stored_is_kept_and_named(
    faulty: Faulty, blobs: Blobs, caplog: pytest.LogCaptureFixture
) -> None:
    faulty.proxy.fail("TransactWriteItems", Fault.LOSE_REPLY, times=100)
    asked = send(new=True, content="x" * 70_000)
    with pytest.raises(StorageUnavailableError):
        await faulty.mine.runs.accept(asked)

    assert asked.message is not None
    assert await faulty.mine.messages.get(asked.message.message_id) == asked.message
    (line,) = [each for each in caplog.records if each.message == "a text may be left over"]
    assert line.__dict__["message_id"] == asked.message.message_id


async def test_a_duplicate_leaves_the_text_of_the_first(faulty: Faulty, blobs: Blobs) -> None:
    asked = send(new=True, content="x" * 70_000)
    run = await accept(faulty.store, asked)

    assert await faulty.mine.runs.accept(asked) == Duplicate(run=run)
    assert await faulty.mine.messages.get(run.message_id) == asked.message
    assert len(blobs.made()) == 1


async def test_a_lost_text_hides_no_other(
    faulty: Faulty, blobs: Blobs, caplog: pytest.LogCaptureFixture
) -> None:
    run = await finished(faulty.store, send(new=True, content="x" * 70_000), content="kept")
    for path in blobs.made():
        path.unlink()

    page = await faulty.mine.messages.page("session-1", before=None, limit=5)
    assert [each.content for each in page.items] == ["kept", ""]
    assert [record.message_id for record in caplog.records] == [run.message_id]

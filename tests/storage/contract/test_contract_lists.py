import pytest

from storage.errors import InvalidCursorError, NotRunOwnerError
from storage.records import Memory, Message, Refused, Room, Session
from storage.repositories import Store
from storage.ttl import TOMBSTONE
from tests.storage.samples import (
    ANNA,
    GREETING,
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


async def walk(page, limit: int) -> list[str]:
    """Read all pages and return the ids, page by page in one list."""
    ids: list[str] = []
    before = None
    while True:
        one = await page(before=before, limit=limit)
        assert len(one.items) <= limit
        ids += [getattr(item, "message_id", None) or item.session_id for item in one.items]
        before = one.next
        if before is None:
            return ids
        assert len(one.items) == limit


async def talk(store: Store, turns: int, *, session_id: str = "session-1") -> list[str]:
    """Store that many turns, and return the ids of the messages, newest first."""
    ids: list[str] = []
    for number in range(turns):
        new = number == 0
        at = NOW + 10 * number
        run = await finished(
            store,
            send(f"{session_id}-{number}", session_id=session_id, new=new, at=at),
            at=at + 1,
        )
        ids += [run.message_id, run.reply_id]
    return ids[::-1]


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 6, 50])
async def test_history_is_read_page_by_page_newest_first(store: Store, limit: int) -> None:
    ids = await talk(store, 3)
    messages = store.of(ANNA).messages

    assert await walk(lambda **asked: messages.page("session-1", **asked), limit) == ids


async def test_a_reply_stands_after_its_question_also_when_others_wait(store: Store) -> None:
    first = await running(store, send("a", new=True))
    second = await accept(store, send("b", if_busy="queue"))
    await store.of(ANNA).runs.finish(completion(first, at=NOW + 5))
    await store.of(ANNA).runs.claim(second.run_id, claimed_by="claim", lease_until=NOW + 20)
    await store.of(ANNA).runs.finish(completion(second, at=NOW + 6))

    page = await store.of(ANNA).messages.page("session-1", before=None, limit=10)
    assert [each.message_id for each in page.items] == [
        second.reply_id,
        second.message_id,
        first.reply_id,
        first.message_id,
    ]


@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_a_page_that_ends_at_a_reply_is_not_followed_by_an_older_one(
    store: Store, limit: int
) -> None:
    first = await finished(store, send("a", new=True))
    second = await finished(store, regenerate("again", first, at=NOW + 2), at=NOW + 3)
    third = await finished(store, send("b", at=NOW + 4), at=NOW + 5)
    messages = store.of(ANNA).messages

    assert await walk(lambda **asked: messages.page("session-1", **asked), limit) == [
        third.reply_id,
        third.message_id,
        second.reply_id,
        first.message_id,
    ]


async def test_a_reply_that_is_regenerated_between_two_pages_breaks_no_page(store: Store) -> None:
    ids = await talk(store, 2)
    messages = store.of(ANNA).messages
    first = await messages.page("session-1", before=None, limit=1)
    question = await messages.get(ids[1])
    assert question is not None
    run = await store.of(ANNA).runs.get(question.run_id)
    assert run is not None
    await finished(store, regenerate("again", run, at=NOW + 50), at=NOW + 51)

    rest = await messages.page("session-1", before=first.next, limit=10)
    assert [each.message_id for each in rest.items] == ids[1:]


@pytest.mark.parametrize(
    ("max_bytes", "pages"),
    [
        (100, [["three", "33", "two", "22", "one", "1"]]),
        (10, [["three", "33", "two"], ["22", "one", "1"]]),
        (8, [["three", "33"], ["two", "22", "one"], ["1"]]),
        (3, [["three"], ["33"], ["two"], ["22"], ["one"], ["1"]]),
        (0, [["three"], ["33"], ["two"], ["22"], ["one"], ["1"]]),
    ],
)
async def test_a_page_of_messages_ends_where_its_room_does(
    store: Store, max_bytes: int, pages: list[list[str]]
) -> None:
    for number, (asked, answered) in enumerate([("1", "one"), ("22", "two"), ("33", "three")]):
        question = send(f"{number}", new=number == 0, at=NOW + number, content=asked)
        await finished(store, question, at=NOW + number, content=answered)
    room: Room[Message] = Room(max_bytes=max_bytes, size=lambda message: len(message.content))
    messages = store.of(ANNA).messages

    found: list[list[str]] = []
    before, is_first = None, True
    while before is not None or is_first:
        page = await messages.page("session-1", before=before, limit=10, room=room)
        found.append([message.content for message in page.items])
        before, is_first = page.next, False
    assert found == pages
    both = await messages.page("session-1", before=None, limit=2, room=room)
    assert len(both.items) <= 2
    assert both.next is not None


async def test_pages_of_sessions_and_memories_end_where_their_room_does(store: Store) -> None:
    for number, name in enumerate(["a1", "b2", "c3"]):
        question = send(name, session_id=name, new=True, at=NOW + number)
        await finished(store, question, at=NOW + number, memories=(name,))
    mine = store.of(ANNA)
    names: Room[Session] = Room(max_bytes=5, size=lambda session: len(session.session_id))
    sessions = await mine.sessions.page(before=None, limit=9, room=names)
    values: Room[Memory] = Room(max_bytes=5, size=lambda memory: len(memory.value))
    memories = await mine.memories.page(before=None, limit=9, room=values)

    assert [session.session_id for session in sessions.items] == ["c3", "b2"]
    assert [memory.value for memory in memories.items] == ["c3", "b2"]
    (rest,) = (await mine.sessions.page(before=sessions.next, limit=9, room=names)).items
    assert rest.session_id == "a1"
    (last,) = (await mine.memories.page(before=memories.next, limit=9, room=values)).items
    assert last.value == "a1"


async def test_the_history_of_an_unknown_session_is_empty(store: Store) -> None:
    page = await store.of(ANNA).messages.page("nowhere", before=None, limit=10)

    assert page.items == ()
    assert page.next is None


@pytest.mark.parametrize("limit", [1, 2, 3, 50])
async def test_sessions_are_read_most_recently_updated_first(store: Store, limit: int) -> None:
    for number, name in enumerate(["one", "two", "three"]):
        at = NOW + (0 if name == "two" else number)  # two of them at the same instant
        await accept(store, send(name, session_id=name, new=True, at=at))

    ids = await walk(store.of(ANNA).sessions.page, limit)
    assert ids == ["three", "two", "one"]


@pytest.mark.parametrize("limit", [1, 2, 5, 50])
async def test_memories_are_read_newest_first(store: Store, limit: int) -> None:
    await finished(store, send("a", new=True), memories=("one", "two", "three"))
    await finished(store, send("b"), at=NOW + 5, memories=("four", GREETING))
    values: list[str] = []
    before = None
    while True:
        page = await store.of(ANNA).memories.page(before=before, limit=limit)
        values += [memory.value for memory in page.items]
        before = page.next
        if before is None:
            break

    assert values == [GREETING, "four", "three", "two", "one"]


@pytest.mark.parametrize(
    "cursor",
    ["", "garbage", "日本語", "AAAA", "A" * 5000, "../..", "eyJhIjoxfQ"],
    ids=["empty", "text", "japanese", "short", "long", "path", "json"],
)
async def test_a_cursor_that_nobody_made_is_refused(store: Store, cursor: str) -> None:
    mine = store.of(ANNA)

    with pytest.raises(InvalidCursorError):
        await mine.sessions.page(before=cursor, limit=5)
    with pytest.raises(InvalidCursorError):
        await mine.memories.page(before=cursor, limit=5)
    with pytest.raises(InvalidCursorError):
        await mine.messages.page("session-1", before=cursor, limit=5)


async def test_a_cursor_of_another_session_is_refused(store: Store) -> None:
    await talk(store, 1)
    await talk(store, 1, session_id="session-2")
    page = await store.of(ANNA).messages.page("session-1", before=None, limit=1)

    with pytest.raises(InvalidCursorError):
        await store.of(ANNA).messages.page("session-2", before=page.next, limit=1)


async def test_a_rename_is_seen_at_once(store: Store) -> None:
    await accept(store, send(new=True))
    renamed = await store.of(ANNA).sessions.rename("session-1", "花見 🌸")

    assert renamed is not None
    assert renamed.title == "花見 🌸"
    assert await store.of(ANNA).sessions.get("session-1") == renamed
    assert await store.of(ANNA).sessions.rename("nowhere", "x") is None


async def test_a_forgotten_session_is_gone_with_all_that_is_in_it(store: Store) -> None:
    run = await finished(store, send(new=True), memories=("stays",))
    mine = store.of(ANNA)

    assert await mine.sessions.forget("session-1", now=NOW) is True
    assert await mine.sessions.get("session-1") is None
    assert await mine.messages.get(run.message_id) is None
    assert await mine.runs.get(run.run_id) is None
    assert not await store.of(ANNA).log.read(run.run_id, after=0)
    assert (await mine.messages.page("session-1", before=None, limit=5)).items == ()
    assert len((await mine.memories.page(before=None, limit=5)).items) == 1
    assert await mine.sessions.forget("session-1", now=NOW) is False


async def test_a_run_of_a_forgotten_session_is_not_ours_any_more(store: Store) -> None:
    run = await running(store, send(new=True))
    await append(store.of(ANNA).log, entry(run, 1))
    await store.of(ANNA).sessions.forget("session-1", now=NOW)

    with pytest.raises(NotRunOwnerError):
        await append(store.of(ANNA).log, entry(run, 2))
    with pytest.raises(NotRunOwnerError):
        await store.of(ANNA).runs.finish(completion(run, first=2))
    assert not await store.of(ANNA).log.read(run.run_id, after=0)
    assert not await store.of(ANNA).runs.live()


async def test_the_ids_of_a_forgotten_session_are_not_accepted_again(store: Store) -> None:
    """A life that still ends would mix with the new one, and what was forgotten would come back."""
    await running(store, send("a", new=True))
    await accept(store, send("b", if_busy="queue"))
    await store.of(ANNA).sessions.forget("session-1", now=NOW)
    runs = store.of(ANNA).runs
    again = [
        send("a", session_id="session-2", new=True),
        send("b", session_id="session-3", new=True),
    ]
    for acceptance in again:
        assert await runs.accept(acceptance) == Refused(why="not_found")
        assert await runs.cancel(acceptance.run.run_id, now=NOW + 2 * TOMBSTONE) is None
        assert await runs.accept(acceptance) == Refused(why="not_found")
        assert await runs.get(acceptance.run.run_id) is None
    assert await store.of(ANNA).sessions.get("session-2") is None
    assert not await runs.live()
    await accept(store, send("c", session_id="session-2", new=True))


async def test_a_forgotten_memory_is_gone(store: Store) -> None:
    await finished(store, send(new=True), memories=("one", "two"))
    memories = store.of(ANNA).memories

    assert await memories.forget("memory-send-1-0") is True
    assert await memories.forget("memory-send-1-0") is False
    assert [each.value for each in (await memories.page(before=None, limit=5)).items] == ["two"]


async def contents_before(store: Store, message_id: str, max_bytes: int) -> list[str]:
    before = await store.of(ANNA).messages.turns_before(message_id, max_bytes=max_bytes)
    return [message.content for message in before]


async def test_the_turns_before_a_question_come_oldest_first(store: Store) -> None:
    await finished(store, send("a", new=True, content="一"), content="one")
    await finished(store, send("b", content="二"), content=None)
    await finished(store, send("c", content="三"), content="three")
    await accept(store, send("d", content="四"))

    assert await contents_before(store, "question-d", 100) == ["一", "one", "二", "三", "three"]
    assert await contents_before(store, "question-c", 100) == ["一", "one", "二"]
    assert await contents_before(store, "question-a", 100) == []
    assert await contents_before(store, "unknown", 100) == []


@pytest.mark.parametrize(
    ("max_bytes", "expected"),
    [
        (17, ["一", "one", "二", "三", "three"]),
        (16, ["二", "三", "three"]),
        (11, ["二", "三", "three"]),
        (10, ["三", "three"]),
        (8, ["三", "three"]),
        (7, []),
        (0, []),
    ],
)
async def test_only_whole_turns_that_fit_are_returned(
    store: Store, max_bytes: int, expected: list[str]
) -> None:
    await finished(store, send("a", new=True, content="一"), content="one")
    await finished(store, send("b", content="二"), content=None)
    await finished(store, send("c", content="三"), content="three")
    await accept(store, send("d"))

    assert await contents_before(store, "question-d", max_bytes) == expected


async def test_the_newest_reply_of_a_turn_counts(store: Store) -> None:
    first = await finished(store, send("a", new=True, content="q"), content="older")
    await finished(store, regenerate("again", first, at=NOW + 2), at=NOW + 3, content="newer")
    await accept(store, send("b"))

    assert await contents_before(store, "question-b", 100) == ["q", "newer"]


@pytest.mark.parametrize(
    ("max_bytes", "expected"),
    [(9, ["ab", "c", "花"]), (6, ["ab", "c", "花"]), (5, ["c", "花"]), (3, ["花"]), (2, [])],
)
async def test_the_newest_memories_that_fit_come_oldest_first(
    store: Store, max_bytes: int, expected: list[str]
) -> None:
    await finished(store, send(new=True), memories=("ab", "c", "花"))

    newest = await store.of(ANNA).memories.newest(max_bytes=max_bytes)
    assert [memory.value for memory in newest] == expected

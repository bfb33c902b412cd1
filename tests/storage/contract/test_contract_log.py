import asyncio

import pytest

from storage.errors import LogSlotTakenError, NotRunOwnerError, StorageError
from storage.records import BlobRef, LogEntry
from storage.repositories import Store
from tests.storage.contract.backends import Backend
from tests.storage.samples import (
    ANNA,
    GREETING,
    NOW,
    accept,
    append,
    completion,
    entry,
    finished,
    running,
    send,
)

BLOB = BlobRef(key="acme/anna/payload", bytes=70_000, sha256="d" * 64)


async def numbers(store: Store, run_id: str, *, after: int = 0) -> list[tuple[int, int]]:
    return [(slot.first, slot.last) for slot in await store.of(ANNA).log.read(run_id, after=after)]


async def test_entries_are_read_as_they_were_appended(store: Store) -> None:
    run = await running(store, send(new=True))
    slots = [
        entry(run, 1, body=GREETING.encode()),
        entry(run, 2, 4, body=b'{"n":2}\n{"n":3}\n{"n":4}'),
        LogEntry(run_id=run.run_id, first=5, last=5, body=b"", blob=BLOB),
        entry(run, 6, body=b""),
    ]
    for slot in slots:
        await append(store.of(ANNA).log, slot)

    assert list(await store.of(ANNA).log.read(run.run_id, after=0)) == slots


@pytest.mark.parametrize("ended", [False, True], ids=["live", "ended"])
@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (0, [(1, 1), (2, 4), (5, 5)]),
        (1, [(2, 4), (5, 5)]),
        (3, [(2, 4), (5, 5)]),
        (4, [(5, 5)]),
        (5, []),
        (99, []),
    ],
)
async def test_reading_after_a_number_gives_whole_entries(
    store: Store, after: int, expected: list[tuple[int, int]], ended: bool
) -> None:
    run = await running(store, send(new=True))
    await append(store.of(ANNA).log, entry(run, 1))
    await append(store.of(ANNA).log, entry(run, 2, 4))
    if ended:
        await store.of(ANNA).runs.finish(completion(run, first=5))
    else:
        await append(store.of(ANNA).log, entry(run, 5))

    assert await numbers(store, run.run_id, after=after) == expected


async def test_a_long_log_is_read_whole_live_and_ended(
    backend: Backend[Store], store: Store
) -> None:
    size = backend.long_log
    run = await running(store, send(new=True))
    log = store.of(ANNA).log
    verdicts: list[StorageError | None] = []
    for number in range(1, size + 1):
        slot = entry(run, number, body=b"x" * 8000)
        log.append(slot, claimed_by="claim", acknowledge=verdicts.append)
        if number % 7 == 0:
            await asyncio.sleep(0)
    await append(log, entry(run, size + 1))

    assert verdicts == [None] * size
    after = size - 10
    expected = [(n, n) for n in range(1, size + 3)]
    assert await numbers(store, run.run_id, after=after) == expected[after:-1]
    await store.of(ANNA).runs.finish(completion(run, first=size + 2))
    assert await numbers(store, run.run_id) == expected


async def test_the_acknowledgement_comes_later_and_in_order(store: Store) -> None:
    run = await running(store, send(new=True))
    order: list[int] = []
    last = asyncio.Event()
    for number in range(1, 6):
        store.of(ANNA).log.append(
            entry(run, number),
            claimed_by="claim",
            acknowledge=lambda error, number=number: order.append(number),
        )
    store.of(ANNA).log.append(
        entry(run, 6), claimed_by="claim", acknowledge=lambda error: last.set()
    )

    assert order == []
    async with asyncio.timeout(5):
        await last.wait()
    assert order == [1, 2, 3, 4, 5]


async def test_a_slot_is_created_once(store: Store) -> None:
    run = await running(store, send(new=True))
    await append(store.of(ANNA).log, entry(run, 1, 2))

    with pytest.raises(LogSlotTakenError):
        await append(store.of(ANNA).log, entry(run, 1, 3))
    assert await numbers(store, run.run_id) == [(1, 2)]


async def test_the_same_slot_again_from_its_owner_is_a_lost_reply(store: Store) -> None:
    run = await running(store, send(new=True))
    for first, last in [(1, 2), (3, 3), (1, 2), (3, 3)]:
        await append(store.of(ANNA).log, entry(run, first, last))

    assert await numbers(store, run.run_id) == [(1, 2), (3, 3)]


async def test_a_slot_beyond_a_gap_is_not_created(store: Store) -> None:
    run = await running(store, send(new=True))

    with pytest.raises(StorageError):
        await append(store.of(ANNA).log, entry(run, 2))
    assert await numbers(store, run.run_id) == []


async def test_a_stranger_to_the_claim_cannot_append(store: Store) -> None:
    run = await running(store, send(new=True))

    with pytest.raises(NotRunOwnerError):
        await append(store.of(ANNA).log, entry(run, 1), claimed_by="another")


@pytest.mark.parametrize("make", [accept, finished], ids=["queued", "ended"])
async def test_only_a_running_run_is_appended_to(store: Store, make) -> None:
    run = await make(store, send(new=True))
    before = await numbers(store, run.run_id)

    with pytest.raises(NotRunOwnerError):
        await append(store.of(ANNA).log, entry(run, 1))
    assert await numbers(store, run.run_id) == before


async def test_runs_append_side_by_side(store: Store) -> None:
    runs = [await running(store, send(f"s{n}", session_id=f"{n}", new=True)) for n in range(5)]
    for number in range(1, 4):
        await asyncio.gather(*(append(store.of(ANNA).log, entry(run, number)) for run in runs))

    for run in runs:
        assert list(await store.of(ANNA).log.read(run.run_id, after=0)) == [
            entry(run, number) for number in range(1, 4)
        ]


async def test_a_failing_acknowledgement_does_not_silence_the_others(store: Store) -> None:
    run = await running(store, send(new=True))
    failures: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: failures.append(context))

    def fail(error: object) -> None:
        raise ValueError

    store.of(ANNA).log.append(entry(run, 1), claimed_by="claim", acknowledge=fail)
    await append(store.of(ANNA).log, entry(run, 2))

    assert len(failures) == 1


async def test_nothing_is_read_of_a_run_that_does_not_exist(store: Store) -> None:
    assert await numbers(store, "unknown") == []


async def test_everything_is_there_after_closing_and_opening_again(
    backend: Backend[Store],
) -> None:
    store = await backend.open()
    ended = await finished(store, send("a", session_id="one", new=True))
    live = await running(store, send("b", session_id="two", new=True, at=NOW + 1))
    for number in (1, 2, 3):
        await append(store.of(ANNA).log, entry(live, number))
    await store.aclose()

    again = await backend.open()
    try:
        assert await numbers(again, ended.run_id) == [(1, 1)]
        assert await numbers(again, live.run_id) == [(1, 1), (2, 2), (3, 3)]
        await again.of(ANNA).runs.take_over(live.run_id, claimed_by="sealer", now=NOW + 99)
        await again.of(ANNA).runs.finish(completion(live, first=4, claimed_by="sealer"))
        assert await numbers(again, live.run_id) == [(n, n) for n in (1, 2, 3, 4)]
    finally:
        await again.aclose()

"""What only a backend can do that many processes use at once; `another` is one more process.

A log is kept safe by its slots alone. So a claim that another process has taken over is refused when it
finds a slot taken, or by its next beat; until then its entries are part of the log that is sealed.
"""

import asyncio
from dataclasses import replace

import pytest

from storage.errors import LogSlotTakenError, NotRunOwnerError
from storage.records import (
    MAX_READERS,
    Accepted,
    Duplicate,
    KeyDocument,
    Refused,
    Run,
    RunReader,
)
from storage.repositories import SharedStore
from tests.storage.contract.backends import Backend
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

LEASE = NOW + 10
DOCUMENT = KeyDocument(
    url="https://issuer.example/keys?a=1#b", body=b'{"keys": []}\xff', fetched_at=NOW
)


def reader(name: str = "c1", *, after: int = 0, nonce: str = "n1") -> RunReader:
    return RunReader(connection_id=name, after=after, nonce=nonce, auth_expires_at=NOW + 3600.25)


async def beat(store: SharedStore, run: Run, *, claimed_by: str = "claim", **said: float) -> Run:
    beaten = await store.of(ANNA).runs.beat(
        run.run_id,
        claimed_by=claimed_by,
        lease_until=said.get("lease_until", LEASE),
        last_seq=int(said.get("last_seq", 0)),
    )
    assert beaten is not None
    return beaten


# Beats


async def test_a_beat_keeps_the_lease_and_says_how_far_the_log_is(
    shared_store: SharedStore, another: SharedStore
) -> None:
    run = await running(shared_store, send(new=True), lease_until=LEASE)
    beaten = await beat(shared_store, run, lease_until=LEASE + 5, last_seq=7)

    assert beaten == replace(run, lease_until=LEASE + 5, last_seq=7)
    assert await another.of(ANNA).runs.get(run.run_id) == beaten
    with pytest.raises(NotRunOwnerError):
        await another.of(ANNA).runs.take_over(run.run_id, claimed_by="sealer", now=LEASE + 1)


async def test_a_beat_brings_what_another_process_was_told(
    shared_store: SharedStore, another: SharedStore
) -> None:
    run = await running(shared_store, send(new=True))
    await another.of(ANNA).runs.cancel(run.run_id, now=NOW + 2)
    await another.of(ANNA).runs.join(run.run_id, reader(), now=NOW)

    beaten = await beat(shared_store, run)
    assert (beaten.cancel_at, beaten.readers) == (NOW + 2, (reader(),))


@pytest.mark.parametrize("make", [accept, finished], ids=["queued", "ended"])
async def test_only_a_running_run_beats(shared_store: SharedStore, make) -> None:
    run = await make(shared_store, send(new=True))

    with pytest.raises(NotRunOwnerError):
        await beat(shared_store, run)


async def test_another_claim_does_not_beat(shared_store: SharedStore) -> None:
    run = await running(shared_store, send(new=True))

    with pytest.raises(NotRunOwnerError):
        await beat(shared_store, run, claimed_by="another")
    assert await shared_store.of(ANNA).runs.get(run.run_id) == run


async def test_a_run_that_another_process_forgot_is_not_ours_after_the_next_beat(
    shared_store: SharedStore, another: SharedStore
) -> None:
    run = await running(shared_store, send(new=True))
    mine = shared_store.of(ANNA)
    await append(mine.log, entry(run, 1))
    assert await another.of(ANNA).sessions.forget("session-1", now=NOW) is True

    assert (
        await mine.runs.beat(run.run_id, claimed_by="claim", lease_until=LEASE, last_seq=1) is None
    )
    with pytest.raises(NotRunOwnerError):
        await append(mine.log, entry(run, 2))
    with pytest.raises(NotRunOwnerError):
        await mine.runs.finish(completion(run, first=2))
    assert await mine.messages.get(run.reply_id) is None
    assert not await mine.log.read(run.run_id, after=0)


# Readers


async def test_the_connection_that_asked_reads_the_run(
    shared_store: SharedStore, another: SharedStore
) -> None:
    acceptance = replace(send(new=True), reader=reader())
    accepted = await accept(shared_store, acceptance)
    claimed = await another.of(ANNA).runs.claim(
        accepted.run_id, claimed_by="claim", lease_until=LEASE
    )

    assert accepted.readers == claimed.readers == (reader(),)


@pytest.mark.parametrize("make", [accept, running], ids=["queued", "running"])
async def test_a_live_run_is_joined(shared_store: SharedStore, make) -> None:
    run = await make(shared_store, send(new=True))
    joined = await shared_store.of(ANNA).runs.join(run.run_id, reader(after=3), now=NOW)

    assert joined == replace(run, readers=(reader(after=3),))
    assert await shared_store.of(ANNA).runs.get(run.run_id) == joined


async def test_joining_again_moves_the_cursor(shared_store: SharedStore) -> None:
    run = await running(shared_store, send(new=True))
    runs = shared_store.of(ANNA).runs
    await runs.join(run.run_id, reader("c1"), now=NOW)
    await runs.join(run.run_id, reader("c2"), now=NOW)

    again = await runs.join(run.run_id, reader("c1", after=9, nonce="n2"), now=NOW)
    assert again is not None
    assert again.readers == (reader("c1", after=9, nonce="n2"), reader("c2"))


async def test_a_run_with_a_dead_lease_is_not_joined(shared_store: SharedStore) -> None:
    run = await running(shared_store, send(new=True), lease_until=LEASE)
    runs = shared_store.of(ANNA).runs

    assert await runs.join(run.run_id, reader(), now=LEASE) == run
    assert await runs.get(run.run_id) == run


async def test_an_ended_run_is_not_joined(shared_store: SharedStore) -> None:
    run = await finished(shared_store, send(new=True))
    ended = await shared_store.of(ANNA).runs.join(run.run_id, reader(), now=NOW)

    assert ended is not None
    assert (ended.state, ended.readers) == ("ended", ())


async def test_what_is_no_run_is_not_joined(shared_store: SharedStore) -> None:
    runs = shared_store.of(ANNA).runs
    await runs.cancel("early", now=NOW)

    assert await runs.join("unknown", reader(), now=NOW) is None
    assert await runs.join("early", reader(), now=NOW) is None
    assert await runs.get("unknown") is None


async def test_so_many_read_one_run_and_no_more(shared_store: SharedStore) -> None:
    run = await running(shared_store, send(new=True))
    runs = shared_store.of(ANNA).runs
    for number in range(MAX_READERS):
        await runs.join(run.run_id, reader(f"c{number}"), now=NOW)

    full = await runs.join(run.run_id, reader("late"), now=NOW)
    assert full is not None
    assert [each.connection_id for each in full.readers] == [f"c{n}" for n in range(MAX_READERS)]
    moved = await runs.join(run.run_id, reader("c0", nonce="n2"), now=NOW)
    assert moved is not None
    assert reader("c0", nonce="n2") in moved.readers


async def test_of_a_queued_run_the_first_reader_gives_way(shared_store: SharedStore) -> None:
    run = await accept(shared_store, replace(send(new=True), reader=reader("c5", nonce="n0")))
    runs = shared_store.of(ANNA).runs
    for number in range(1, MAX_READERS):
        await runs.join(run.run_id, reader(f"c{-number}", nonce=f"n{number}"), now=NOW)

    joined = await runs.join(run.run_id, reader("late", nonce="n9"), now=NOW)
    assert joined is not None
    assert joined == await runs.get(run.run_id)
    assert sorted(each.nonce for each in joined.readers) == [
        *(f"n{number}" for number in range(1, MAX_READERS)),
        "n9",
    ]


async def test_a_reader_that_left_makes_room(shared_store: SharedStore) -> None:
    run = await running(shared_store, send(new=True))
    runs = shared_store.of(ANNA).runs
    for name in ("c1", "c2"):
        await runs.join(run.run_id, reader(name), now=NOW)
    for _ in range(2):
        await runs.leave(run.run_id, "c1", nonce="n1")
    await runs.leave("unknown", "c1", nonce="n1")

    left = await runs.get(run.run_id)
    assert left is not None
    assert left.readers == (reader("c2"),)
    assert await runs.get("unknown") is None


async def test_a_reader_that_has_joined_again_is_not_forgotten(shared_store: SharedStore) -> None:
    run = await running(shared_store, send(new=True))
    runs = shared_store.of(ANNA).runs
    for nonce in ("n1", "n2"):
        await runs.join(run.run_id, reader(nonce=nonce), now=NOW)
    await runs.leave(run.run_id, "c1", nonce="n1")

    stays = await runs.get(run.run_id)
    assert stays is not None
    assert stays.readers == (reader(nonce="n2"),)


# Subscribers


async def test_a_subscriber_is_one_until_it_leaves(
    shared_store: SharedStore, another: SharedStore
) -> None:
    subscribers = shared_store.of(ANNA).subscribers
    for name in ("c1", "c2"):
        await subscribers.add("session-1", reader(name), expires_at=NOW + 7200)
    await subscribers.add("session-1", reader("c1", nonce="n2"), expires_at=NOW + 7200)
    await subscribers.add("session-2", reader("c3"), expires_at=NOW + 7200)
    for _ in range(2):
        await subscribers.remove("session-1", "c2")

    assert list(await another.of(ANNA).subscribers.of("session-1", now=NOW)) == [
        reader("c1", nonce="n2")
    ]


async def test_a_subscriber_outlives_its_identity_and_ends_with_its_connection(
    shared_store: SharedStore,
) -> None:
    subscribers = shared_store.of(ANNA).subscribers
    await subscribers.add("session-1", reader(), expires_at=NOW + 7200)

    assert list(await subscribers.of("session-1", now=NOW + 7199)) == [reader()]
    assert not await subscribers.of("session-1", now=NOW + 7202)


async def test_of_many_subscribers_the_newest_are_told(shared_store: SharedStore) -> None:
    subscribers = shared_store.of(ANNA).subscribers
    for number in range(MAX_READERS + 2):
        await subscribers.add(
            "session-1", reader(f"c{-number}", nonce=f"n{number:02}"), expires_at=NOW + 7200
        )

    told = await subscribers.of("session-1", now=NOW)
    assert [each.nonce for each in told] == [f"n{2 + number:02}" for number in range(MAX_READERS)]


# Key documents


async def test_the_key_document_that_was_fetched_last_is_kept(
    shared_store: SharedStore, another: SharedStore
) -> None:
    assert await another.keys.get(DOCUMENT.url) is None
    await shared_store.keys.put(DOCUMENT)
    await another.keys.put(replace(DOCUMENT, body=b"older", fetched_at=NOW - 0.5))
    assert await another.keys.get(DOCUMENT.url) == DOCUMENT

    newer = replace(DOCUMENT, body=b"newer", fetched_at=NOW + 0.5)
    await another.keys.put(newer)
    assert await shared_store.keys.get(DOCUMENT.url) == newer
    assert await shared_store.keys.get("https://other.example/keys") is None


async def test_a_key_document_from_the_far_future_gives_way(
    shared_store: SharedStore, another: SharedStore
) -> None:
    await another.keys.put(replace(DOCUMENT, body=b"misdated", fetched_at=NOW + 61))
    await shared_store.keys.put(DOCUMENT)

    assert await another.keys.get(DOCUMENT.url) == DOCUMENT


# Two processes


async def test_of_claims_in_two_processes_one_wins(
    shared_store: SharedStore, another: SharedStore
) -> None:
    run = await accept(shared_store, send(new=True))
    claims = await asyncio.gather(
        *(
            store.of(ANNA).runs.claim(run.run_id, claimed_by=f"{n}", lease_until=LEASE)
            for n, store in enumerate([shared_store, another] * 5)
        ),
        return_exceptions=True,
    )

    assert sum(isinstance(claim, Run) for claim in claims) == 1
    assert sum(isinstance(claim, NotRunOwnerError) for claim in claims) == 9


async def test_the_same_send_in_two_processes_is_stored_once(
    shared_store: SharedStore, another: SharedStore
) -> None:
    sends = [send(new=True, session_id=f"session-{number}") for number in range(2)]
    outcomes = await asyncio.gather(
        shared_store.of(ANNA).runs.accept(sends[0]), another.of(ANNA).runs.accept(sends[1])
    )

    (accepted,) = (each for each in outcomes if isinstance(each, Accepted))
    assert Duplicate(run=accepted.run) in outcomes
    page = await shared_store.of(ANNA).sessions.page(before=None, limit=5)
    assert [each.session_id for each in page.items] == [accepted.run.session_id]


async def test_of_two_sends_into_a_free_session_one_finds_it_busy(
    shared_store: SharedStore, another: SharedStore
) -> None:
    await finished(shared_store, send("first", new=True))
    outcomes = await asyncio.gather(
        shared_store.of(ANNA).runs.accept(send("second")),
        another.of(ANNA).runs.accept(send("third")),
    )

    assert sum(isinstance(each, Accepted) for each in outcomes) == 1
    assert outcomes.count(Refused(why="busy")) == 1


async def test_sends_that_queue_at_the_same_instant_stand_in_one_line(
    shared_store: SharedStore, another: SharedStore
) -> None:
    first = await running(shared_store, send("first", new=True))
    outcomes = await asyncio.gather(
        *(
            store.of(ANNA).runs.accept(send(f"waiting-{n}", if_busy="queue"))
            for n, store in enumerate([shared_store, another] * 2)
        )
    )

    accepted = [each for each in outcomes if isinstance(each, Accepted)]
    assert len(accepted) == 4
    line = sorted(accepted, key=lambda each: len(each.ahead))
    assert [each.ahead for each in line] == [
        (first.run_id, *(before.run.run_id for before in line[:n])) for n in range(4)
    ]
    following = await shared_store.of(ANNA).runs.finish(completion(first))
    assert following == line[0].run


async def test_an_entry_of_another_process_is_read_at_once(
    shared_store: SharedStore, another: SharedStore
) -> None:
    run = await running(shared_store, send(new=True))
    await append(shared_store.of(ANNA).log, entry(run, 1, 3))

    assert list(await another.of(ANNA).log.read(run.run_id, after=2)) == [entry(run, 1, 3)]


async def test_the_claim_may_append_also_from_another_process(
    shared_store: SharedStore, another: SharedStore
) -> None:
    run = await running(shared_store, send(new=True))
    await append(shared_store.of(ANNA).log, entry(run, 1))

    await append(another.of(ANNA).log, entry(run, 2))
    with pytest.raises(NotRunOwnerError):
        await append(another.of(ANNA).log, entry(run, 3), claimed_by="stranger")
    assert len(await shared_store.of(ANNA).log.read(run.run_id, after=0)) == 2


async def test_an_entry_after_the_seal_is_refused_by_its_slot(
    shared_store: SharedStore, another: SharedStore
) -> None:
    zombie, sealing = shared_store.of(ANNA), another.of(ANNA)
    run = await running(shared_store, send(new=True), lease_until=LEASE)
    await append(zombie.log, entry(run, 1))
    await sealing.runs.take_over(run.run_id, claimed_by="sealer", now=LEASE)
    await sealing.runs.finish(completion(run, first=2, claimed_by="sealer", end="interrupted"))

    with pytest.raises(LogSlotTakenError):
        await append(zombie.log, entry(run, 2))
    with pytest.raises(NotRunOwnerError):
        await beat(shared_store, run)
    with pytest.raises(NotRunOwnerError):
        await zombie.runs.finish(completion(run, first=2))
    log = await zombie.log.read(run.run_id, after=0)
    assert [(slot.first, slot.body) for slot in log] == [
        (1, entry(run, 1).body),
        (2, b'{"type":"done"}'),
    ]


async def test_an_entry_before_the_seal_belongs_to_what_is_sealed(
    shared_store: SharedStore, another: SharedStore
) -> None:
    zombie, sealing = shared_store.of(ANNA), another.of(ANNA)
    run = await running(shared_store, send(new=True), lease_until=LEASE)
    await append(zombie.log, entry(run, 1))
    await sealing.runs.take_over(run.run_id, claimed_by="sealer", now=LEASE)
    await append(zombie.log, entry(run, 2))

    with pytest.raises(LogSlotTakenError):
        await sealing.runs.finish(completion(run, first=2, claimed_by="sealer"))
    await sealing.runs.finish(completion(run, first=3, claimed_by="sealer"))
    assert [slot.first for slot in await sealing.log.read(run.run_id, after=0)] == [1, 2, 3]


async def test_a_lease_that_lives_again_is_not_sealed(
    shared_store: SharedStore, another: SharedStore
) -> None:
    run = await running(shared_store, send(new=True), lease_until=LEASE)
    await beat(shared_store, run, lease_until=LEASE + 10)

    with pytest.raises(NotRunOwnerError):
        await another.of(ANNA).runs.take_over(run.run_id, claimed_by="sealer", now=LEASE)


async def test_of_two_sealers_one_ends_the_run(
    shared_store: SharedStore, another: SharedStore
) -> None:
    run = await running(shared_store, send(new=True), lease_until=LEASE)
    first, second = shared_store.of(ANNA).runs, another.of(ANNA).runs
    await first.take_over(run.run_id, claimed_by="first", now=LEASE)
    await second.take_over(run.run_id, claimed_by="second", now=LEASE)

    with pytest.raises(NotRunOwnerError):
        await first.finish(completion(run, claimed_by="first", content="first"))
    await second.finish(completion(run, claimed_by="second", content="second"))
    reply = await shared_store.of(ANNA).messages.get(run.reply_id)
    assert reply is not None
    assert reply.content == "second"


async def test_the_end_is_stored_once_by_whichever_process(
    shared_store: SharedStore, another: SharedStore
) -> None:
    run = await running(shared_store, send(new=True))
    waiting = await accept(shared_store, send("waiting", if_busy="queue"))
    end = completion(run, memories=("one",))

    assert await shared_store.of(ANNA).runs.finish(end) == waiting
    assert await another.of(ANNA).runs.finish(end) == waiting
    memories = await another.of(ANNA).memories.page(before=None, limit=5)
    assert len(memories.items) == 1
    session = await another.of(ANNA).sessions.get("session-1")
    assert session is not None
    assert session.active_run == waiting.run_id


async def test_a_run_that_ends_out_of_turn_leaves_the_line(shared_store: SharedStore) -> None:
    runs = shared_store.of(ANNA).runs
    first = await running(shared_store, send("first", new=True))
    second = await accept(shared_store, send("second", if_busy="queue"))
    third = await accept(shared_store, send("third", if_busy="queue"))
    await runs.cancel(second.run_id, now=NOW)
    await runs.claim(second.run_id, claimed_by="claim", lease_until=LEASE)
    assert await runs.finish(completion(second, end="cancelled", content=None)) is None

    assert await runs.finish(completion(first)) == third


async def test_nothing_is_accepted_into_a_session_that_was_forgotten_elsewhere(
    shared_store: SharedStore, another: SharedStore
) -> None:
    await finished(shared_store, send(new=True))
    await another.of(ANNA).sessions.forget("session-1", now=NOW)

    outcome = await shared_store.of(ANNA).runs.accept(send("late"))
    assert outcome == Refused(why="not_found")


async def test_what_one_process_stores_another_finds(
    shared: Backend[SharedStore], shared_store: SharedStore, another: SharedStore
) -> None:
    run = await finished(shared_store, send(new=True), memories=("one",))
    await shared_store.of(ANNA).payloads.reserve(payload())
    theirs = another.of(ANNA)

    assert [each.run_id for each in await theirs.runs.live()] == []
    assert (await theirs.messages.get(run.reply_id)) is not None
    assert (await theirs.payloads.get("payload-1")) == payload()
    assert len(await theirs.memories.newest(max_bytes=100)) == 1
    shared.clock.now = NOW + 61
    assert await theirs.payloads.get("payload-1") is None

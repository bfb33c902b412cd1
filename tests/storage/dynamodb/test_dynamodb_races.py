"""What happens when another process comes between what a verb reads and what it writes."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import pytest

from storage.dynamodb.client import DynamoClient, Reason, TransactionCanceledError
from storage.dynamodb.store import DynamoStore
from storage.dynamodb.tables import LIVE_INDEX
from storage.errors import LogSlotTakenError, NotRunOwnerError
from storage.records import Accepted, Duplicate, Refused
from storage.repositories import SharedRepositories
from tests.storage.dynamodb.clients import opened, signed
from tests.storage.dynamodb.stores import Tables
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

LEASE = NOW + 10
Act = Callable[[], Awaitable[object]]


class Interrupted:
    """A client before whose next transaction something else happens."""

    def __init__(self, client: DynamoClient) -> None:
        self.before: list[Act] = []
        self._client = client

    async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        if operation == "TransactWriteItems" and self.before:
            await self.before.pop(0)()
        return await self._client.call(operation, request)


@pytest.fixture
def client(tables: Tables) -> Interrupted:
    return Interrupted(tables.client())


@pytest.fixture
async def store(tables: Tables, client: Interrupted) -> AsyncIterator[DynamoStore]:
    store = tables.store(client)
    yield store
    await store.aclose()


@pytest.fixture
async def theirs(tables: Tables) -> AsyncIterator[SharedRepositories]:
    """What another process does."""
    store = tables.store()
    yield store.of(ANNA)
    await store.aclose()


async def test_a_run_that_is_taken_over_while_it_ends_is_not_ended(
    store: DynamoStore, client: Interrupted, theirs: SharedRepositories
) -> None:
    run = await running(store, send(new=True), lease_until=LEASE)
    client.before = [lambda: theirs.runs.take_over(run.run_id, claimed_by="sealer", now=LEASE)]

    with pytest.raises(NotRunOwnerError):
        await store.of(ANNA).runs.finish(completion(run))
    assert await theirs.messages.get(run.reply_id) is None
    assert await theirs.runs.finish(completion(run, claimed_by="sealer")) is None


async def test_an_entry_that_comes_while_a_run_is_sealed_keeps_its_slot(
    store: DynamoStore, client: Interrupted, theirs: SharedRepositories
) -> None:
    run = await accept(store, send(new=True))
    await theirs.runs.claim(run.run_id, claimed_by="claim", lease_until=LEASE)
    sealing = store.of(ANNA)
    await sealing.runs.take_over(run.run_id, claimed_by="sealer", now=LEASE)
    client.before = [lambda: append(theirs.log, entry(run, 1))]

    with pytest.raises(LogSlotTakenError):
        await sealing.runs.finish(completion(run, claimed_by="sealer"))
    await sealing.runs.finish(completion(run, claimed_by="sealer", first=2))
    assert [slot.first for slot in await theirs.log.read(run.run_id, after=0)] == [1, 2]


async def test_a_session_that_is_forgotten_while_a_run_ends_keeps_nothing(
    store: DynamoStore, client: Interrupted, theirs: SharedRepositories
) -> None:
    run = await running(store, send(new=True))
    client.before = [lambda: theirs.sessions.forget("session-1", now=NOW)]

    with pytest.raises(NotRunOwnerError):
        await store.of(ANNA).runs.finish(completion(run, memories=("one",)))
    assert await theirs.messages.get(run.reply_id) is None
    assert not await theirs.memories.newest(max_bytes=100)


async def test_a_send_that_queues_while_a_run_ends_is_next(
    store: DynamoStore, client: Interrupted, theirs: SharedRepositories
) -> None:
    run = await running(store, send(new=True))
    waiting = send("waiting", if_busy="queue")
    client.before = [lambda: theirs.runs.accept(waiting)]

    assert await store.of(ANNA).runs.finish(completion(run)) == waiting.run


async def test_a_run_that_ends_while_a_send_queues_leaves_it_the_session(
    store: DynamoStore, client: Interrupted, theirs: SharedRepositories
) -> None:
    run = await accept(store, send(new=True))
    await theirs.runs.claim(run.run_id, claimed_by="claim", lease_until=LEASE)
    asked = send("waiting", if_busy="queue")

    async def nothing() -> None: ...

    # The first transaction finds the session busy; the run ends before the second.
    client.before = [nothing, lambda: theirs.runs.finish(completion(run))]
    assert await store.of(ANNA).runs.accept(asked) == Accepted(run=asked.run, ahead=())
    session = await theirs.sessions.get("session-1")
    assert session is not None
    assert session.active_run == asked.run.run_id


@pytest.mark.parametrize("kind", ["send", "regenerate"])
async def test_nothing_is_accepted_into_a_session_that_is_forgotten_meanwhile(
    store: DynamoStore, client: Interrupted, theirs: SharedRepositories, kind: str
) -> None:
    first = await finished(store, send(new=True))
    client.before = [lambda: theirs.sessions.forget("session-1", now=NOW)]
    asked = send("late") if kind == "send" else regenerate("late", first)

    assert await store.of(ANNA).runs.accept(asked) == Refused(why="not_found")
    assert await theirs.messages.get(asked.run.message_id) is None


async def test_a_cancel_that_comes_while_its_send_is_accepted_is_kept(
    store: DynamoStore, client: Interrupted, theirs: SharedRepositories
) -> None:
    asked = send(new=True)
    client.before = [lambda: theirs.runs.cancel(asked.run.run_id, now=NOW - 1)]
    accepted = await accept(store, asked)

    assert accepted.cancel_at == NOW - 1
    assert await theirs.runs.get(asked.run.run_id) == accepted


class Taciturn(Interrupted):
    """A client that says of a canceled transaction only what is wrong with its second entry.

    Nothing promises that DynamoDB looks at the others once one has failed.
    """

    async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return await super().call(operation, request)
        except TransactionCanceledError as canceled:
            _, second, *rest = canceled.reasons
            silent = Reason(code=None, item=None)
            raise TransactionCanceledError([silent, second, *(silent for _ in rest)]) from None


async def test_what_was_accepted_before_is_a_duplicate_also_while_its_session_is_busy(
    tables: Tables,
) -> None:
    store = tables.store(Taciturn(tables.client()))
    await finished(store, send("first", new=True))
    run = await accept(store, send("second"))

    assert await store.of(ANNA).runs.accept(send("second")) == Duplicate(run=run)
    assert await store.of(ANNA).runs.accept(send("third")) == Refused(why="busy")
    await store.aclose()


async def test_a_run_is_in_the_index_of_live_runs_until_it_ends(
    tables: Tables, store: DynamoStore
) -> None:
    await finished(store, send("a", session_id="one", new=True))
    live = await running(store, send("b", session_id="two", new=True))
    async with opened(signed(tables.url)) as client:
        answer = await client.call(
            "Scan",
            {
                "TableName": tables.data,
                "IndexName": LIVE_INDEX,
                "Select": "ALL_PROJECTED_ATTRIBUTES",
            },
        )

    assert [item["pk"]["S"].rpartition("#")[2] for item in answer["Items"]] == [live.run_id]

"""The backends that the contract suite runs on.

A new one is a line in `EMBEDDED` (one process has it for itself) or `SHARED` (many use it at once), and a
function here that makes it, empty, for one test.
"""

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import pytest

from storage.dynamodb.keys import OwnerKeys
from storage.records import Owner, Usage
from storage.repositories import EmbeddedStore, SharedStore, Store
from storage.sqlite.store import DATABASE, open_store
from tests.promises import memory
from tests.storage.dynamodb.clients import opened, signed
from tests.storage.dynamodb.stores import Tables, new_tables
from tests.storage.samples import Clock

S = TypeVar("S", bound=Store, covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend(Generic[S]):
    """Data of its own for one test.

    Attributes:
        open: may be called again: after the store was closed where it is embedded, and for one more
            process that shares the data where it is not.
        usage: returns what that owner's runs have cost, as it is stored; no verb of a store reads it.
        clock: of every store.
        long_log: entries of a log that is long for this backend, which takes so many in a second or two.
    """

    open: Callable[[], Awaitable[S]]
    usage: Callable[[Owner], Awaitable[Sequence[Usage]]]
    clock: Clock
    long_log: int


@asynccontextmanager
async def sqlite(request: pytest.FixtureRequest) -> AsyncIterator[Backend[EmbeddedStore]]:
    folder: Path = request.getfixturevalue("tmp_path")
    clock = Clock()

    async def open_again() -> EmbeddedStore:
        return await open_store(folder / "data", clock=clock)

    async def usage(owner: Owner) -> Sequence[Usage]:
        with closing(sqlite3.connect(folder / "data" / DATABASE)) as connection:
            return [
                Usage(
                    model=model, prompt_tokens=asked, completion_tokens=said, estimated=bool(guess)
                )
                for model, asked, said, guess in connection.execute(
                    "SELECT model, prompt_tokens, completion_tokens, estimated FROM usage"
                    " WHERE tenant_id = ? AND user_id = ?",
                    (owner.tenant_id, owner.user_id),
                )
            ]

    yield Backend(open=open_again, usage=usage, clock=clock, long_log=1000)


Start = Callable[[pytest.FixtureRequest], AbstractAsyncContextManager[Backend[S]]]


def dynamodb(engine: str) -> Start[SharedStore]:
    """DynamoDB by an engine, with two tables of its own."""

    @asynccontextmanager
    async def backend(request: pytest.FixtureRequest) -> AsyncIterator[Backend[SharedStore]]:
        url = request.getfixturevalue(engine).url
        async with new_tables(url, request.getfixturevalue("tmp_path")) as tables:

            async def open_one_more() -> SharedStore:
                return tables.store()

            async def usage(owner: Owner) -> Sequence[Usage]:
                return await _usage_in(tables, owner)

            yield Backend(open=open_one_more, usage=usage, clock=tables.clock, long_log=150)

    return backend


async def _usage_in(tables: Tables, owner: Owner) -> Sequence[Usage]:
    asked = {
        "TableName": tables.data,
        "KeyConditionExpression": "pk = :pk",
        "ExpressionAttributeValues": {":pk": OwnerKeys(owner).usage("", 0)["pk"]},
        "ConsistentRead": True,
    }
    async with opened(signed(tables.url)) as client:
        items = (await client.call("Query", asked))["Items"]
    return [
        Usage(
            model=item["model"]["S"],
            prompt_tokens=int(item["prompt_tokens"]["N"]),
            completion_tokens=int(item["completion_tokens"]["N"]),
            estimated=item["estimated"]["BOOL"],
        )
        for item in items
    ]


@asynccontextmanager
async def in_memory(request: pytest.FixtureRequest) -> AsyncIterator[Backend[SharedStore]]:
    """The store that the promises are tested with under a virtual clock."""
    clock = Clock()
    shared = memory.Backend(clock)

    async def open_one_more() -> SharedStore:
        return memory.MemoryStore(shared)

    async def usage(owner: Owner) -> Sequence[Usage]:
        return [spent for (whose, _), spent in shared.usage.items() if whose == owner]

    yield Backend(open=open_one_more, usage=usage, clock=clock, long_log=1000)


EMBEDDED = {"sqlite": sqlite}
SHARED = {
    "dynoxide": dynamodb("dynoxide"),
    "moto": dynamodb("moto_server"),
    "memory": in_memory,
}
BACKENDS = {**EMBEDDED, **SHARED}

_UNISOLATED = (
    "puts back all tables as they were when a transaction fails, whatever others wrote meanwhile"
)

RACES = {
    "moto": {
        "test_ten_finishes_at_once_store_one_end": _UNISOLATED,
        "test_twenty_tasks_accept_the_same_request_and_one_stores_it": _UNISOLATED,
        "test_the_same_send_in_two_processes_is_stored_once": _UNISOLATED,
        "test_of_two_sends_into_a_free_session_one_finds_it_busy": _UNISOLATED,
        "test_sends_that_queue_at_the_same_instant_stand_in_one_line": _UNISOLATED,
    }
}
"""Where an engine sometimes does other than DynamoDB, by the test that shows it; it is not run there."""


def race(backend: str, test: str) -> pytest.MarkDecorator | None:
    """Return the mark of a test that an engine is known to fail now and then."""
    reason = RACES.get(backend, {}).get(test)
    return pytest.mark.xfail(reason=f"{backend} {reason}", run=False) if reason else None

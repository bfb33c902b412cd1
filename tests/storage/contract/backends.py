"""The backends that the contract suite runs on. A new one is one more line in `BACKENDS`."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import pytest

from storage.repositories import EmbeddedStore, SharedStore, Store
from storage.sqlite.store import open_store
from tests.promises import memory
from tests.storage.dynamodb.stores import new_tables
from tests.storage.samples import Clock

S = TypeVar("S", bound=Store, covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend(Generic[S]):
    """Data of its own for one test.

    Attributes:
        open: may be called again: after the store was closed where it is embedded, and for one more
            process that shares the data where it is not.
        clock: of every store.
        long_log: entries of a log that is long for this backend, which takes so many in a second or two.
    """

    open: Callable[[], Awaitable[S]]
    clock: Clock
    long_log: int


@asynccontextmanager
async def sqlite(request: pytest.FixtureRequest) -> AsyncIterator[Backend[EmbeddedStore]]:
    folder: Path = request.getfixturevalue("tmp_path")
    clock = Clock()

    async def open_again() -> EmbeddedStore:
        return await open_store(folder / "data", clock=clock)

    yield Backend(open=open_again, clock=clock, long_log=1000)


Start = Callable[[pytest.FixtureRequest], AbstractAsyncContextManager[Backend[S]]]


def dynamodb(engine: str) -> Start[SharedStore]:
    """DynamoDB by an engine, with two tables of its own."""

    @asynccontextmanager
    async def backend(request: pytest.FixtureRequest) -> AsyncIterator[Backend[SharedStore]]:
        url = request.getfixturevalue(engine).url
        async with new_tables(url, request.getfixturevalue("tmp_path")) as tables:

            async def open_one_more() -> SharedStore:
                return tables.store()

            yield Backend(open=open_one_more, clock=tables.clock, long_log=150)

    return backend


@asynccontextmanager
async def in_memory(request: pytest.FixtureRequest) -> AsyncIterator[Backend[SharedStore]]:
    """The store that the promises are tested with under a virtual clock."""
    clock = Clock()
    shared = memory.Backend(clock)

    async def open_one_more() -> SharedStore:
        return memory.MemoryStore(shared)

    yield Backend(open=open_one_more, clock=clock, long_log=1000)


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

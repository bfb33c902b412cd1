"""The backends that the contract suite runs on. A new one is one more line in `BACKENDS`."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from storage.repositories import Store
from storage.sqlite.store import open_store
from tests.storage.samples import Clock

Open = Callable[[], Awaitable[Store]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """Data of its own for one test; `open` may be called again after the store was closed."""

    open: Open
    clock: Clock


@asynccontextmanager
async def sqlite(folder: Path) -> AsyncIterator[Backend]:
    clock = Clock()

    async def open_again() -> Store:
        return await open_store(folder / "data", clock=clock)

    yield Backend(open=open_again, clock=clock)


BACKENDS = {
    "sqlite": sqlite,
}

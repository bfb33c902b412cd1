import asyncio

import pytest

from storage.errors import StorageUnavailableError
from storage.purge import purge_forever


class Rows:
    """A store with that many expired rows, which refuses once when it is told to."""

    def __init__(self, expired: int) -> None:
        self.expired = expired
        self.asked: list[tuple[float, int]] = []
        self.refuses = 0
        self.changed = asyncio.Event()

    async def purge(self, blobs: object, *, now: float, limit: int) -> int:
        self.asked.append((now, limit))
        self.changed.set()
        if self.refuses:
            self.refuses -= 1
            raise StorageUnavailableError
        await asyncio.sleep(0)
        gone = min(limit, self.expired)
        self.expired -= gone
        return gone


async def rounds(rows: Rows, asked: int, *, every_s: float) -> None:
    """Purge until the store was asked that many times, then cancel."""
    task = asyncio.create_task(
        purge_forever(
            rows,
            None,
            clock=lambda: 5.0,
            every_s=every_s,
            batch=10,
        )
    )
    async with asyncio.timeout(5):
        while len(rows.asked) < asked:
            rows.changed.clear()
            await rows.changed.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_small_batches_until_nothing_is_left_then_sleep() -> None:
    rows = Rows(expired=25)
    await rounds(rows, 3, every_s=1000)

    assert rows.asked == [(5.0, 10)] * 3
    assert rows.expired <= 5


async def test_rounds_follow_each_other() -> None:
    rows = Rows(expired=0)
    await rounds(rows, 3, every_s=0.001)

    assert len(rows.asked) == 3


async def test_a_store_that_refuses_is_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    rows = Rows(expired=5)
    rows.refuses = 2
    await rounds(rows, 4, every_s=0.001)

    assert rows.expired == 0
    assert caplog.messages == ["purge failed"] * 2

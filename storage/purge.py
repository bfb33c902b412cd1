"""The background loop that deletes what has expired."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from storage.blobs.blob_store import BlobStore
from storage.errors import StorageError
from storage.repositories import EmbeddedStore

BATCH: Final = 200

_log = logging.getLogger(__name__)


async def purge_forever(
    store: EmbeddedStore,
    blobs: BlobStore,
    *,
    clock: Callable[[], float],
    every_s: float,
    batch: int = BATCH,
) -> None:
    """Purge in small batches until all that has expired was tried, then sleep, until cancelled.

    Run it as a task beside the gateway. A backend that refuses is logged and asked again next time.

    Args:
        store: stays open until this has ended.
        blobs: stays open as well.
        clock: Unix time in seconds.
        every_s: seconds between two rounds.
        batch: rows deleted in one go; other writes come in between.
    """
    while True:
        try:
            while await store.purge(blobs, now=clock(), limit=batch) >= batch:
                pass
        except StorageError:
            _log.warning("purge failed", exc_info=True)
        await asyncio.sleep(every_s)

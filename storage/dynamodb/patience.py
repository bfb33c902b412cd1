"""The bound of a verb that takes several requests; each of them has one of its own."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

from storage.errors import StorageUnavailableError

WITHIN_S: Final = 4.8
"""The repositories promise an answer within 5 seconds."""


@asynccontextmanager
async def in_time() -> AsyncGenerator[None, None]:
    """Cut off what takes longer.

    Raises:
        StorageUnavailableError: it did; a write that was under way may still be carried out.
    """
    try:
        async with asyncio.timeout(WITHIN_S):
            yield
    except TimeoutError as error:
        raise StorageUnavailableError("DynamoDB is too slow") from error

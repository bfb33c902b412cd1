"""How often an operation is tried, and for how long: one rule for both clients.

It is the SDKs' standard mode (three attempts, a random pause that may double) with one difference: a
pause of up to a second after a connection that the service closed while it was idle, as an SDK makes
it, would be seen by the person who waits for the next word. See
https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html.
"""

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

from storage.dynamodb.faults import AttemptFailedError
from storage.errors import StorageUnavailableError

T = TypeVar("T")

ATTEMPTS: Final = 3
WITHIN_S: Final = 4.5
"""All attempts together; the repositories promise an answer within 5 seconds."""

CONNECT_TIMEOUT_S: Final = 1.0
READ_TIMEOUT_S: Final = 1.4
"""For one attempt: a healthy table answers in a few milliseconds, so silence is a fault."""


async def until_answered(attempt: Callable[[], Awaitable[T]]) -> T:
    """Await attempts until one does not raise `AttemptFailedError`, and return what it returns.

    Raises:
        StorageUnavailableError: none did within the time.
    """
    try:
        async with asyncio.timeout(WITHIN_S):
            return await _repeated(attempt)
    except TimeoutError as error:
        raise StorageUnavailableError("DynamoDB does not answer") from error


async def _repeated(attempt: Callable[[], Awaitable[T]]) -> T:
    for number in range(ATTEMPTS - 1):
        try:
            return await attempt()
        except AttemptFailedError as error:
            longest = error.pause_s * 2**number
        await asyncio.sleep(random.uniform(0, longest))  # noqa: S311 - spreads callers, hides nothing
    try:
        return await attempt()
    except AttemptFailedError as error:
        raise StorageUnavailableError(f"DynamoDB fails: {error}") from error


def repeatable(operation: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the request so that its repeat is known as such: a transaction is carried out once."""
    if operation == "TransactWriteItems" and "ClientRequestToken" not in request:
        return {**request, "ClientRequestToken": str(uuid.uuid4())}
    return request

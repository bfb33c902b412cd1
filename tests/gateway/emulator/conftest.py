"""An emulator around the handlers in `handlers/`, SDK clients for it, and what its functions print."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from gateway.emulator import Emulator, emulator

HANDLERS = Path(__file__).with_name("handlers")

WAIT_S = 30

SESSION = get_session()
"""Keeps what it has read of the SDK's models, which takes a second."""


class Printed:
    """What functions printed, line by line."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self._more = asyncio.Event()

    def __call__(self, name: str, line: str) -> None:
        self.lines.append((name, line))
        self._more.set()

    def of(self, name: str) -> list[str]:
        return [line for whose, line in self.lines if whose == name]

    def events(self, name: str) -> list[Any]:
        """Return the events that `room.seen` has printed."""
        return [json.loads(line) for line in self.of(name) if line[:1] in {"{", '"'}]

    async def wait(self, name: str, count: int = 1) -> list[str]:
        """Wait until a function has printed so many lines."""
        await self._until(lambda: len(self.of(name)) >= count)
        return self.of(name)

    async def event(self, name: str, number: int = 0) -> Any:
        """Wait for an event that `room.seen` prints."""
        await self._until(lambda: len(self.events(name)) > number)
        return self.events(name)[number]

    async def _until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not true():
                self._more.clear()
                await self._more.wait()


async def until(true: Callable[[], bool]) -> None:
    """Wait until something is the case."""
    async with asyncio.timeout(WAIT_S):
        while not true():
            await asyncio.sleep(0.005)


@pytest.fixture
def printed() -> Printed:
    return Printed()


@pytest.fixture
async def emulating(printed: Printed) -> AsyncIterator[Callable[..., Any]]:
    """Start emulators that end with the test."""
    async with AsyncExitStack() as stack:

        async def start(**options: Any) -> Emulator:
            options = {"root": HANDLERS, "output": printed, **options}
            return await stack.enter_async_context(emulator(**options))

        yield start


@pytest.fixture
async def sdk() -> AsyncIterator[Callable[..., Any]]:
    """Make SDK clients, which do not repeat anything."""
    async with AsyncExitStack() as stack:

        async def client(service: str, endpoint_url: str) -> Any:
            made = SESSION.create_client(
                service,
                endpoint_url=endpoint_url,
                region_name="us-east-1",
                aws_access_key_id="test",
                aws_secret_access_key="test",
                config=AioConfig(retries={"max_attempts": 0}, read_timeout=WAIT_S),
            )
            return await stack.enter_async_context(made)

        yield client

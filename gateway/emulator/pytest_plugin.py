"""A fixture for tests of one's own handlers: `pytest_plugins = ["gateway.emulator.pytest_plugin"]`."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from gateway.emulator.setup import emulator
from gateway.emulator.threads import Emulate, EmulatorThread


@pytest.fixture
def emulate() -> Iterator[Emulate]:
    """Start emulators, each in a thread of its own: for tests with asyncio and without."""
    with ExitStack() as stack:

        def start(**options: Any) -> EmulatorThread:
            return stack.enter_context(EmulatorThread(emulator(**options)))

        yield start

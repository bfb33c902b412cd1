"""An emulator for code that is not asynchronous: it runs in a thread of its own."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from gateway.emulator.chaos import Chaos
from gateway.emulator.emulator import Emulator

T = TypeVar("T")


class EmulatorThread:
    """Serves inside `with`. Every method may be called from any thread.

    Args:
        emulator: to be run; nobody else uses it.
    """

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self._started: Future[asyncio.AbstractEventLoop] = Future()
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="emulator", daemon=True)

    def __enter__(self) -> Self:
        """Listen.

        Raises:
            OSError: the port cannot be had.
        """
        self._thread.start()
        self._loop = self._started.result()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop; see `Emulator.__aexit__`."""
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    @property
    def url(self) -> str:
        """Return what clients connect to."""
        return self._emulator.url

    @property
    def connections_url(self) -> str:
        """Return the `endpoint_url` of a client for the @connections API."""
        return self._emulator.connections_url

    @property
    def lambda_url(self) -> str:
        """Return the `endpoint_url` of a client for Lambda."""
        return self._emulator.lambda_url

    @property
    def chaos(self) -> Chaos:
        """Return what orders faults."""
        return self._emulator.chaos

    @property
    def connection_ids(self) -> list[str]:
        """Return the open connections, oldest first."""
        return self._in_the_loop(lambda: self._emulator.connection_ids)

    def busy(self, function: str) -> int:
        """Return how many processes of a function run an invocation."""
        return self._in_the_loop(lambda: self._emulator.busy(function))

    def kill(self, function: str) -> int:
        """Kill the processes of a function that run an invocation; return how many."""
        return self._in_the_loop(lambda: self._emulator.kill(function))

    def settle(self, timeout: float = 30.0) -> None:
        """Wait until nothing runs; see `Emulator.settle`.

        Raises:
            TimeoutError: something still does after `timeout` seconds.
        """
        asyncio.run_coroutine_threadsafe(self._emulator.settle(), self._loop).result(timeout)

    def _in_the_loop(self, ask: Callable[[], T]) -> T:
        async def answer() -> T:
            return ask()

        return asyncio.run_coroutine_threadsafe(answer(), self._loop).result()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        try:
            await self._emulator.__aenter__()
        except BaseException as exc:  # noqa: BLE001 - raised in the thread that waits
            self._started.set_exception(exc)
            return
        try:
            self._started.set_result(asyncio.get_running_loop())
            await self._over.wait()
        finally:
            await self._emulator.__aexit__(None, None, None)


class Emulate(Protocol):
    """The fixture of `gateway.emulator.pytest_plugin`: starts emulators that end with the test."""

    def __call__(self, **options: Any) -> EmulatorThread:
        """Start one. The options are those of `gateway.emulator.emulator`."""
        ...

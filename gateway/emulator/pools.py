"""The worker processes of one function: reused while warm, as many as invocations run at a time."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

from gateway.emulator.chaos import Chaos, Fault
from gateway.emulator.limits import Limits
from gateway.emulator.output import Output
from gateway.emulator.workers import (
    UNHANDLED,
    Launch,
    NotStartedError,
    Outcome,
    Worker,
    WorkerDiedError,
    error_payload,
)


class ThrottledError(Exception):
    """As many invocations of the function run as may."""


class Pool:
    """Runs invocations of one function. Ends with `aclose`.

    Args:
        name: of the function.
        launch: makes what a process is started with; called for each.
        concurrency: how many invocations may run at a time.
        timeout_s: an invocation is killed after so long, importing not counted.
        limits: for processes.
        chaos: throttles, and kills processes.
        output: is told what an invocation died of.
    """

    def __init__(
        self,
        name: str,
        launch: Callable[[], Launch],
        *,
        concurrency: int,
        timeout_s: float,
        limits: Limits,
        chaos: Chaos,
        output: Output,
    ) -> None:
        self._name = name
        self._launch = launch
        self._concurrency = concurrency
        self._timeout_s = timeout_s
        self._limits = limits
        self._chaos = chaos
        self._output = output
        self._running = 0
        self._busy: set[Worker] = set()
        self._idle: list[tuple[Worker, asyncio.TimerHandle]] = []
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def busy(self) -> int:
        """How many invocations run."""
        return len(self._busy)

    @property
    def process_ids(self) -> list[int]:
        """The processes that are there, busy ones first."""
        return [worker.process_id for worker in (*self._busy, *(each for each, _ in self._idle))]

    async def invoke(self, event: bytes, *, request_id: str) -> Outcome:
        """Run one invocation to its end. Cancelling kills its process.

        Args:
            event: JSON.
            request_id: of the invocation.

        Raises:
            ThrottledError: too many run.
        """
        if self._running >= self._concurrency or self._chaos.strikes(Fault.THROTTLE, self._name):
            self._output(self._name, f"RequestId: {request_id} throttled")
            raise ThrottledError
        self._running += 1
        try:
            worker = self._take() or await self._start()
            return await self._run(worker, event, request_id)
        except NotStartedError as exc:
            return Outcome(payload=exc.payload, error=UNHANDLED)
        finally:
            self._running -= 1

    async def warm_up(self) -> None:
        """Start a process and keep it for the next invocation.

        Raises:
            NotStartedError: the handler cannot be imported.
        """
        self._keep(await self._start())

    def kill_busy(self) -> int:
        """Kill every process that runs an invocation now; return how many."""
        struck = list(self._busy)
        for worker in struck:
            worker.strike()
        return len(struck)

    async def aclose(self) -> None:
        """Kill every process. Whoever still awaits an invocation is told that it died."""
        self.kill_busy()
        for worker, timer in self._idle:
            timer.cancel()
            self._end(worker)
        self._idle.clear()
        while self._ending:
            await asyncio.wait(self._ending)

    async def _run(self, worker: Worker, event: bytes, request_id: str) -> Outcome:
        self._busy.add(worker)
        fate = self._fate(worker)
        keep = False
        try:
            async with asyncio.timeout(self._timeout_s):
                outcome = await worker.invoke(
                    event, request_id=request_id, deadline=time.time() + self._timeout_s
                )
            keep = True
        except TimeoutError:
            text = f"Task timed out after {self._timeout_s:.2f} seconds"
            return self._died("Sandbox.Timedout", text, request_id)
        except WorkerDiedError as exc:
            return self._died("Runtime.ExitError", str(exc), request_id)
        else:
            return self._bounded(outcome)
        finally:
            if fate is not None:
                fate.cancel()
            self._busy.discard(worker)
            if keep:
                self._keep(worker)
            else:
                self._end(worker)

    def _died(self, kind: str, how: str, request_id: str) -> Outcome:
        text = f"RequestId: {request_id} Error: {how}"
        self._output(self._name, text)
        return Outcome(payload=error_payload(kind, text), error=UNHANDLED)

    def _bounded(self, outcome: Outcome) -> Outcome:
        if len(outcome.payload) <= self._limits.payload_bytes:
            return outcome
        most = self._limits.payload_bytes
        text = f"Response payload size exceeded maximum allowed payload size ({most} bytes)."
        return replace(
            outcome,
            payload=error_payload("Function.ResponseSizeTooLarge", text),
            error=UNHANDLED,
        )

    def _fate(self, worker: Worker) -> asyncio.TimerHandle | None:
        if not self._chaos.strikes(Fault.KILL_WORKER, self._name):
            return None
        delay = self._chaos.delay(Fault.KILL_WORKER)
        return asyncio.get_running_loop().call_later(delay, worker.strike)

    async def _start(self) -> Worker:
        worker = Worker(self._launch())
        try:
            await worker.open()
        except BaseException:
            self._end(worker)
            raise
        return worker

    def _take(self) -> Worker | None:
        while self._idle:
            worker, timer = self._idle.pop()
            timer.cancel()
            if worker.is_alive:
                return worker
            self._end(worker)
        return None

    def _keep(self, worker: Worker) -> None:
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self._limits.warm_s, self._cool, worker)
        self._idle.append((worker, timer))

    def _cool(self, worker: Worker) -> None:
        self._idle = [(each, timer) for each, timer in self._idle if each is not worker]
        self._end(worker)

    def _end(self, worker: Worker) -> None:
        task = asyncio.create_task(worker.kill())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

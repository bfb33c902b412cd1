"""The handlers in a world that obeys the test: one process that may restart, or many that share a store."""

import asyncio
import itertools
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import orjson

from gateway.app import Gateway
from gateway.bootstrap.aws import AwsFoundation, make_reply_job, make_seal_job
from gateway.bootstrap.generation import make_generator
from gateway.bootstrap.handlers import Foundation, make_gateway, make_live_runs, make_recovery
from gateway.frames.pace import PER_WRITE, PaceRules
from gateway.frames.spill import Spill
from gateway.hosts.local.run_tasks import RunTasks
from gateway.jobs.seal import RunAliveError
from gateway.runs.live_run import LiveRun
from gateway.runs.live_runs import LiveRuns
from gateway.runs.local_finder import LocalFinder
from gateway.runs.neighbours import LocalNeighbours, SharedNeighbours
from gateway.runs.replay import Replayer
from gateway.runs.run_starter import BEGUN_WITHIN_S
from gateway.runs.shared_finder import SharedFinder
from gateway.settings import Settings
from storage.errors import StorageUnavailableError
from storage.keys import IdSource, run_id
from storage.records import Connection, Owner
from tests.gateway.runs.fakes import NOW, FakeBlobs
from tests.promises.faults import Faults, FaultyStore
from tests.promises.history import Happening, History, Obeyed, Said, Stored, Trouble
from tests.promises.stored import read_stored
from tests.promises.talker import RETRIES, Talker
from tests.promises.wires import MortalTransport, Wire, Wires

TENANT = "acme"
USERS = ("anna", "ben")
MARKS = {user: f"«{user}»" for user in USERS}

OpenStore = Callable[[], Awaitable[Any]]
"""Opens what one process has of the backend."""

SETTLE_ROUNDS = 40
LEASE_AND_MORE_S = 12.0
STOPPED_BY_NOW_S = 2.0

Job = tuple[Owner, str]


def owner_of(user: str) -> Owner:
    return Owner(tenant_id=TENANT, user_id=user)


@dataclass(eq=False)
class Process:
    """One process: what it is made of, and the tasks in which it does something."""

    store: FaultyStore
    transport: MortalTransport
    gateway: Gateway
    live: LiveRuns
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    close: Callable[[], Awaitable[None]] | None = None

    def begin(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def kill(self) -> None:
        """End it as `kill -9` does: nothing that it still wants takes effect."""
        self.store.dead = self.transport.dead = True
        for task in tuple(self.tasks):
            task.cancel()


class World(ABC):
    """What all processes share, and what clients and the platform may do.

    Attributes:
        prompt: the platform does what it owes at once, and not only when it is let.

    Args:
        open_store: opens a store of the backend for one more process.
    """

    def __init__(self, open_store: OpenStore) -> None:
        self.happenings: list[Happening] = []
        self.blobs = FakeBlobs()
        self.faults = Faults()
        self.talker = Talker(self.clock)
        self.prompt = True
        self.wires = Wires(self.happenings, self.blobs, self.clock)
        self.send_ids: dict[str, list[str]] = {user: [] for user in USERS}
        self.settings = Settings(
            emotions=("neutral", "happy"), categories=("general", "story"), live_runs=16
        )
        self._trouble_since: float | None = None
        self._open_store = open_store
        self._numbers = itertools.count(1)
        self._connections = itertools.count(1)
        self._busy: dict[str, asyncio.Task[Any]] = {}

    def clock(self) -> float:
        return NOW + asyncio.get_running_loop().time() - 1_000.0

    def random_bytes(self, size: int) -> bytes:
        """Instead of randomness: what went wrong once goes wrong again."""
        return sha256(b"%d" % next(self._numbers)).digest()[:size]

    # What clients do

    def connect(self, user: str) -> Wire:
        wire = Wire(name=f"{user}-{next(self._connections)}", user=user)
        self.wires.add(wire)
        return wire

    def say(self, wire: Wire, command: dict[str, Any]) -> asyncio.Task[Any]:
        """Send a command; the task ends when the server is done with it, or with its process."""
        self.happenings.append(
            Said(at=self.clock(), user=wire.user, connection=wire.name, command=command)
        )
        if command["type"] in {"send", "regenerate"}:
            self.send_ids[wire.user].append(command["id"])
        return self._handle(wire, command)

    async def drop(self, wire: Wire, *, told: bool) -> None:
        """Break a connection; the platform may not tell."""
        self.wires.cut(wire)
        if told:
            await self._disconnected(wire)

    async def _obey(self, process: Process, wire: Wire, command: dict[str, Any]) -> None:
        record = Connection(
            connection_id=wire.name,
            owner=owner_of(wire.user),
            issuer="urn:issuer",
            auth_expires_at=NOW + 10**6,
            opened_at=NOW,
            expires_at=NOW + 10**6,
        )
        handled = await process.gateway.message(record, orjson.dumps(command).decode())
        if handled.error is None and not process.store.dead:
            self.happenings.append(
                Obeyed(at=self.clock(), user=wire.user, connection=wire.name, command=command)
            )

    # What goes wrong

    def trouble(self) -> None:
        """Begin a time in which a cancel may be late."""
        if self._trouble_since is None:
            self._trouble_since = self.clock()

    def mend(self) -> None:
        """Let the store be whole again."""
        self.faults.heal()
        self.blobs.failing = False
        if self._trouble_since is not None:
            trouble = Trouble(at=self._trouble_since, until=self.clock(), kind="store")
            self.happenings.append(trouble)
            self._trouble_since = None

    # What there is

    def history(self, stored: Stored | None = None) -> History:
        return History(
            happenings=self.happenings,
            asked=self.talker.asked,
            stored=stored,
            marks=MARKS,
            retries=RETRIES,
            stop_within_s=1.0,
        )

    async def read_stored(self) -> Stored:
        store = await self._open_store()
        try:
            return await read_stored(
                store,
                {owner_of(user): sorted(set(ids)) for user, ids in self.send_ids.items()},
                fetch=self.blobs.get,
                now=self.clock(),
            )
        finally:
            await store.aclose()

    async def settle(self) -> None:
        """Mend everything, let everybody come back, and wait until nothing goes on any more."""
        self.talker.at_once = True
        self.mend()
        await asyncio.sleep(STOPPED_BY_NOW_S)
        for wire in tuple(self.wires.open.values()):
            self.wires.cut(wire)
        for request in self.talker.open:
            request.finish()
        for _ in range(SETTLE_ROUNDS):
            await self._go_on()
            wires = [self.connect(user) for user in USERS]
            try:
                unended = [await self._resume_all(wire, after=None) for wire in wires]
            except StorageUnavailableError:  # an engine that was slower than the clock
                continue
            for wire in wires:
                self.wires.cut(wire)
            if not any(unended):
                break
        for user in USERS:  # who comes last is told the same as who was there
            await self._resume_all(self.connect(user), after=0)

    async def _resume_all(self, wire: Wire, *, after: int | None) -> int:
        """Resume runs, and return how many there are that have not ended.

        Args:
            wire: where they shall be heard.
            after: `None` for those that have not ended, from where the user's device stands.
        """
        process = await self._any_process()
        its = process.store.of(owner_of(wire.user)).runs
        ids = sorted({run_id(owner_of(wire.user), each) for each in self.send_ids[wire.user]})
        runs = [run for each in ids if (run := await its.get(each)) is not None]
        live = [run for run in runs if run.state != "ended"]
        for run in live if after is None else runs:
            last = self.wires.applied[wire.user, run.run_id] if after is None else after
            await self.say(wire, {"type": "resume", "run_id": run.run_id, "after": last})
        return len(live)

    def _under(
        self, store: FaultyStore, pace: PaceRules | None = None
    ) -> tuple[dict[str, Any], Replayer]:
        """Return what the foundation of a new process is made of, whatever the host, and a replayer."""
        transport = MortalTransport(self.wires)
        ids = IdSource(self.clock, self.random_bytes)
        spill = Spill(store=store, blobs=self.blobs, clock=self.clock)
        live = make_live_runs(
            store=store,  # type: ignore[arg-type] # obeys like a store
            transport=transport,
            spill=spill,
            ids=ids,
            clock=self.clock,
            pace=pace,
        )
        under = {
            "settings": self.settings,
            "store": store,
            "blobs": self.blobs,
            "transport": transport,
            "admission": None,  # who speaks is known
            "live": live,
            "spill": spill,
            "ids": ids,
            "clock": self.clock,
        }
        return under, Replayer(store=store, transport=transport, spill=spill, clock=self.clock)

    # What differs

    @abstractmethod
    async def open(self) -> None:
        """Begin."""

    @abstractmethod
    async def aclose(self) -> None:
        """End all processes."""

    @abstractmethod
    async def kill(self, which: int) -> None:
        """Kill a process that is doing something."""

    @abstractmethod
    async def platform(self, choice: int, *, twice: bool) -> None:
        """Let the platform do something that it owes, once or twice."""

    @abstractmethod
    def _handle(self, wire: Wire, command: dict[str, Any]) -> asyncio.Task[Any]: ...

    @abstractmethod
    async def _disconnected(self, wire: Wire) -> None: ...

    @abstractmethod
    async def _any_process(self) -> Process: ...

    @abstractmethod
    async def _go_on(self) -> None:
        """Let time pass and everything go on that is owed."""


class OneProcess(World):
    """The local host: one process that claims at once, and takes up what the last one left.

    Args:
        open_store: as for every world; closed with the process.
    """

    process: Process

    async def open(self) -> None:
        store = FaultyStore(await self._open_store(), self.faults)
        under, replayer = self._under(store)
        live, transport = under["live"], under["transport"]
        on = Foundation(
            finder=LocalFinder(store=store, live=live, replayer=replayer),
            neighbours=LocalNeighbours(live.followers),
            **under,
        )
        generator = make_generator(
            self.settings,
            store=store,
            spill=on.spill,
            model=self.talker,
            ids=on.ids,
            clock=self.clock,
        )
        runs = RunTasks(generate=generator.generate, live=live)
        recovery = make_recovery(on, starter=runs)
        gateway = make_gateway(on, starter=runs, recovery=recovery, new_claim=generator.new_claim)
        self.process = Process(store, transport, gateway, live, tasks=runs._tasks)
        await recovery.at_start(await store.store.unfinished())

    async def aclose(self) -> None:
        tasks = tuple(self.process.tasks)
        self.process.kill()
        if tasks:
            await asyncio.wait(tasks, timeout=5)
        await self.process.store.store.aclose()

    async def kill(self, which: int) -> None:
        await self.aclose()
        for wire in tuple(self.wires.open.values()):
            self.wires.cut(wire)
        await self.open()

    async def platform(self, choice: int, *, twice: bool) -> None:
        """It owes nothing."""

    def _handle(self, wire: Wire, command: dict[str, Any]) -> asyncio.Task[Any]:
        process, before = self.process, self._busy.get(wire.name)

        async def handle() -> None:
            if before is not None:
                await asyncio.wait({before})
            await self._obey(process, wire, command)

        task = self._busy[wire.name] = process.begin(handle())
        return task

    async def _disconnected(self, wire: Wire) -> None:
        await self.process.gateway.disconnect(wire.name)

    async def _any_process(self) -> Process:
        return self.process

    async def _go_on(self) -> None:
        await asyncio.sleep(LEASE_AND_MORE_S)


class ManyProcesses(World):
    """AWS: every command, reply and seal has a process of its own; the store is all they share.

    Attributes:
        asked: replies that were asked for and not begun; a platform that owes them may repeat them.
        failed: replies whose process failed; their runs have to be sealed.
    """

    def __init__(self, open_store: OpenStore) -> None:
        super().__init__(open_store)
        self.asked: list[Job] = []
        self.carried_out: list[Job] = []
        self.failed: list[Job] = []
        self._processes: list[Process] = []
        self._stores: list[Any] = []

    async def open(self) -> None:
        self._stores = [await self._open_store() for _ in range(3)]

    async def aclose(self) -> None:
        tasks = [task for process in self._processes for task in process.tasks]
        for process in self._processes:
            process.kill()
        if tasks:
            await asyncio.wait(tasks, timeout=5)
        for store in self._stores:
            await store.aclose()

    async def kill(self, which: int) -> None:
        busy = [process for process in self._processes if process.tasks]
        if busy:
            busy[which % len(busy)].kill()

    async def platform(self, choice: int, *, twice: bool) -> None:
        owed = [(self._reply, job, self.asked) for job in self.asked]
        owed += [(self._seal, job, self.failed) for job in self.failed]
        if twice and self.carried_out:
            owed = [(self._reply, job, self.carried_out) for job in self.carried_out[-3:]]
        if owed:
            carry_out, job, where = owed[choice % len(owed)]
            if not twice:
                where.remove(job)
            carry_out(job)

    def start(self, live: LiveRun) -> None:
        """See `RunStarter.start`."""
        job = live.owner, live.run.run_id
        if self.prompt:
            asyncio.get_running_loop().call_soon(self._reply, job)
        else:
            self.asked.append(job)

    def _reply(self, job: Job) -> None:
        process, reply, _ = self._process()
        self.carried_out.append(job)

        async def run() -> None:
            try:
                await reply.run(*job, deadline=self.clock() + 25.0)
            except BaseException:  # whatever ends it, the platform hands it on as failed
                self.failed.append(job)
                raise

        self._expect(process.begin(run()))

    def _seal(self, job: Job) -> None:
        process, _, seal = self._process()

        async def run() -> None:
            try:
                await seal.run(*job)
            except (RunAliveError, StorageUnavailableError, asyncio.CancelledError):
                self.failed.append(job)

        process.begin(run())

    def _expect(self, task: asyncio.Task[Any]) -> None:
        """Take note of its failure, which the queue of failures knows already."""
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

    def _handle(self, wire: Wire, command: dict[str, Any]) -> asyncio.Task[Any]:
        process, _, _ = self._process()
        return process.begin(self._obey(process, wire, command))

    async def _disconnected(self, wire: Wire) -> None:
        process, _, _ = self._process()
        await process.gateway.disconnect(wire.name)

    async def _any_process(self) -> Process:
        return self._process()[0]

    async def _go_on(self) -> None:
        for jobs, carry_out in ((self.asked, self._reply), (self.failed, self._seal)):
            while jobs:
                carry_out(jobs.pop(0))
        await asyncio.sleep(LEASE_AND_MORE_S)

    def _process(self) -> tuple[Process, Any, Any]:
        """Make a process, over the store that an earlier one has left."""
        self._stores.append(self._stores.pop(0))
        store = FaultyStore(self._stores[-1], self.faults)
        under, replayer = self._under(store, pace=PER_WRITE)
        finder = SharedFinder(
            store=store, replayer=replayer, new_id=under["ids"].new, clock=self.clock
        )
        neighbours = SharedNeighbours(store=store, new_reader=finder.reader, clock=self.clock)
        on = AwsFoundation(finder=finder, neighbours=neighbours, replayer=replayer, **under)
        gateway = make_gateway(
            on,
            starter=self,
            recovery=make_recovery(on, starter=self, begun_within_s=BEGUN_WITHIN_S),
            new_reader=finder.reader,
        )
        process = Process(store, under["transport"], gateway, on.live)
        self._processes = [each for each in self._processes if each.tasks] + [process]
        reply = make_reply_job(on, model=self.talker, starter=self)
        return process, reply, make_seal_job(on, starter=self)

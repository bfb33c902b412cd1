"""Whole exchanges without a host: a real store, a model and connections that obey the test."""

import asyncio
import itertools
import sqlite3
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from gateway.frames.spill import Spill
from gateway.hosts.local.run_tasks import LINGER_S
from gateway.runs.live_run import LiveRun
from gateway.runs.live_runs import LiveRuns
from gateway.runs.local_finder import LocalFinder
from gateway.runs.replay import Replayer
from gateway.tenants.tier import Tier
from gateway.turns.accept import Acceptor
from gateway.turns.conversation import Conversation
from gateway.turns.finish import Finisher
from gateway.turns.following import Following
from gateway.turns.generate import Generator
from gateway.turns.prompt import PromptRules
from gateway.turns.recover import Recovery
from gateway.turns.reply import ReplyShape
from gateway.turns.seal import Sealer
from gateway.turns.usage import estimated_tokens
from gateway.wire.commands import Send
from storage.errors import StorageUnavailableError
from storage.keys import IdSource
from storage.records import Owner, Run, Usage
from storage.repositories import Repositories
from storage.sqlite.store import DATABASE, SqliteStore, open_store
from streaming.models.chat_model import ModelRequest
from streaming.parts import FieldDelta, FieldDone, FieldValue, Finished, Part
from streaming.parts import Usage as Counted
from tests.gateway.runs.fakes import ANNA, NOW, FakeBlobs, FakeTransport, at

TIER = Tier()
SHAPE = ReplyShape(emotions=("neutral", "happy"), categories=("general", "story"))
RULES = PromptRules(
    characters={
        "makoto": "You are Makoto.",
        "誠": "あなたは誠です。",
        "sora": "You are Sora, the sky.",
    },
    history_bytes=1_000,
    memories_bytes=200,
)

_COUNTER = itertools.count()
"""Instead of randomness; never the same in two processes, either."""

Step = list[Part] | Exception | asyncio.Event


def reply(text: str = "Hello.", *, memory: str | None = None) -> list[Step]:
    """A whole reply, in three reads."""
    return [
        [FieldDelta("content", text)],
        [FieldDone("content"), FieldValue("emotion", "happy"), FieldValue("category", "story")],
        [FieldValue("memory", memory), Counted(12, 3, 15), Finished("stop")],
    ]


def prompt_tokens(request: ModelRequest) -> int:
    """What a prompt is estimated at."""
    return sum(estimated_tokens(message.content) for message in request.messages)


class FakeModel:
    """Answers each request with the next script: parts to yield, errors to raise, events to await."""

    name = "fake"

    def __init__(self) -> None:
        self.scripts: list[list[Step]] = []
        self.requests: list[ModelRequest] = []
        self.closed = 0
        self.asked = asyncio.Event()
        self.close_gate: asyncio.Event | None = None

    async def stream(self, request: ModelRequest) -> AsyncGenerator[list[Part], None]:
        self.requests.append(request)
        self.asked.set()
        script = self.scripts.pop(0) if self.scripts else reply()
        try:
            for step in script:
                if isinstance(step, asyncio.Event):
                    await step.wait()
                elif isinstance(step, Exception):
                    raise step
                else:
                    yield step
        finally:
            if self.close_gate is not None:
                await self.close_gate.wait()
            self.closed += 1

    async def aclose(self) -> None:
        """Nothing is open."""


class ObedientStore:
    """A real store whose verbs fail or wait when told so, before or after they took effect."""

    def __init__(self, inner: SqliteStore) -> None:
        self.inner = inner
        self.calls: list[str] = []
        self.before: defaultdict[str, list[Exception]] = defaultdict(list)
        self.after: defaultdict[str, list[BaseException]] = defaultdict(list)
        self.gates: dict[str, asyncio.Event] = {}
        self.told_gates: dict[str, asyncio.Event] = {}

    def refuse(self, verb: str, times: int = 1, error: Exception | None = None) -> None:
        """Fail that many calls of `repository.verb` without doing anything."""
        self.before[verb] += [error or StorageUnavailableError("told to refuse")] * times

    def lose(self, verb: str, times: int = 1, error: BaseException | None = None) -> None:
        """Do what is asked, but seem to fail."""
        self.after[verb] += [error or StorageUnavailableError("told to lose")] * times

    def of(self, owner: Owner) -> Repositories:
        its = self.inner.of(owner)
        names = ("sessions", "messages", "memories", "runs", "payloads")
        return replace(its, **{name: _Obedient(self, name, getattr(its, name)) for name in names})

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class _Obedient:
    def __init__(self, store: ObedientStore, name: str, inner: Any) -> None:
        self._store, self._name, self._inner = store, name, inner

    def __getattr__(self, verb: str) -> Any:
        store, name = self._store, f"{self._name}.{verb}"

        async def call(*arguments: Any, **named: Any) -> Any:
            store.calls.append(name)
            if name in store.gates:
                await store.gates[name].wait()
            if store.before[name]:
                raise store.before[name].pop(0)
            result = await getattr(self._inner, verb)(*arguments, **named)
            if name in store.told_gates:
                await store.told_gates[name].wait()
            if store.after[name]:
                raise store.after[name].pop(0)
            return result

        return call


class Starter:
    """Generates in tasks, and goes on with the session's next run; see `RunStarter`."""

    def __init__(
        self, generate: Callable[[LiveRun], Any], live: LiveRuns, *, claims_at_once: bool
    ) -> None:
        self._generate = generate
        self._live = live
        self._claims_at_once = claims_at_once
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.holding = False
        self.started: list[str] = []

    @property
    def may_claim(self) -> bool:
        return self._claims_at_once and not self.holding

    def start(self, live: LiveRun) -> None:
        if live.started or self.holding:
            return
        live.started = True
        self.started.append(live.run.run_id)
        self.tasks[live.run.run_id] = asyncio.create_task(self._run(live))

    async def _run(self, live: LiveRun) -> None:
        next_run = await self._generate(live)
        self._live.retire(live, linger_s=LINGER_S)
        if next_run is not None:
            self.start(self._live.open(live.owner, next_run))


class Exchange:
    """Everything between a command and its answer."""

    def __init__(self, store: SqliteStore, *, claim_at_once: bool) -> None:
        self.store = ObedientStore(store)
        self.transport = FakeTransport()
        self.blobs = FakeBlobs()
        self.model = FakeModel()
        self.now = NOW
        self.ids = IdSource(self.clock, lambda size: next(_COUNTER).to_bytes(size, "big"))
        self.spill = Spill(store=self.store, blobs=self.blobs, clock=self.clock)  # type: ignore[arg-type]
        self.live = LiveRuns(self._make)
        self.finisher = Finisher(store=self.store, clock=self.clock)  # type: ignore[arg-type]
        self.sealer = Sealer(
            store=self.store,  # type: ignore[arg-type] # obeys like a store
            spill=self.spill,
            rules=RULES,
            new_id=self.ids.new,
            clock=self.clock,
        )
        self.generator = Generator(
            store=self.store,  # type: ignore[arg-type] # obeys like a store
            finisher=self.finisher,
            sealer=self.sealer,
            model=self.model,
            shape=SHAPE,
            rules=RULES,
            new_id=self.ids.new,
            clock=self.clock,
            monotonic=self.clock,
        )
        self.starter = Starter(self.generator.generate, self.live, claims_at_once=claim_at_once)
        self.recovery = Recovery(
            store=self.store,  # type: ignore[arg-type] # obeys like a store
            sealer=self.sealer,
            live=self.live,
            starter=self.starter,
            clock=self.clock,
        )
        self.acceptor = Acceptor(
            store=self.store,  # type: ignore[arg-type] # obeys like a store
            blobs=self.blobs,  # type: ignore[arg-type] # uploads are put there directly
            ids=self.ids,
            clock=self.clock,
            new_claim=lambda: self.generator.new_claim() if self.starter.may_claim else None,
            new_reader=lambda connection: None,
            recovery=self.recovery,
        )
        self.finder = LocalFinder(
            store=self.store,  # type: ignore[arg-type] # obeys like a store
            live=self.live,
            replayer=Replayer(
                store=self.store,  # type: ignore[arg-type] # obeys like a store
                transport=self.transport,
                spill=self.spill,
                clock=self.clock,
            ),
        )
        self.following = Following(finder=self.finder, live=self.live, recovery=self.recovery)
        self.news: list[str] = []
        self.conversation = Conversation(
            store=self.store,  # type: ignore[arg-type] # obeys like a store
            acceptor=self.acceptor,
            live=self.live,
            following=self.following,
            starter=self.starter,
            recovery=self.recovery,
            characters=frozenset(RULES.characters),
            clock=self.clock,
        )

    def clock(self) -> float:
        return self.now

    def _make(self, owner: Owner, run: Run) -> LiveRun:
        return LiveRun(
            owner=owner,
            run=run,
            claimed_by=run.claimed_by or self.ids.new(),
            log=self.store.of(owner).log,
            transport=self.transport,
            spill=self.spill,
            spill_until=self.now + 1_000,
        )

    # Commands

    def post(self, connection: str = "c1") -> Callable[[bytes], Any]:
        async def post(frame: bytes) -> None:
            pending = self.transport.post(connection, frame)
            if pending is not None:
                await pending

        return post

    async def send(
        self, content: str = "Hi", *, connection: str = "c1", owner: Owner = ANNA, **fields: Any
    ) -> dict[str, Any]:
        """Send a message; return `accepted`, whatever else is being answered meanwhile."""
        command = Send(
            type="send", **{"id": f"s{len(self.model.requests)}", "content": content, **fields}
        )
        before = len(self.transport.frames[connection])
        told = await self.conversation.send(
            owner, TIER, at(connection), command, self.post(connection)
        )
        self.news += [told] if told else []
        new = self.transport.answers(connection)[before:]
        return next(frame for frame in new if frame["type"] == "accepted")

    async def settle(self) -> None:
        """Wait until nothing is being generated."""
        async with asyncio.timeout(5):
            while pending := [task for task in self.starter.tasks.values() if not task.done()]:
                await asyncio.wait(pending)

    async def talk(self, content: str = "Hi", **fields: Any) -> dict[str, Any]:
        """Send a message and wait for the end of its answer; return `accepted`."""
        accepted = await self.send(content, **fields)
        await self.settle()
        return accepted

    # What a client has

    def events(self, run_id: str, connection: str = "c1") -> list[dict[str, Any]]:
        """The events of a run as a client has them: each once, in order, whole."""
        have: list[dict[str, Any]] = []
        for frame in self.transport.answers(connection):
            if frame.get("run_id") == run_id and frame["type"] == "payload":
                frame = self._fetched(frame["url"])
            if frame.get("run_id") == run_id and frame["type"] == "events":
                assert frame["first_seq"] <= len(have) + 1, "a gap"
                have[frame["first_seq"] - 1 :] = frame["events"]
        return have

    def _fetched(self, url: str) -> dict[str, Any]:
        frame: dict[str, Any] = orjson.loads(self.blobs.bodies[url.removeprefix("/blobs/")])
        return frame

    def done(self, run_id: str, connection: str = "c1") -> dict[str, Any]:
        events = self.events(run_id, connection)
        assert [event["type"] for event in events].count("done") == 1
        assert events[-1]["type"] == "done"
        return events[-1]

    def text(self, run_id: str, connection: str = "c1") -> str:
        events = self.events(run_id, connection)
        return "".join(event["text"] for event in events if event["type"] == "content.delta")

    async def row(self, run_id: str, owner: Owner = ANNA) -> Run:
        run = await self.store.inner.of(owner).runs.get(run_id)
        assert run is not None
        return run

    async def history(self, session_id: str, owner: Owner = ANNA) -> list[tuple[str, str]]:
        page = await self.store.inner.of(owner).messages.page(session_id, before=None, limit=100)
        return [(message.role, message.content) for message in reversed(page.items)]


def stored_usage(folder: Path, run_id: str) -> Usage | None:
    """What the store of that folder keeps of a run's cost."""
    with closing(sqlite3.connect(folder / DATABASE)) as database:
        row = database.execute(
            "SELECT model, prompt_tokens, completion_tokens, estimated FROM usage WHERE run_id = ?",
            (run_id,),
        ).fetchone()
    if row is None:
        return None
    model, prompt, completion, estimated = row
    return Usage(
        model=model,
        prompt_tokens=prompt,
        completion_tokens=completion,
        estimated=bool(estimated),
    )


@asynccontextmanager
async def exchange(folder: Path, *, claim_at_once: bool = True) -> AsyncIterator[Exchange]:
    """Open the store of that folder and what stands on it; end as a killed process would."""
    store = await open_store(folder, clock=lambda: NOW)
    made = Exchange(store, claim_at_once=claim_at_once)
    try:
        yield made
    finally:
        tasks: Sequence[asyncio.Task[None]] = list(made.starter.tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=5)
        await store.aclose()

"""Many processes over one shared backend: each accepts, generates or seals, none lives long."""

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.bootstrap.handlers import make_live_runs
from gateway.frames.pace import PER_WRITE
from gateway.frames.spill import Spill
from gateway.jobs.reply import ReplyJob
from gateway.jobs.seal import SealJob
from gateway.runs.live_run import LiveRun
from gateway.runs.neighbours import SharedNeighbours
from gateway.runs.replay import Replayer
from gateway.runs.run_starter import BEGUN_WITHIN_S
from gateway.runs.shared_finder import SharedFinder
from gateway.turns.accept import Acceptor
from gateway.turns.conversation import Conversation
from gateway.turns.finish import Finisher
from gateway.turns.following import Following
from gateway.turns.generate import Generator
from gateway.turns.recover import Recovery
from gateway.turns.seal import Sealer
from gateway.wire.commands import Cancel, Resume, Send, Subscribe, Unsubscribe
from storage.keys import IdSource
from storage.records import Owner, Run
from storage.repositories import SharedStore
from tests.gateway.runs.fakes import ANNA, FakeBlobs, FakeTransport, at
from tests.gateway.turns.exchange import RULES, SHAPE, TIER, FakeModel
from tests.storage.dynamodb.clients import opened, signed
from tests.storage.dynamodb.stores import Tables, new_tables

LIFE_S = 600.0
"""How long an invocation may take."""

PROCESSES = 4
"""How many there are at most at a time."""


@dataclass
class Invocations:
    """A `RunStarter` that keeps what it was asked for until the test lets it be carried out."""

    asked: list[tuple[Owner, str]] = field(default_factory=list)

    def start(self, live: LiveRun) -> None:
        self.asked.append((live.owner, live.run.run_id))


class Process:
    """One process: what an invocation makes and leaves behind."""

    def __init__(self, deployment: "Deployment", store: SharedStore) -> None:
        self.store = store
        clock, transport = deployment.clock, deployment.transport
        ids = IdSource(clock, secrets.token_bytes)
        spill = Spill(store=store, blobs=deployment.blobs, clock=clock)  # type: ignore[arg-type]

        self.live = make_live_runs(
            store=store, transport=transport, spill=spill, ids=ids, clock=clock, pace=PER_WRITE
        )
        self.starter = deployment.invocations
        replayer = Replayer(store=store, transport=transport, spill=spill, clock=clock)
        self.finder = SharedFinder(store=store, replayer=replayer, new_id=ids.new, clock=clock)
        self.neighbours = SharedNeighbours(store=store, new_reader=self.finder.reader, clock=clock)
        sealer = Sealer(store=store, spill=spill, rules=RULES, new_id=ids.new, clock=clock)
        recovery = Recovery(
            store=store,
            sealer=sealer,
            live=self.live,
            starter=self.starter,
            clock=clock,
            begun_within_s=BEGUN_WITHIN_S,
        )
        self.following = Following(finder=self.finder, live=self.live, recovery=recovery)
        self.conversation = Conversation(
            store=store,
            acceptor=Acceptor(
                store=store,
                blobs=deployment.blobs,  # type: ignore[arg-type] # no uploads
                ids=ids,
                clock=clock,
                new_claim=lambda: None,
                new_reader=self.finder.reader,
                recovery=recovery,
            ),
            live=self.live,
            following=self.following,
            starter=self.starter,
            recovery=recovery,
            characters=frozenset(RULES.characters),
            clock=clock,
        )
        generator = Generator(
            store=store,
            finisher=Finisher(store=store, clock=clock),
            sealer=sealer,
            model=deployment.model,
            shape=SHAPE,
            rules=RULES,
            new_id=ids.new,
            clock=clock,
            monotonic=clock,
        )
        self.reply = ReplyJob(
            store=store,
            generator=generator,
            live=self.live,
            starter=self.starter,
            recovery=recovery,
            new_id=ids.new,
            clock=clock,
            unread_run_s=deployment.unread_run_s,
        )
        self.seal = SealJob(
            store=store,
            sealer=sealer,
            replayer=replayer,
            live=self.live,
            starter=self.starter,
            recovery=recovery,
            clock=clock,
        )


class Deployment:
    """The backend, the connections and the model that all processes share."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self.clock = tables.clock
        self.transport = FakeTransport()
        self.blobs = FakeBlobs()
        self.model = FakeModel()
        self.invocations = Invocations()
        self.unread_run_s = 0.0
        self._stores: deque[SharedStore] = deque()

    def process(self) -> Process:
        """Return another process than the last ones; some are warm from an earlier invocation."""
        if len(self._stores) < PROCESSES:
            self._stores.append(self._tables.store())
        self._stores.rotate()
        return Process(self, self._stores[0])

    async def aclose(self) -> None:
        for store in self._stores:
            await store.aclose()

    # What a client does, each in a process of its own

    async def send(
        self, send_id: str = "s1", content: str = "Hi", *, here: str = "c1", **fields: Any
    ) -> dict[str, Any]:
        """Send a message; return the answer, `accepted`."""
        command = Send(type="send", **{"id": send_id, "content": content, **fields})
        before = len(self.transport.frames[here])
        process = self.process()
        await process.conversation.send(ANNA, TIER, at(here), command, self._post(here))
        return self.transport.answers(here)[before]

    async def cancel(self, run_id: str) -> None:
        process = self.process()
        await process.conversation.cancel(ANNA, Cancel(type="cancel", run_id=run_id))

    async def resume(self, run_id: str, *, here: str, after: int = 0) -> dict[str, Any]:
        """Resume; return the answer, `resumed`."""
        command = Resume(type="resume", run_id=run_id, after=after)
        before = len(self.transport.frames[here])
        process = self.process()
        await process.following.resume(ANNA, at(here), command, self._post(here))
        return self.transport.answers(here)[before]

    async def subscribe(self, session_id: str, *, here: str) -> dict[str, Any]:
        """Subscribe; return the answer, `subscribed`."""
        command = Subscribe(type="subscribe", session_id=session_id)
        before = len(self.transport.frames[here])
        process = self.process()
        await process.following.subscribe(ANNA, at(here), command, self._post(here))
        return self.transport.answers(here)[before]

    async def unsubscribe(self, session_id: str, *, here: str) -> None:
        command = Unsubscribe(type="unsubscribe", session_id=session_id)
        process = self.process()
        await process.following.unsubscribe(ANNA, at(here), command, self._post(here))

    async def forget(self, session_id: str) -> None:
        process = self.process()

        async def delete() -> None:
            assert await process.store.of(ANNA).sessions.forget(session_id, now=self.clock())

        await process.conversation.forget(ANNA, session_id, delete)

    # What the platform does

    async def carry_out(self, *, life_s: float = LIFE_S) -> None:
        """Carry out every invocation that was asked for, and those that these ask for."""
        while self.invocations.asked:
            owner, run_id = self.invocations.asked.pop(0)
            process = self.process()
            await process.reply.run(owner, run_id, deadline=self.clock() + life_s)

    def carrying_out(self, *, life_s: float = LIFE_S) -> asyncio.Task[None]:
        return asyncio.create_task(self.carry_out(life_s=life_s))

    async def seal(self, run_id: str) -> None:
        process = self.process()
        await process.seal.run(ANNA, run_id)

    # What there is

    def events(self, run_id: str, here: str = "c1") -> list[dict[str, Any]]:
        """The events of a run as a client has them: each once, in order, whole."""
        have: list[dict[str, Any]] = []
        for frame in self.transport.answers(here):
            if frame.get("run_id") == run_id and frame["type"] == "events":
                assert frame["first_seq"] <= len(have) + 1, "a gap"
                have[frame["first_seq"] - 1 :] = frame["events"]
        return have

    def text(self, run_id: str, here: str = "c1") -> str:
        events = self.events(run_id, here)
        return "".join(event["text"] for event in events if event["type"] == "content.delta")

    def done(self, run_id: str, here: str = "c1") -> dict[str, Any]:
        events = self.events(run_id, here)
        assert [event["type"] for event in events].count("done") == 1
        assert events[-1]["type"] == "done"
        return events[-1]

    async def run(self, run_id: str) -> Run:
        process = self.process()
        run = await process.store.of(ANNA).runs.get(run_id)
        assert run is not None
        return run

    async def stored_usage(self, run_id: str) -> dict[str, Any] | None:
        """What is stored of a run's cost, as the event says it."""
        async with opened(signed(self._tables.url)) as client:
            answer = await client.call("Scan", {"TableName": self._tables.data})
        for item in answer["Items"]:
            if item["pk"]["S"].endswith("#USAGE") and item["sk"]["S"].endswith(run_id):
                return {
                    "type": "usage",
                    "model": item["model"]["S"],
                    "prompt_tokens": int(item["prompt_tokens"]["N"]),
                    "completion_tokens": int(item["completion_tokens"]["N"]),
                    "estimated": item["estimated"]["BOOL"],
                }
        return None

    def _post(self, here: str) -> Any:
        async def post(frame: bytes) -> None:
            pending = self.transport.post(here, frame)
            if pending is not None:
                await pending

        return post


@asynccontextmanager
async def deployment(url: str, folder: Path) -> AsyncIterator[Deployment]:
    """Open a backend with tables of its own on that engine."""
    async with new_tables(url, folder) as tables:
        made = Deployment(tables)
        try:
            yield made
        finally:
            await made.aclose()

"""What is broken on purpose is found, by the promise that it breaks.

Each broken build lives through one eventful day, which an intact one survives; those whose fault is not
rare are found by the machine too.
"""

import asyncio
import secrets
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any

import pytest

from gateway.app import Gateway
from gateway.runs.live_run import LiveRun
from gateway.runs.live_runs import LiveRuns
from gateway.runs.reader import Reader
from gateway.turns import accept, finish
from gateway.turns.finish import Finisher
from gateway.turns.recover import Recovery
from gateway.turns.seal import Sealer
from storage import keys
from storage.records import Accepted, LogEntry, Message, Owner, Run
from tests.promises import memory
from tests.promises.history import Broken, Heard, broken
from tests.promises.machine import BrokenPromiseError, OpenWorld, in_world, profile
from tests.promises.patient_time import PatientLoop
from tests.promises.test_machine import many_processes, one_process, run
from tests.promises.wires import Wire
from tests.promises.worlds import MARKS, World, owner_of

Patch = pytest.MonkeyPatch


def post_before_log(patch: Patch) -> None:
    append = LiveRun._append

    def hasty(self: LiveRun, *arguments: Any) -> None:
        append(self, *arguments)
        self.feed.advance(self.last_seq)

    patch.setattr(LiveRun, "_append", hasty)
    patch.setattr(LiveRun, "lose", lambda self: None)


def no_dedupe(patch: Patch) -> None:
    patch.setattr(accept, "run_id", lambda owner, send_id: secrets.token_hex(13))


def same_id_with_other_content_is_the_same(patch: Patch) -> None:
    patch.setattr(accept, "_hash", lambda *asked: "0" * 64)


def two_ends(patch: Patch) -> None:
    tell = Finisher._tell

    def tell_twice(self: Finisher, *arguments: Any, **named: Any) -> None:
        tell(self, *arguments, **named)
        tell(self, *arguments, **named)

    patch.setattr(Finisher, "_tell", tell_twice)


def cursor_off_by_one(patch: Patch) -> None:
    move = Reader.move
    patch.setattr(Reader, "move", lambda self, after: move(self, after + 1 if after else 0))


def forgotten_owner_check(patch: Patch) -> None:
    patch.setattr(LiveRuns, "find", lambda self, owner, run_id: self._runs.get(run_id))


def forgotten_owner_in_the_store(patch: Patch) -> None:
    async def get(self: Any, run_id: str) -> Run | None:
        return next((run for (_, key), run in self._backend.runs.items() if key == run_id), None)

    async def read(self: Any, run_id: str, *, after: int) -> list[LogEntry]:
        logs = [log for (_, key), log in self._backend.logs.items() if key == run_id]
        return [entry for log in logs for _, entry in log]

    async def join(self: Any, run_id: str, reader: Any, *, now: float) -> Run | None:
        return await get(self, run_id)

    patch.setattr(memory._Runs, "get", get)
    patch.setattr(memory._Runs, "join", join)
    patch.setattr(memory._Log, "read", read)


def no_slots(patch: Patch) -> None:
    """Who writes last wins, and what was begun may be begun again."""
    claim, keep = memory._Runs.claim, memory._Log._keep

    async def claim_anything(self: Any, run_id: str, **named: Any) -> Run:
        key = self._key(run_id)
        run = self._backend.runs.get(key)
        if run is not None and run.state == "running":
            self._backend.runs[key] = replace(run, state="queued")
        return await claim(self, run_id, **named)

    def overwrite(self: Any, entry: LogEntry, claimed_by: str) -> Any:
        log = self._backend.logs[self._key(entry.run_id)]
        log[:] = [(claim, kept) for claim, kept in log if kept.last < entry.first]
        return keep(self, entry, claimed_by)

    patch.setattr(memory._Runs, "claim", claim_anything)
    patch.setattr(memory._Log, "_keep", overwrite)


def nobody_waits_for_the_one_before(patch: Patch) -> None:
    accept, claim = memory._Runs.accept, memory._Runs.claim

    async def accept_alone(self: Any, acceptance: Any) -> Any:
        outcome = await accept(self, acceptance)
        return replace(outcome, ahead=()) if isinstance(outcome, Accepted) else outcome

    async def claim_out_of_turn(self: Any, run_id: str, **named: Any) -> Run:
        run = self._backend.runs.get(self._key(run_id))
        line = self._backend.lines[self._key(run.session_id)] if run is not None else []
        line.sort(key=lambda each: each != run_id)
        return await claim(self, run_id, **named)

    patch.setattr(memory._Runs, "accept", accept_alone)
    patch.setattr(memory._Runs, "claim", claim_out_of_turn)


def cancel_is_only_noted(patch: Patch) -> None:
    patch.setattr(LiveRun, "cancel", lambda self: setattr(self, "cancelled", True))


def disconnecting_cancels(patch: Patch) -> None:
    async def disconnect(self: Gateway, connection_id: str) -> None:
        for live in self._live.all():
            if live.feed.follows(connection_id):
                live.cancel()

    patch.setattr(Gateway, "disconnect", disconnect)


def the_last_word_is_not_stored(patch: Patch) -> None:
    def shortened(**fields: Any) -> Message:
        if fields["role"] == "assistant":
            fields["content"] = fields["content"][:-1]
        return Message(**fields)

    patch.setattr(finish, "Message", shortened)


def nobody_takes_up_what_was_left(patch: Patch) -> None:
    async def nothing(self: Recovery, owner: Owner, run: Run) -> None:
        return

    patch.setattr(Recovery, "_take_up", nothing)


def what_died_cost_nothing(patch: Patch) -> None:
    async def nothing(self: Sealer, *arguments: Any, **named: Any) -> None:
        return

    patch.setattr(Sealer, "_usage", nothing)


async def eventful(world: World) -> None:
    """Send, break off, resume, repeat, pry, wait, cancel, and die in the middle."""
    anna, phone, ben = world.connect("anna"), world.connect("anna"), world.connect("ben")
    send = {"type": "send", "id": "s1", "content": f"{MARKS['anna']} one", "if_busy": "queue"}
    run_id = keys.run_id(owner_of("anna"), "s1")

    async def say(wire: Wire, command: dict[str, Any]) -> None:
        world.say(wire, command)
        await asyncio.sleep(0.3)

    async def speak(text: str) -> None:
        for request in world.talker.open:
            request.say(f"{request.asked.question} {text} ")
        await asyncio.sleep(0.3)

    await say(anna, send)
    await speak("春が来た。")
    for command in ("resume", "cancel"):
        await say(ben, {"type": command, "run_id": run_id, "after": 0})
    await say(phone, send)
    await say(phone, {**send, "content": f"{MARKS['anna']} other"})
    await world.platform(0, twice=True)
    await speak("More.")
    await world.drop(anna, told=True)
    await speak("Nobody hears that.")
    tablet = world.connect("anna")
    last = world.wires.applied["anna", run_id] - 1
    await say(tablet, {"type": "resume", "run_id": run_id, "after": last})
    await speak("Again.")
    for request in world.talker.open:
        request.finish()
    await asyncio.sleep(1.0)
    await say(ben, {"type": "resume", "run_id": run_id, "after": 0})

    await say(tablet, {**send, "id": "s2", "content": f"{MARKS['anna']} two"})
    session = next(
        each.frame["session_id"]
        for each in world.happenings
        if isinstance(each, Heard) and each.frame.get("id") == "s2"
    )
    waits = {"id": "s2-waits", "content": f"{MARKS['anna']} goes on", "session_id": session}
    await say(tablet, {**send, **waits})
    await asyncio.sleep(1.0)
    await speak("Not to the end.")
    await say(phone, {"type": "cancel", "id": "s2"})
    await asyncio.sleep(2.0)
    await speak("Still there.")
    for request in world.talker.open:
        request.finish()
    await asyncio.sleep(1.0)

    await say(tablet, {**send, "id": "s3", "content": f"{MARKS['anna']} three"})
    await speak("To be cut off.")
    world.faults.refused["log.append"] = 60
    await speak("Never kept.")
    await world.kill(0)
    world.mend()


def live_through(open_world: OpenWorld) -> list[Broken]:
    """Return what an eventful day has broken."""

    async def live() -> list[Broken]:
        async with AsyncExitStack() as stack:
            world: World = await open_world(stack)
            await world.open()
            try:
                await eventful(world)
                await world.settle()
            finally:
                await world.aclose()
            return broken(world.history(await world.read_stored()))

    with asyncio.Runner(loop_factory=PatientLoop) as runner:
        return runner.run(live())


WORLDS = [one_process, many_processes]


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.__name__)
def test_an_intact_build_survives(world: OpenWorld) -> None:
    assert live_through(world) == []


@dataclass(frozen=True)
class Break:
    """A build that is broken, where, and the promise that it breaks."""

    build: Callable[[Patch], None]
    world: OpenWorld
    promise: str

    def __str__(self) -> str:
        return f"{self.build.__name__}-{self.world.__name__}"


BREAKS = [
    Break(post_before_log, one_process, "shown is stored"),
    Break(post_before_log, many_processes, "shown is stored"),
    Break(no_dedupe, one_process, "stored once"),
    Break(no_dedupe, many_processes, "stored once"),
    Break(same_id_with_other_content_is_the_same, one_process, "stored once"),
    Break(same_id_with_other_content_is_the_same, many_processes, "stored once"),
    Break(two_ends, one_process, "ends once"),
    Break(two_ends, many_processes, "ends once"),
    Break(cursor_off_by_one, one_process, "numbered"),
    Break(cursor_off_by_one, many_processes, "numbered"),
    Break(forgotten_owner_check, one_process, "yours alone"),
    Break(forgotten_owner_in_the_store, many_processes, "yours alone"),
    Break(no_slots, many_processes, "asked once"),
    Break(no_slots, many_processes, "numbered"),
    Break(nobody_waits_for_the_one_before, one_process, "one at a time"),
    Break(nobody_waits_for_the_one_before, many_processes, "one at a time"),
    Break(cancel_is_only_noted, one_process, "cancel stops"),
    Break(cancel_is_only_noted, many_processes, "cancel stops"),
    Break(disconnecting_cancels, one_process, "nothing else cancels"),
    Break(the_last_word_is_not_stored, one_process, "shown is stored"),
    Break(the_last_word_is_not_stored, many_processes, "shown is stored"),
    Break(nobody_takes_up_what_was_left, one_process, "every run ends"),
    Break(what_died_cost_nothing, one_process, "the cost is told"),
    Break(what_died_cost_nothing, many_processes, "the cost is told"),
]


@pytest.mark.parametrize("case", BREAKS, ids=str)
def test_a_broken_build_is_found(case: Break, monkeypatch: pytest.MonkeyPatch) -> None:
    case.build(monkeypatch)
    assert case.promise in {each.promise for each in live_through(case.world)}


@pytest.mark.parametrize(
    "build",
    [no_dedupe, two_ends, the_last_word_is_not_stored],
    ids=lambda build: build.__name__,
)
@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.__name__)
def test_the_machine_finds_it_too(
    build: Callable[[Patch], None], world: OpenWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(monkeypatch)
    with pytest.raises(BrokenPromiseError):
        run(in_world(world), examples=profile(150), steps=40, shrink=False)

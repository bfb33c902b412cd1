"""A machine that lets anything happen to the handlers, in any order, and judges what came of it."""

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from storage.keys import run_id
from tests.promises.history import Broken, Heard, broken
from tests.promises.patient_time import ENGINE_S, PatientLoop
from tests.promises.wires import Wire
from tests.promises.worlds import MARKS, USERS, World, owner_of

OpenWorld = Callable[[AsyncExitStack], Any]
"""A coroutine function: makes a world, and leaves to the stack what ends its backend."""

TEXTS = st.sampled_from(["One. ", "春が来た。", "😀", "x" * 600, "春" * 4_000])
PAUSES_S = st.sampled_from([0.05, 0.3, 1.2, 3.0, 6.0, 11.0])
INDEX = st.integers(0, 7)
VERBS = (
    "runs.accept",
    "runs.claim",
    "runs.cancel",
    "runs.finish",
    "runs.take_over",
    "runs.beat",
    "runs.join",
    "runs.get",
    "log.append",
    "log.read",
    "messages.turns_before",
    "payloads.reserve",
)


class BrokenPromiseError(AssertionError):
    """A history broke a promise.

    Attributes:
        found: which, and how.
    """

    def __init__(self, found: Sequence[Broken]) -> None:
        super().__init__("\n".join(map(str, found[:5])))
        self.found = found


class PromiseMachine(RuleBasedStateMachine):
    """Clients, devices, processes, a store and a model; `in_world` says of which kind.

    Attributes:
        lived: how many examples have come to their end.
        broken: what any of them has found.
    """

    open_world: ClassVar[OpenWorld]
    patience_s: ClassVar[float] = 0.0
    lived: ClassVar[int] = 0
    broken: ClassVar[tuple[Broken, ...]] = ()

    def __init__(self) -> None:
        super().__init__()
        self.loop = PatientLoop()
        self.runner = asyncio.Runner(debug=False, loop_factory=lambda: self.loop)
        self.runner.get_loop()  # it is closed with the runner
        self.stack = AsyncExitStack()
        self.sends: list[tuple[str, dict[str, Any]]] = []
        self.numbers = 0
        self.judged = 0

    @initialize()
    def begin(self) -> None:
        async def open_it() -> World:
            world: World = await type(self).open_world(self.stack)
            await world.open()
            return world

        self._be_patient(ENGINE_S)
        self.world = self.runner.run(open_it())
        self._be_patient(self.patience_s)
        for user in (*USERS, USERS[0]):
            self._do(self._connected, user)

    def teardown(self) -> None:
        try:
            if hasattr(self, "world"):
                self.runner.run(self._end())
        finally:
            self.runner.close()

    async def _end(self) -> None:
        async with self.stack:
            try:
                await self.world.settle()
            finally:
                await self.world.aclose()
            self._be_patient(ENGINE_S)
            found = broken(self.world.history(await self.world.read_stored()))
        self._break_on(found)
        type(self).lived += 1

    def _break_on(self, found: list[Broken]) -> None:
        if found:
            type(self).broken += tuple(found)
            raise BrokenPromiseError(found)

    def _be_patient(self, seconds: float) -> None:
        """Wait for an engine, if there is one, so that nothing fails that is not to be judged."""
        self.loop.be_patient(seconds if self.patience_s else 0.0)

    def _do(self, act: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Do something, and let all go on that can without time passing."""

        async def run() -> Any:
            result = act(*arguments, **named)
            if asyncio.iscoroutine(result):
                result = await result
            await self._idle()
            return result

        result = self.runner.run(run())
        self._judge()
        return result

    def _judge(self) -> None:
        """Raise as soon as something was heard that breaks a promise."""
        if len(self.world.happenings) != self.judged:
            self.judged = len(self.world.happenings)
            self._break_on(broken(self.world.history()))

    async def _idle(self) -> None:
        if self.patience_s:
            await asyncio.sleep(0.001)
        else:
            for _ in range(30):
                await asyncio.sleep(0)

    async def _connected(self, user: str) -> Wire:
        wire = self.world.connect(user)
        self.world.say(wire, {"type": "hello"})
        return wire

    def _wire(self, index: int) -> Wire:
        wires = list(self.world.wires.open.values())
        if not wires:
            return self._do(self._connected, USERS[index % len(USERS)])  # type: ignore[no-any-return]
        return wires[index % len(wires)]

    def _say(self, wire: Wire, **command: Any) -> None:
        self._do(self.world.say, wire, command)

    def _mine(self, wire: Wire) -> list[dict[str, Any]]:
        return [send for user, send in self.sends if user == wire.user]

    def _heard(self, wire: Wire, kind: str) -> list[Any]:
        return [
            each.frame
            for each in self.world.happenings
            if isinstance(each, Heard) and each.user == wire.user and each.frame["type"] == kind
        ]

    # Clients

    @rule(user=st.sampled_from(USERS))
    def connect(self, user: str) -> None:
        if len(self.world.wires.open) < 6:
            self._do(self._connected, user)

    @rule(at=INDEX, where=INDEX, if_busy=st.sampled_from(["reject", "queue", "cancel"]))
    def send(self, at: int, where: int, if_busy: str) -> None:
        wire = self._wire(at)
        self.numbers += 1
        content = f"{MARKS[wire.user]} question {self.numbers}"
        send = {"type": "send", "id": f"s{self.numbers}", "content": content, "if_busy": if_busy}
        sessions = [frame["session_id"] for frame in self._heard(wire, "accepted")]
        if sessions and where:
            send["session_id"] = sessions[where % len(sessions)]
        self.sends.append((wire.user, send))
        self._say(wire, **send)

    @rule(at=INDEX, where=INDEX, text=TEXTS)
    def converse(self, at: int, where: int, text: str) -> None:
        """Send, and have the model begin whatever it was asked."""
        self.send(at, where, "queue")
        for request in self.world.talker.open:
            self._do(request.say, f"{request.asked.question[:8]}{text}")

    @precondition(lambda self: self.sends)
    @rule(at=INDEX, which=INDEX, other=st.booleans())
    def send_again(self, at: int, which: int, other: bool) -> None:
        wire = self._wire(at)
        if mine := self._mine(wire):
            send = mine[-1 - which % len(mine)]
            if other:
                send = {**send, "content": f"{MARKS[wire.user]} something else"}
            self._say(wire, **send)

    @precondition(lambda self: self.sends)
    @rule(at=INDEX, which=INDEX)
    def regenerate(self, at: int, which: int) -> None:
        wire = self._wire(at)
        if accepted := self._heard(wire, "accepted"):
            self.numbers += 1
            message = accepted[-1 - which % len(accepted)]["message_id"]
            self._say(wire, type="regenerate", id=f"g{self.numbers}", message_id=message)

    @precondition(lambda self: self.sends)
    @rule(at=INDEX, which=INDEX, by=st.sampled_from(["run", "id"]))
    def cancel(self, at: int, which: int, by: str) -> None:
        wire = self._wire(at)
        if mine := self._mine(wire):
            send_id = mine[-1 - which % len(mine)]["id"]
            run = run_id(owner_of(wire.user), send_id)
            self._say(wire, type="cancel", **({"run_id": run} if by == "run" else {"id": send_id}))

    @rule(at=INDEX)
    def cancel_before_its_send(self, at: int) -> None:
        self._say(self._wire(at), type="cancel", id=f"s{self.numbers + 1}")

    @precondition(lambda self: self.sends)
    @rule(at=INDEX, which=INDEX, whole=st.booleans())
    def resume(self, at: int, which: int, whole: bool) -> None:
        wire = self._wire(at)
        if mine := self._mine(wire):
            run = run_id(owner_of(wire.user), mine[-1 - which % len(mine)]["id"])
            after = 0 if whole else self.world.wires.applied[wire.user, run]
            self._say(wire, type="resume", run_id=run, after=after)

    @precondition(lambda self: self.sends)
    @rule(at=INDEX, which=INDEX, on=st.booleans())
    def follow(self, at: int, which: int, on: bool) -> None:
        wire = self._wire(at)
        if accepted := self._heard(wire, "accepted"):
            session = accepted[-1 - which % len(accepted)]["session_id"]
            self._say(wire, type="subscribe" if on else "unsubscribe", session_id=session)

    @precondition(lambda self: self.sends)
    @rule(at=INDEX, which=INDEX)
    def pry(self, at: int, which: int) -> None:
        """Ask for what is somebody else's, in every way there is."""
        wire = self._wire(at)
        foreign = [each for each in self.sends if each[0] != wire.user]
        if not foreign:
            return
        user, send = foreign[-1 - which % len(foreign)]
        run = run_id(owner_of(user), send["id"])
        self._say(wire, type="cancel", run_id=run)
        self._say(wire, type="resume", run_id=run, after=0)
        for each in self.world.happenings:
            match each:
                case Heard(frame={"type": "accepted", "run_id": accepted} as frame):
                    if accepted == run:
                        session = frame["session_id"]
                        self._say(wire, type="subscribe", session_id=session)
                        self._say(wire, type="history", id="h", session_id=session)
                        return

    # Connections

    @rule(at=INDEX, text=TEXTS)
    def come_back(self, at: int, text: str) -> None:
        """Break off in the middle and go on elsewhere, while the model goes on."""
        before = self._wire(at)
        self._do(self.world.drop, before, told=False)
        wire = self._do(self._connected, before.user)
        for (user, run), last in sorted(self.world.wires.applied.items()):
            if user == wire.user:
                self._say(wire, type="resume", run_id=run, after=last)
        self._do(asyncio.sleep, 0.3)
        for request in self.world.talker.open:
            self._do(request.say, f"{request.asked.question[:8]}{text}")
        self._do(asyncio.sleep, 0.3)

    @rule(at=INDEX, told=st.booleans())
    def drop(self, at: int, told: bool) -> None:
        self._do(self.world.drop, self._wire(at), told=told)

    @rule(at=INDEX, how=st.sampled_from(["full", "not full", "deaf"]))
    def change_a_connection(self, at: int, how: str) -> None:
        wire = self._wire(at)
        wire.full = how == "full"
        wire.deaf = wire.deaf or how == "deaf"

    @rule(at=INDEX)
    def drain(self, at: int) -> None:
        self._do(self.world.wires.drain, self._wire(at))

    # The model

    @precondition(lambda self: hasattr(self, "world") and self.world.talker.open)
    @rule(which=INDEX, text=TEXTS, times=st.integers(1, 3))
    def say(self, which: int, text: str, times: int) -> None:
        request = self._request(which)

        def speak() -> None:
            for _ in range(times):
                request.say(f"{request.asked.question[:8]}{text}")

        self._do(speak)

    @precondition(lambda self: hasattr(self, "world") and self.world.talker.open)
    @rule(which=INDEX)
    def finish(self, which: int) -> None:
        self._do(self._request(which).finish)

    @precondition(lambda self: hasattr(self, "world") and self.world.talker.open)
    @rule(which=INDEX, how=st.sampled_from(["unavailable", "cut", "not json"]))
    def fail(self, which: int, how: Any) -> None:
        self._do(self._request(which).fail, how)

    def _request(self, which: int) -> Any:
        waiting = self.world.talker.open
        return waiting[which % len(waiting)]

    # Processes, the store and time

    @rule(prompt=st.booleans())
    def change_the_platform(self, prompt: bool) -> None:
        self.world.prompt = prompt

    @rule(which=INDEX)
    def kill(self, which: int) -> None:
        self._do(self.world.kill, which)

    @rule(choice=INDEX, twice=st.booleans())
    def let_the_platform_go_on(self, choice: int, twice: bool) -> None:
        """Begin what is owed, or once more what was begun."""
        self._do(self.world.platform, choice, twice=twice)

    @rule(
        verb=st.sampled_from(VERBS),
        how=st.sampled_from(["refuse", "lose"]),
        times=st.sampled_from([1, 2, 5, 40]),
    )
    def break_a_verb(self, verb: str, how: str, times: int) -> None:
        faults = self.world.faults
        (faults.refused if how == "refuse" else faults.lost)[verb] = times
        if verb == "runs.beat":  # by which a cancel is heard of
            self._do(self.world.trouble)

    @rule(how=st.sampled_from(["refuse", "lose"]), times=st.sampled_from([1, 5, 60]))
    def break_the_log(self, how: str, times: int) -> None:
        self.break_a_verb(verb="log.append", how=how, times=times)

    @rule(after=st.booleans())
    def let_the_store_hang(self, after: bool) -> None:
        self.world.faults.hang(after=after)
        self._do(self.world.trouble)

    @rule(failing=st.booleans())
    def break_the_blobs(self, failing: bool) -> None:
        self.world.blobs.failing = failing

    @rule()
    def mend_the_store(self) -> None:
        self._do(self.world.mend)

    @rule(seconds=PAUSES_S)
    def let_time_pass(self, seconds: float) -> None:
        self._do(asyncio.sleep, seconds)


def in_world(open_world: OpenWorld, *, patience_s: float = 0.0) -> type[PromiseMachine]:
    """Return the machine for worlds of that kind."""
    made = {"open_world": staticmethod(open_world), "patience_s": patience_s}
    return type("Machine", (PromiseMachine,), made)


def profile(examples: int) -> int:
    """Return how many examples to try: those given, times PROMISES_TIMES of the environment."""
    return examples * int(os.environ.get("PROMISES_TIMES", "1"))

"""Whatever happens to the log, the blobs and the connections: every reader sees the same events."""

import asyncio
from typing import Any

import orjson
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
)

from gateway.wire.events import content_delta
from tests.gateway.runs.fakes import Surroundings, text_of
from tests.gateway.runs.virtual_time import VirtualLoop, idle

TEXTS = st.sampled_from(["a", "春", "😀", "x" * 5_000, "春" * 4_000, "\x01" * 3_000])


class DeliveryMachine(RuleBasedStateMachine):
    """Emits, answers, refuses, lets time pass, and lets readers come, go, stall and come back."""

    readers: Bundle[str] = Bundle("readers")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=VirtualLoop, debug=False)
        self.around = self._on_loop(Surroundings)
        self.emitted = ""
        self.joined: dict[str, int] = {}

    def teardown(self) -> None:
        self.runner.close()

    def _on_loop(self, act: Any, *arguments: Any, **named: Any) -> Any:
        async def run() -> Any:
            result = act(*arguments, **named)
            await idle()
            return result

        return self.runner.run(run())

    # What happens

    @rule(texts=st.lists(TEXTS, min_size=1, max_size=4))
    def emit(self, texts: list[str]) -> None:
        if not self.around.live.lost:
            self.emitted += "".join(texts)
        self._on_loop(self.around.live.emit, [content_delta(text) for text in texts])

    @rule()
    def answer(self) -> None:
        self._on_loop(self.around.log.answer)

    @rule(refusing=st.booleans(), lost=st.booleans())
    def change_the_log(self, refusing: bool, lost: bool) -> None:
        self.around.log.refusing, self.around.log.lost = refusing, lost

    @rule(failing=st.booleans())
    def change_the_blobs(self, failing: bool) -> None:
        self.around.blobs.failing = failing

    @rule(seconds=st.sampled_from([0.1, 1.0, 2.5]))
    def let_time_pass(self, seconds: float) -> None:
        async def wait() -> None:
            await asyncio.sleep(seconds)

        self.runner.run(wait())

    @precondition(lambda self: len(self.joined) < 4)
    @rule(target=readers, after=st.integers(0, 5), full=st.booleans())
    def join(self, after: int, full: bool) -> str:
        name = f"reader-{len(self.joined)}"
        self.joined[name] = min(after, self.around.live.feed.kept)
        if full:
            self.around.transport.full.add(name)
        self._on_loop(self.around.live.feed.follow, name, after=after)
        return name

    @rule(name=readers)
    def drain(self, name: str) -> None:
        self._on_loop(self.around.transport.drain, name)

    @rule(name=readers, full=st.booleans())
    def change_the_reader(self, name: str, full: bool) -> None:
        change = self.around.transport.full.add if full else self.around.transport.full.discard
        change(name)

    @rule(name=consumes(readers), gone=st.booleans())
    def part(self, name: str, gone: bool) -> None:
        if gone:
            self._on_loop(self.around.transport.leave, name)
        else:
            self._on_loop(self.around.live.feed.unfollow, name)

    @precondition(lambda self: not self.around.live.volatile and len(self.around.log.kept) > 3)
    @rule()
    def another_writer_comes(self) -> None:
        self._on_loop(self.around.log.take_slot)

    # What holds

    @invariant()
    def every_reader_has_a_contiguous_piece_of_the_same_events(self) -> None:
        feed = self.around.live.feed
        for name, after in self.joined.items():
            seen = self.around.events(name)
            assert [number for number, _ in seen] == list(range(after + 1, after + len(seen) + 1))
            assert after + len(seen) <= feed.kept
            assert seen == self.logged[after : after + len(seen)]

    @invariant()
    def nothing_is_posted_that_is_not_kept(self) -> None:
        live = self.around.live
        if not live.volatile and not live.lost:
            assert live.feed.kept <= (self.around.log.kept[-1].last if self.around.log.kept else 0)

    @invariant()
    def what_was_emitted_is_a_prefix_of_what_was_said(self) -> None:
        assert self.emitted.startswith(text_of(self.logged))

    @invariant()
    def the_log_holds_what_was_posted(self) -> None:
        live = self.around.live
        last = live.feed.volatile_after if live.volatile else live.feed.kept
        stored: list[Any] = []
        for entry in self.around.log.kept:
            if entry.blob is not None:
                stored += orjson.loads(self.around.blobs.bodies[entry.blob.key])["events"]
            else:
                stored += map(orjson.loads, entry.body.split(b"\n"))
        assert stored[:last] == [event for _, event in self.logged][:last]

    @property
    def logged(self) -> list[tuple[int, dict[str, Any]]]:
        """What a reader gets that joins now, and takes everything at once."""
        around = self.around
        around.transport.frames.pop("checker", None)
        around.live.feed.follow("checker", after=0)
        self._on_loop(around.live.feed.unfollow, "checker")
        return around.events("checker")


DeliveryMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestDelivery = DeliveryMachine.TestCase


def test_in_the_end_everything_is_delivered() -> None:
    """The machine above checks safety; this is the liveness half, for one long mixed run."""
    runner = asyncio.Runner(loop_factory=VirtualLoop)

    async def deliver() -> None:
        around = Surroundings(at_once=True)
        around.transport.full.add("slow")
        for name in ("slow", "quick"):
            around.live.feed.follow(name, after=0)
        said = ""
        for step in range(60):
            around.log.refusing = step % 7 == 3
            around.blobs.failing = step % 5 == 2
            text = "春" * 4_000 if step % 9 == 4 else f"word {step} "
            said += text
            around.live.emit([content_delta(text)])
            await asyncio.sleep(0.03)
            around.transport.drain("slow")
        around.log.refusing = False
        await around.live.settle()
        while "slow" in around.transport.waiting:
            around.transport.drain("slow")
            await idle()
        assert text_of(around.events("quick")) == said
        assert around.events("slow") == around.events("quick")

    with runner:
        runner.run(deliver())

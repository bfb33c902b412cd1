"""The machine and its checker find what is broken on purpose, each by the promise that it breaks."""

import secrets
from collections.abc import Callable
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
from storage.records import LogEntry, Message, Owner, Run
from tests.promises import memory
from tests.promises.machine import BrokenPromiseError, in_world
from tests.promises.test_machine import many_processes, one_process, run

Patch = pytest.MonkeyPatch


def post_before_log(patch: Patch) -> None:
    append = LiveRun._append

    def hasty(self: LiveRun, *arguments: Any) -> None:
        append(self, *arguments)
        self.feed.advance(self.last_seq)

    patch.setattr(LiveRun, "_append", hasty)
    patch.setattr(LiveRun, "seal", lambda self: None)


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


@dataclass(frozen=True)
class Break:
    """A build that is broken, where, and what the machine has to say about it."""

    build: Callable[[Patch], None]
    world: Callable[..., Any]
    promise: str


BREAKS = [
    Break(post_before_log, one_process, "shown is stored|numbered"),
    Break(no_dedupe, one_process, "stored once"),
    Break(no_dedupe, many_processes, "stored once"),
    Break(same_id_with_other_content_is_the_same, many_processes, "stored once"),
    Break(two_ends, one_process, "ends once"),
    Break(two_ends, many_processes, "ends once"),
    Break(cursor_off_by_one, one_process, "numbered"),
    Break(cursor_off_by_one, many_processes, "numbered"),
    Break(forgotten_owner_check, one_process, "yours alone|shown is stored"),
    Break(forgotten_owner_in_the_store, many_processes, "yours alone"),
    Break(no_slots, many_processes, "asked once|numbered"),
    Break(cancel_is_only_noted, one_process, "cancel stops"),
    Break(cancel_is_only_noted, many_processes, "cancel stops"),
    Break(disconnecting_cancels, one_process, "nothing else cancels"),
    Break(the_last_word_is_not_stored, one_process, "shown is stored"),
    Break(nobody_takes_up_what_was_left, one_process, "every run ends"),
]


@pytest.mark.parametrize(
    "case", BREAKS, ids=lambda case: f"{case.build.__name__}-{case.world.__name__}"
)
def test_a_broken_build_is_found(case: Break, monkeypatch: pytest.MonkeyPatch) -> None:
    case.build(monkeypatch)
    with pytest.raises(BrokenPromiseError, match=case.promise):
        run(in_world(case.world), examples=150, steps=40, shrink=False)

"""How far an answer has been read: what is new in a frame, and what has to be asked for."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.cli.failure import CommandFailedError
from gateway.cli.transfers import Fields

RESUME_GAP_S = 2.0
"""How long after one question for what is missing the next one may follow."""

SILENCE_S = 15.0
"""After so long without a word of the answer it is asked for."""

OPEN_FATES = frozenset({"storage.unavailable", "internal"})
"""A message that is refused so may be stored all the same (PROTOCOL.md, "Refused, and perhaps stored")."""

NOT_STORED = frozenset({"bad_request", "busy", "conflict", "not_found", "payload.too_large"})
"""One that is refused so is not stored, nor was an earlier copy of it."""

REFUSALS = 8
"""A message that could not be stored so often, in about two minutes, is given up."""

REFUSAL_FIRST_S = 2.0
"""The least pause before it is sent again; doubles, and as much again is left to chance."""

REFUSAL_MAX_S = 15.0
"""The longest such pause, without what is left to chance."""


@dataclass(slots=True)
class Reading:
    """The reading of one answer. Times are the event loop's.

    Attributes:
        send: the command that is answered.
        run_id: of the run that answers it; empty until a frame says so.
        events: those that were taken; event number n at index n - 1.
        kept: the number of the last of them that is in the run's log for certain.
        resumed_at: when its rest was asked for last.
        ask_at: when to ask again.
        sends: how often the command was sent.
        refusals: how often it could not be stored, as far as the server knew.
        chance: a random number between 0 and 1.
    """

    send: Fields
    run_id: str = ""
    events: list[Fields] = field(default_factory=list)
    kept: int = 0
    resumed_at: float = -math.inf
    ask_at: float = 0.0
    sends: int = 0
    refusals: int = 0
    chance: Callable[[], float] = random.random

    def question(self, now: float) -> Fields:
        """Return the command that brings what is missing; it has to be sent."""
        self.ask_at = now + SILENCE_S
        if not self.run_id:
            self.sends += 1
            return self.send
        self.resumed_at = now
        return {"type": "resume", "run_id": self.run_id, "after": self.kept}

    def lacks(self, frame: Fields) -> bool:
        """Tell whether a frame stands for one that has to be fetched."""
        is_ours = frame["type"] == "payload" and frame.get("run_id") == self.run_id
        return is_ours and frame.get("last_seq", self.kept + 1) > self.kept

    def take(self, frame: Fields, now: float) -> list[Fields]:
        """Return what is new in a frame; nothing beyond a gap, which is asked for.

        Where it says something else than an event that was taken but not kept (the server has crashed),
        all events come again, after `{"type": "restarted"}`. Where it refuses to store the message for now,
        that is told as `{"type": "refused", "message": ...}`; it is sent again after a pause.

        Raises:
            CommandFailedError: it says that there will be no answer.
        """
        if frame["type"] == "error":
            return self._fault(frame, now)
        self.run_id = self.run_id or _run_of(frame, self.send["id"])
        if frame.get("run_id") != self.run_id:
            return []
        if frame["type"] == "resumed":
            self._compare(frame, now)
        if frame["type"] != "events":
            return []
        if frame["first_seq"] > len(self.events) + 1:
            self._ask_soon()
            return []
        new = self._apply(
            frame["first_seq"], frame["events"], volatile=frame.get("volatile", False)
        )
        if new:
            self.ask_at = now + SILENCE_S
        return new

    def _apply(self, first: int, events: list[Fields], *, volatile: bool) -> list[Fields]:
        last, known = first + len(events) - 1, max(first - 1, self.kept)
        while known < last and self._has(known + 1, events[known + 1 - first]):
            known += 1
        new = events[known + 1 - first :]
        again: list[Fields] = []
        if new and known < len(self.events):
            del self.events[known:]
            again = [{"type": "restarted"}, *self.events]
        self.events += new
        if not volatile and first <= self.kept + 1:
            self.kept = max(self.kept, last)
        return [*again, *new]

    def _has(self, seq: int, event: Fields) -> bool:
        return self.events[seq - 1 : seq] == [event]

    def _compare(self, resumed: Fields, now: float) -> None:
        """Ask for all of a run that has never been where it was seen: a power cut took the log's end."""
        is_short = resumed["last_seq"] <= self.kept and resumed["state"] != "running"
        if self.kept and is_short:
            self.kept = 0
            self.ask_at = now

    def _fault(self, error: Fields, now: float) -> list[Fields]:
        is_of_resume = bool(self.run_id) and error.get("run_id") == self.run_id
        if is_of_resume and "stored" in error:
            stored = error["stored"]
            reason = stored.get("end", "stop")
            end = {"message_id": stored["message_id"], "reason": reason, "saved": True}
            return [{"type": "replaced", "message": stored}, {"type": "done", **end}]
        if is_of_resume and error.get("retryable"):
            self._ask_soon()
            return []
        if error.get("id") == self.send["id"] and self._passes(error):
            return self._send_later(error, now)
        is_of_session = "session_id" in self.send and "upload_id" not in self.send
        if is_of_session and not self.run_id and error.get("code") == "not_found":
            raise CommandFailedError(f"no such session: {self.send['session_id']}")
        raise CommandFailedError(error["message"] + self._doubt(error.get("code", "")))

    def _passes(self, error: Fields) -> bool:
        """Tell whether the same may be stored, or found to be, when it is sent again by its id."""
        is_open = error.get("code") in OPEN_FATES and error.get("retryable", False)
        return is_open and self.refusals + 1 < REFUSALS

    def _send_later(self, error: Fields, now: float) -> list[Fields]:
        if self.run_id:
            return []  # another copy was stored
        least = min(REFUSAL_MAX_S, REFUSAL_FIRST_S * 2**self.refusals)
        self.refusals += 1
        wait = error.get("retry_after_ms", 0) / 1000 + least * (1 + self.chance())
        self.ask_at = now + wait
        return [{"type": "refused", "message": error["message"]}]

    def _doubt(self, code: str) -> str:
        """Return what has to be said of a message that was not accepted, and is not known to be lost."""
        copies = self.sends - (code not in OPEN_FATES)
        is_uncertain = not self.run_id and copies > 0 and code not in NOT_STORED
        return " (the message may be stored all the same)" if is_uncertain else ""

    def _ask_soon(self) -> None:
        self.ask_at = min(self.ask_at, self.resumed_at + RESUME_GAP_S)


def _run_of(frame: Fields, command_id: str) -> str:
    """Return the run that answers this command, once a frame says so; `accepted` may follow its events."""
    started = frame["events"][0] if frame["type"] == "events" else frame
    says_so = started["type"] in {"accepted", "started"} and started["id"] == command_id
    return str(frame["run_id"]) if says_so else ""

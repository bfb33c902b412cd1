"""What clients said and heard, what the store holds in the end, and what the model was asked.

`broken` judges such a history by the promises of PROTOCOL.md. It is pure: it knows neither a host nor a
store, so the same rules hold for handlers in one process, for many processes and for a real server.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

Frame = Mapping[str, Any]

Promise = Literal[
    "stored once",
    "shown is stored",
    "numbered",
    "ends once",
    "yours alone",
    "asked once",
    "one at a time",
    "every run ends",
    "cancel stops",
    "nothing else cancels",
    "the cost is told",
    "nothing internal",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A client sent a command; nobody knows whether it arrived."""

    at: float
    user: str
    connection: str
    command: Frame


@dataclass(frozen=True, slots=True, kw_only=True)
class Obeyed:
    """The server was done with a command and had nothing to say against it."""

    at: float
    user: str
    connection: str
    command: Frame


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A frame arrived; of a `payload` the frame that it stands for, unless that could not be fetched."""

    at: float
    user: str
    connection: str
    frame: Frame


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Something was broken on purpose that excuses slowness, but nothing else."""

    at: float
    until: float
    kind: str


Happening = Said | Obeyed | Heard | Trouble


@dataclass(slots=True, kw_only=True)
class Asked:
    """One request to the model.

    Attributes:
        question: the last message of the prompt.
        spoke_at: when it last sent a word of its answer, if it did.
        closed_at: when the request was over, whoever ended it.
    """

    at: float
    question: str
    spoke_at: float | None = None
    closed_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """A run as the store holds it.

    Attributes:
        events: its log, from number 1; `None` if that may not be replayed.
    """

    user: str
    run_id: str
    send_id: str
    session_id: str
    message_id: str
    reply_id: str
    state: str
    end: str | None
    events: Sequence[Frame] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMessage:
    """A message as the store holds it."""

    user: str
    message_id: str
    session_id: str
    run_id: str
    role: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """All that the store holds of these users, once nothing goes on any more."""

    runs: Sequence[StoredRun]
    messages: Sequence[StoredMessage]


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """One history.

    Attributes:
        happenings: in the order of their time.
        asked: every request to the model.
        stored: `None` while things go on: then only what was heard is judged.
        marks: by user, a word that stands in all their messages and in the answers to them.
        retries: how many more requests one turn may cost before the first word.
        stop_within_s: how long after a cancel the model may go on.
    """

    happenings: Sequence[Happening]
    asked: Sequence[Asked] = ()
    stored: Stored | None = None
    marks: Mapping[str, str] = field(default_factory=dict)
    retries: int = 0
    stop_within_s: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A promise that was not kept, and how."""

    promise: Promise
    what: str

    def __str__(self) -> str:
        return f"{self.promise}: {self.what}"


def broken(history: History) -> list[Broken]:
    """Return every promise that the history breaks; empty if all were kept."""
    heard = _Events.heard_in(history)
    found = [*_numbered(history), *heard.broken(), *_foreign_words(history), *_internal(history)]
    if history.stored is not None:
        index = _Index(history, history.stored)
        found += _stored_once(index)
        found += _foreign_ids(index)
        found += _ended(index)
        found += _shown_is_stored(index, heard)
        found += _asked_once(index)
        found += _one_at_a_time(index)
        found += _stopped(index)
        found += _only_cancelled_if_told(index)
        found += _cost_is_told(index)
    return found


# What was heard


class _Events:
    """The events of every run by number, as anybody has heard them.

    Those of a volatile frame are kept apart: they may be in no log, and a seal may use their numbers.
    """

    def __init__(self) -> None:
        self.kept: defaultdict[str, dict[int, Frame]] = defaultdict(dict)
        self.volatile: defaultdict[str, dict[int, Frame]] = defaultdict(dict)
        self._found: list[Broken] = []

    @classmethod
    def heard_in(cls, history: History) -> "_Events":
        events = cls()
        for each in history.happenings:
            if isinstance(each, Heard) and each.frame["type"] == "events":
                events._note(each.frame)
        return events

    def broken(self) -> Iterator[Broken]:
        yield from self._found
        for events in (self.kept, self.volatile):
            for run_id, numbered in events.items():
                yield from _ends_once(run_id, numbered)
        for run_id, events in self.volatile.items():
            if any(event["type"] == "done" and event["saved"] for event in events.values()):
                yield Broken(promise="shown is stored", what=f"{run_id}: volatile, but saved")

    def _note(self, frame: Frame) -> None:
        run_id, first = frame["run_id"], frame["first_seq"]
        if not frame["events"] or first + len(frame["events"]) - 1 != frame["last_seq"]:
            self._found.append(Broken(promise="numbered", what=f"{run_id}: a frame miscounts"))
        known = (self.volatile if frame.get("volatile") else self.kept)[run_id]
        for number, event in enumerate(frame["events"], first):
            if known.setdefault(number, event) != event:
                what = f"{run_id}: number {number} was {known[number]}, then {event}"
                self._found.append(Broken(promise="numbered", what=what))


def _ends_once(run_id: str, events: Mapping[int, Frame]) -> Iterator[Broken]:
    ends = [number for number, event in events.items() if event["type"] == "done"]
    if len(ends) > 1:
        yield Broken(promise="ends once", what=f"{run_id}: ends at {sorted(ends)}")
    elif ends and ends[0] != max(events):
        yield Broken(promise="ends once", what=f"{run_id}: {max(events)} follows the end")


def _numbered(history: History) -> Iterator[Broken]:
    """Of each run, a connection gets the number behind the last it has, or one that it asked for again."""
    last: Counter[tuple[str, str]] = Counter()
    for each in history.happenings:
        if isinstance(each, Said) and each.command["type"] == "resume":
            reader = each.connection, each.command["run_id"]
            last[reader] = max(last[reader], each.command["after"])
        elif isinstance(each, Heard) and "first_seq" in each.frame:
            reader, first = (each.connection, each.frame["run_id"]), each.frame["first_seq"]
            if not 1 <= first <= last[reader] + 1:
                what = f"{reader[1]}: {first} came after {last[reader]} on {each.connection}"
                yield Broken(promise="numbered", what=what)
            last[reader] = max(last[reader], each.frame["last_seq"])


def _foreign_words(history: History) -> Iterator[Broken]:
    for each in history.happenings:
        if isinstance(each, Heard):
            text = orjson.dumps(each.frame).decode()
            for user, mark in history.marks.items():
                if user != each.user and mark in text:
                    yield Broken(promise="yours alone", what=f"{each.user} hears {text[:200]}")


def _internal(history: History) -> Iterator[Broken]:
    for each in history.happenings:
        if isinstance(each, Heard) and each.frame.get("code") == "internal":
            yield Broken(promise="nothing internal", what=f"{each.frame}")


# What is stored


class _Index:
    """A history with what its rules look for."""

    def __init__(self, history: History, stored: Stored) -> None:
        self.history = history
        self.runs = {run.run_id: run for run in stored.runs}
        self.messages = list(stored.messages)
        self.questions = {each.message_id: each for each in self.messages if each.role == "user"}
        self.replies = {each.run_id: each for each in self.messages if each.role == "assistant"}
        self.sends: defaultdict[tuple[str, str], list[Said]] = defaultdict(list)
        self.run_of = {(run.user, run.send_id): run.run_id for run in stored.runs}
        self.runs_in: defaultdict[str, set[str]] = defaultdict(set)
        for run in stored.runs:
            self.runs_in[run.session_id].add(run.run_id)
        self.turns = Counter(self.question(run) for run in stored.runs)
        self.asked: defaultdict[str, list[Asked]] = defaultdict(list)
        for request in history.asked:
            self.asked[request.question].append(request)
        for each in history.happenings:
            if isinstance(each, Said) and each.command["type"] in {"send", "regenerate"}:
                self.sends[each.user, each.command["id"]].append(each)

    def question(self, run: StoredRun) -> str | None:
        asked = self.questions.get(run.message_id)
        return asked.content if asked else None

    def target(self, user: str, cancel: Frame) -> StoredRun | None:
        run_id = cancel.get("run_id") or self.run_of.get((user, cancel.get("id", "")), "")
        run = self.runs.get(run_id)
        return run if run is not None and run.user == user else None


def _stored_once(index: _Index) -> Iterator[Broken]:
    for each in index.history.happenings:
        if isinstance(each, Heard) and each.frame["type"] == "accepted":
            yield from _acknowledged(index, each)
        elif isinstance(each, Obeyed) and each.command["type"] in {"send", "regenerate"}:
            run = index.runs.get(index.run_of.get((each.user, each.command["id"]), ""))
            if run is None or not _asks_for(each.command, run, index):
                what = f"{each.command} was accepted, stored is {run}"
                yield Broken(promise="stored once", what=what)
    by_run = Counter((each.run_id, each.role) for each in index.messages)
    for (run_id, role), count in by_run.items():
        if count > 1:
            yield Broken(promise="stored once", what=f"{run_id}: {count} messages of the {role}")
    for run in index.runs.values():
        said = index.sends.get((run.user, run.send_id), ())
        if not said:
            yield Broken(promise="stored once", what=f"{run.run_id}: nobody sent {run.send_id}")
        elif not any(_asks_for(each.command, run, index) for each in said):
            yield Broken(promise="stored once", what=f"{run.run_id}: {said[0].command} is not it")


def _acknowledged(index: _Index, heard: Heard) -> Iterator[Broken]:
    frame = heard.frame
    what = f"{frame['id']} of {heard.user}, acknowledged as {dict(frame)}"
    run = index.runs.get(frame["run_id"])
    if run is None:
        yield Broken(promise="stored once", what=f"{what}: no such run")
        return
    acked = (frame["id"], frame["session_id"], frame["message_id"])
    if acked != (run.send_id, run.session_id, run.message_id):
        yield Broken(promise="stored once", what=f"{what}: stored is {run}")
    if index.questions.get(run.message_id) is None:
        yield Broken(promise="stored once", what=f"{what}: no such message")
    said = [
        each.command
        for each in index.sends.get((heard.user, frame["id"]), ())
        if each.connection == heard.connection
    ]
    if not any(_asks_for(command, run, index) for command in said):
        yield Broken(promise="stored once", what=f"{what}: this connection asked for {said}")


def _asks_for(command: Frame, run: StoredRun, index: _Index) -> bool:
    if command["type"] == "regenerate":
        reply = next((r for r in index.runs.values() if r.reply_id == command["message_id"]), None)
        asked = reply.message_id if reply else command["message_id"]
        return bool(asked == run.message_id)
    session = command.get("session_id")
    return command.get("content") == index.question(run) and session in {None, run.session_id}


_IDS = ("run_id", "session_id", "message_id", "reply_id", "reply_to", "active_run", "memory_id")


def _foreign_ids(index: _Index) -> Iterator[Broken]:
    owners: dict[str, str] = {}
    for run in index.runs.values():
        for one in (run.run_id, run.session_id, run.message_id, run.reply_id):
            owners[one] = run.user
    for each in index.history.happenings:
        if not isinstance(each, Heard):
            continue
        # An error repeats the run_id that it was asked with.
        frame = each.frame.get("stored") if each.frame["type"] == "error" else each.frame
        for one in _ids(frame):
            if owners.get(one, each.user) != each.user:
                what = f"{each.user} hears of {one} of {owners[one]}: {each.frame}"
                yield Broken(promise="yours alone", what=what[:300])


def _ids(value: object) -> Iterator[str]:
    match value:
        case Mapping():
            yield from (value[name] for name in _IDS if isinstance(value.get(name), str))
            for inner in value.values():
                yield from _ids(inner)
        case list() | tuple():
            for inner in value:
                yield from _ids(inner)


def _ended(index: _Index) -> Iterator[Broken]:
    for run in index.runs.values():
        if run.state != "ended":
            yield Broken(promise="every run ends", what=f"{run.run_id} is {run.state}")
        if run.events is None:
            continue
        yield from _ends_once(run.run_id, dict(enumerate(run.events, 1)))
        reasons = [event["reason"] for event in run.events if event["type"] == "done"]
        if run.state == "ended" and reasons != [run.end]:
            what = f"{run.run_id}: {run.end} is stored, {reasons} in its log"
            yield Broken(promise="ends once", what=what)


def _shown_is_stored(index: _Index, heard: _Events) -> Iterator[Broken]:
    for run_id, events in heard.kept.items():
        run = index.runs.get(run_id)
        if run is None:
            yield Broken(promise="shown is stored", what=f"{run_id} is not stored")
            continue
        if run.events is not None:
            yield from _in_the_log(run_id, events, run.events)
        yield from _in_the_reply(index, run, events)


def _in_the_log(run_id: str, shown: Mapping[int, Frame], log: Sequence[Frame]) -> Iterator[Broken]:
    for number, event in shown.items():
        logged = log[number - 1] if number <= len(log) else None
        if logged != event:
            what = f"{run_id}: number {number} was shown as {event}, and is logged as {logged}"
            yield Broken(promise="shown is stored", what=what[:400])


def _in_the_reply(index: _Index, run: StoredRun, shown: Mapping[int, Frame]) -> Iterator[Broken]:
    reply = index.replies.get(run.run_id)
    content = reply.content if reply else ""
    text = _text(shown)
    done = next((event for event in shown.values() if event["type"] == "done"), None)
    if done is None or not done["saved"]:
        if not content.startswith(text):
            what = f"{run.run_id}: shown was {text[:80]!r}, stored is {content[:80]!r}"
            yield Broken(promise="shown is stored", what=what)
        return
    if run.events is None:
        what = f"{run.run_id} was shown as saved, and cannot be replayed"
        yield Broken(promise="shown is stored", what=what)
    if content != text:
        what = f"{run.run_id}: shown whole was {text[:80]!r}, stored is {content[:80]!r}"
        yield Broken(promise="shown is stored", what=what)
    if (done["reason"], done["message_id"]) != (run.end, run.reply_id):
        yield Broken(promise="shown is stored", what=f"{run.run_id}: {done}, stored is {run.end}")


def _text(events: Mapping[int, Frame]) -> str:
    """Return the text up to the first event that nobody heard."""
    pieces = []
    number = 1
    while (event := events.get(number)) is not None:
        if event["type"] == "content.delta":
            pieces.append(event["text"])
        number += 1
    return "".join(pieces)


# What the model was asked


def _asked_once(index: _Index) -> Iterator[Broken]:
    for question, asked in index.asked.items():
        answered = sum(1 for each in asked if each.spoke_at is not None)
        at_once = max(sum(1 for other in asked if _beside(each, other)) for each in asked)
        allowed = index.turns[question]
        if max(answered, at_once) > allowed or len(asked) > allowed * (1 + index.history.retries):
            counts = f"{len(asked)} requests, {at_once} at once, {answered} answers"
            what = f"{question[:60]!r}: {counts}, {allowed} turns"
            yield Broken(promise="asked once", what=what)


def _one_at_a_time(index: _Index) -> Iterator[Broken]:
    """A conversation has one answer under way: the model is not asked while it says another.

    That its asker has hung up the model notices a moment later, as after a cancel. A process that stands
    still, or is cut off, does not know that its answer was ended: trouble excuses.
    """
    within_s = index.history.stop_within_s
    troubles = [each for each in index.history.happenings if isinstance(each, Trouble)]
    sessions: defaultdict[str | None, set[str]] = defaultdict(set)
    for run in index.runs.values():
        sessions[index.question(run)].add(run.session_id)
    requests: defaultdict[str, list[Asked]] = defaultdict(list)
    for asked in index.history.asked:
        if len(sessions[asked.question]) == 1:
            requests[min(sessions[asked.question])].append(asked)
    for session, those in requests.items():
        those.sort(key=lambda each: each.at)
        for number, one in enumerate(those):
            for later in those[number + 1 :]:
                excused = any(each.at <= later.at and each.until >= one.at for each in troubles)
                ends = one.closed_at if one.closed_at is not None else float("inf")
                beside = later.question != one.question and later.at + within_s < ends
                if beside and not excused:
                    what = f"{session}: {later} was asked beside {one}"
                    yield Broken(promise="one at a time", what=what)


def _beside(one: Asked, other: Asked) -> bool:
    """Whether the other request was under way when this one was made, or is this one."""
    ends = other.closed_at if other.closed_at is not None else float("inf")
    return other is one or (other.at <= one.at < ends)


def _stopped(index: _Index) -> Iterator[Broken]:
    happenings = index.history.happenings
    troubles = sorted((e for e in happenings if isinstance(e, Trouble)), key=lambda e: e.at)
    for each in happenings:
        if not isinstance(each, Obeyed) or each.command["type"] != "cancel":
            continue
        run = index.target(each.user, each.command)
        question = index.question(run) if run else None
        if question is None or index.turns[question] > 1:  # answered again: whose request is it?
            continue
        by = _excused(troubles, each.at, index.history.stop_within_s)
        for asked in index.asked.get(question, ()):
            latest = max(asked.at, asked.spoke_at or 0.0)
            open_until = asked.closed_at if asked.closed_at is not None else float("inf")
            if latest > by or open_until > by:
                what = f"{question[:60]!r} at {each.at}: {asked}"
                yield Broken(promise="cancel stops", what=what)


def _excused(troubles: Iterable[Trouble], at: float, within_s: float) -> float:
    """Return by when something has to be done that began at `at`; troubles come by their beginning."""
    by = at + within_s
    for each in troubles:
        if each.at <= by and each.until >= at:
            by = max(by, each.until + within_s)
    return by


def _only_cancelled_if_told(index: _Index) -> Iterator[Broken]:
    told: set[str] = set()
    for each in index.history.happenings:
        match each:
            case Said(command={"type": "cancel"}):
                run = index.target(each.user, each.command)
                told |= {run.run_id} if run else set()
            case Said(command={"type": "send", "if_busy": "cancel", "session_id": session}):
                told |= index.runs_in[session]
    for run in index.runs.values():
        if run.end == "cancelled" and run.run_id not in told:
            yield Broken(promise="nothing else cancels", what=f"{run.run_id} was not told to stop")


def _cost_is_told(index: _Index) -> Iterator[Broken]:
    """A model that has said a word is paid for: that is told once, right before the end.

    Whoever ends a dead run guesses from what is stored. It ends the run all the same if that cannot be
    read, so there trouble excuses.
    """
    troubled = any(isinstance(each, Trouble) for each in index.history.happenings)
    for run in index.runs.values():
        if run.state != "ended" or not run.events:
            continue
        types = [event["type"] for event in run.events]
        may_be_missing = (
            "model" not in run.events[0]
            or "content.delta" not in types
            or (troubled and run.end in {"interrupted", "cancelled"})
        )
        told = types.count("usage")
        if told > 1 or (told and types[-2] != "usage") or not (told or may_be_missing):
            what = f"{run.run_id}, {run.end}: {types[-4:]}"
            yield Broken(promise="the cost is told", what=what)

"""The checker, on histories written by hand: one that is good, and one for each way to be bad."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.promises.history import (
    Asked,
    Happening,
    Heard,
    History,
    Obeyed,
    Said,
    Stored,
    StoredMessage,
    StoredRun,
    Trouble,
    broken,
)

STARTED = {
    "type": "started",
    "id": "s1",
    "session_id": "S",
    "message_id": "Q",
    "reply_id": "A",
}
HELLO = {"type": "content.delta", "text": "Hel"}
LO = {"type": "content.delta", "text": "lo"}
DONE = {"type": "done", "reason": "stop", "message_id": "A", "saved": True}
EVENTS = (STARTED, HELLO, LO, DONE)
SEND = {"type": "send", "id": "s1", "content": "anna asks"}
ACCEPTED = {
    "type": "accepted",
    "id": "s1",
    "run_id": "R",
    "session_id": "S",
    "message_id": "Q",
}
RUN = StoredRun(
    user="anna",
    run_id="R",
    send_id="s1",
    session_id="S",
    message_id="Q",
    reply_id="A",
    state="ended",
    end="stop",
    events=EVENTS,
)
QUESTION = StoredMessage(
    user="anna", message_id="Q", session_id="S", run_id="R", role="user", content="anna asks"
)
REPLY = replace(QUESTION, message_id="A", role="assistant", content="Hello")
ASKED = Asked(at=1.0, question="anna asks", spoke_at=2.0, closed_at=2.5)


def said(command: dict[str, Any], at: float = 0.0, here: str = "c1", user: str = "anna") -> Said:
    return Said(at=at, user=user, connection=here, command=command)


def obeyed(command: dict[str, Any], at: float = 0.0) -> Obeyed:
    return Obeyed(at=at, user="anna", connection="c1", command=command)


def heard(frame: dict[str, Any], at: float = 1.0, here: str = "c1", user: str = "anna") -> Heard:
    return Heard(at=at, user=user, connection=here, frame=frame)


def events(first: int, *them: dict[str, Any], **more: Any) -> dict[str, Any]:
    last = first + len(them) - 1
    return {
        "type": "events",
        "run_id": "R",
        "first_seq": first,
        "last_seq": last,
        "events": list(them),
        **more,
    }


def history(
    *happenings: Happening,
    asked: Sequence[Asked] = (ASKED,),
    runs: Sequence[StoredRun] = (RUN,),
    messages: Sequence[StoredMessage] = (QUESTION, REPLY),
    retries: int = 0,
) -> History:
    return History(
        happenings=happenings,
        asked=asked,
        stored=Stored(runs=runs, messages=messages),
        marks={"anna": "anna", "ben": "ben"},
        retries=retries,
    )


ASKING = {**STARTED, "model": "m"}
USAGE = {"type": "usage", "model": "m", "prompt_tokens": 2, "completion_tokens": 1}
CUT = (ASKING, HELLO, {**DONE, "reason": "interrupted"})


def unheard(*log: dict[str, Any], end: str = "stop", text: str = "Hello") -> History:
    """A history of which nothing but the log is known."""
    return history(
        said(SEND),
        runs=[replace(RUN, end=end, events=log)],
        messages=[QUESTION, replace(REPLY, content=text)],
    )


ALL_HEARD = (said(SEND), heard(ACCEPTED), heard(events(1, *EVENTS)))
CANCEL = {"type": "cancel", "run_id": "R"}
CANCELLED = replace(
    RUN, end="cancelled", events=(STARTED, {**DONE, "reason": "cancelled", "saved": True})
)


NEXT_RUN = replace(RUN, run_id="N", send_id="s2", message_id="NQ", reply_id="NA", events=None)
NEXT_QUESTION = replace(QUESTION, message_id="NQ", run_id="N", content="anna goes on")
NEXT_REPLY = replace(NEXT_QUESTION, message_id="NA", role="assistant", content="Well")


def goes_on(*happenings: Happening, asked_at: float) -> History:
    """A history in which the session's second question is asked at that time."""
    return history(
        *ALL_HEARD,
        said({"type": "send", "id": "s2", "session_id": "S", "content": "anna goes on"}),
        *happenings,
        asked=[ASKED, Asked(at=asked_at, question="anna goes on", spoke_at=8.0, closed_at=9.0)],
        runs=[RUN, NEXT_RUN],
        messages=[QUESTION, REPLY, NEXT_QUESTION, NEXT_REPLY],
    )


@pytest.mark.parametrize(
    "good",
    [
        history(*ALL_HEARD),
        history(said(SEND), heard(ACCEPTED), heard(events(1, STARTED, HELLO))),
        history(
            *ALL_HEARD[:2],
            heard(events(1, STARTED, HELLO)),
            said({"type": "resume", "run_id": "R", "after": 2}, here="c2"),
            heard(events(3, LO, DONE), here="c2"),
        ),
        history(*ALL_HEARD, heard(events(1, *EVENTS))),
        history(*ALL_HEARD, said(SEND), heard({**ACCEPTED, "duplicate": True})),
        history(
            *ALL_HEARD, asked=[Asked(at=0.0, question="anna asks", closed_at=0.5), ASKED], retries=1
        ),
        history(
            *ALL_HEARD[:2],
            heard(events(1, STARTED, HELLO)),
            heard(events(3, LO, {**DONE, "saved": False}, volatile=True)),
            runs=[replace(RUN, events=None)],
        ),
        history(
            said(SEND),
            said(CANCEL, 1.5),
            obeyed(CANCEL, 1.5),
            runs=[CANCELLED],
            messages=[QUESTION],
        ),
        history(
            said(SEND),
            said(CANCEL, 0.1),
            obeyed(CANCEL, 0.1),
            Trouble(at=0.5, until=2.0, kind="pause"),
            runs=[CANCELLED],
            messages=[QUESTION],
        ),
        goes_on(asked_at=1.6),
        goes_on(Trouble(at=1.1, until=1.2, kind="pause"), asked_at=1.3),
        unheard(ASKING, HELLO, LO, USAGE, DONE),
        unheard(ASKING, {**DONE, "reason": "error"}, end="error", text=""),
        replace(
            unheard(*CUT, end="interrupted", text="Hel"),
            happenings=[said(SEND), Trouble(at=0.5, until=2.0, kind="store")],
        ),
    ],
    ids=[
        "all heard",
        "cut",
        "resumed elsewhere",
        "repeated",
        "sent again",
        "asked again before a word",
        "volatile",
        "cancelled",
        "excused",
        "hung up a moment ago",
        "beside one that stood still",
        "counted",
        "not a word",
        "not counted in trouble",
    ],
)
def test_a_good_history_breaks_nothing(good: History) -> None:
    assert broken(good) == []


BEN = replace(RUN, user="ben", run_id="B", send_id="b1", session_id="BS", message_id="BQ")
BEN_ASKS = said({"type": "send", "id": "b1", "content": "ben asks"}, here="c9", user="ben")
BEN_S = replace(
    QUESTION, user="ben", message_id="BQ", session_id="BS", run_id="B", content="ben asks"
)
OTHER = {"type": "send", "id": "s1", "content": "anna asks else"}

BAD: dict[str, tuple[str, History]] = {
    "acked and lost": ("stored once", history(*ALL_HEARD, runs=[], messages=[], asked=[])),
    "acked and stored twice": (
        "stored once",
        history(*ALL_HEARD, messages=[QUESTION, replace(QUESTION, message_id="Q2"), REPLY]),
    ),
    "two replies": (
        "stored once",
        history(*ALL_HEARD, messages=[QUESTION, REPLY, replace(REPLY, message_id="A2")]),
    ),
    "acked as another run": (
        "stored once",
        history(*ALL_HEARD, said(SEND), heard({**ACCEPTED, "run_id": "R2"})),
    ),
    "other content acked": (
        "stored once",
        history(*ALL_HEARD, said(OTHER, here="c2"), heard(ACCEPTED, here="c2")),
    ),
    "other content obeyed": (
        "stored once",
        history(*ALL_HEARD, said(OTHER), obeyed(OTHER)),
    ),
    "stored out of nothing": ("stored once", history()),
    "shown, and another text stored": (
        "shown is stored",
        history(*ALL_HEARD, messages=[QUESTION, replace(REPLY, content="Hell")]),
    ),
    "shown in part, and another text stored": (
        "shown is stored",
        history(*ALL_HEARD[:2], heard(events(1, STARTED, LO)), runs=[replace(RUN, events=None)]),
    ),
    "shown, and not in the log": (
        "shown is stored",
        history(*ALL_HEARD[:2], heard(events(1, *EVENTS)), runs=[replace(RUN, events=EVENTS[:2])]),
    ),
    "shown as saved, and not to be replayed": (
        "shown is stored",
        history(*ALL_HEARD, runs=[replace(RUN, events=None)]),
    ),
    "volatile and saved": (
        "shown is stored",
        history(*ALL_HEARD[:2], heard(events(1, *EVENTS, volatile=True))),
    ),
    "a gap": ("numbered", history(*ALL_HEARD[:2], heard(events(2, HELLO)))),
    "beyond what was asked for": (
        "numbered",
        history(
            *ALL_HEARD[:2],
            said({"type": "resume", "run_id": "R", "after": 1}),
            heard(events(3, LO)),
        ),
    ),
    "before the first": ("numbered", history(*ALL_HEARD[:2], heard(events(0, STARTED)))),
    "two contents of a number": (
        "numbered",
        history(*ALL_HEARD, heard(events(1, STARTED, LO), here="c2")),
    ),
    "a frame that miscounts": (
        "numbered",
        history(*ALL_HEARD[:2], heard({**events(1, STARTED, HELLO), "last_seq": 3})),
    ),
    "two ends": ("ends once", history(*ALL_HEARD, heard(events(5, DONE)))),
    "something behind the end": ("ends once", history(*ALL_HEARD, heard(events(5, LO)))),
    "two ends in the log": (
        "ends once",
        history(*ALL_HEARD, runs=[replace(RUN, events=(*EVENTS, DONE))]),
    ),
    "another end in the log": (
        "ends once",
        history(*ALL_HEARD, runs=[replace(RUN, end="interrupted")]),
    ),
    "another user's words": (
        "yours alone",
        history(*ALL_HEARD, heard({"type": "page", "items": ["anna"]}, here="c9", user="ben")),
    ),
    "another user's ids": (
        "yours alone",
        history(
            *ALL_HEARD,
            BEN_ASKS,
            heard({"type": "subscribed", "session_id": "S", "runs": []}, here="c9", user="ben"),
            runs=[RUN, BEN],
            messages=[QUESTION, REPLY, BEN_S],
        ),
    ),
    "two answers": ("asked once", history(*ALL_HEARD, asked=[ASKED, ASKED], retries=2)),
    "a second request beside the first": (
        "asked once",
        history(*ALL_HEARD, asked=[ASKED, Asked(at=2.0, question="anna asks")], retries=2),
    ),
    "too many retries": (
        "asked once",
        history(
            *ALL_HEARD,
            asked=[Asked(at=0.1 * n, question="anna asks", closed_at=0.1 * n) for n in range(4)],
            retries=2,
        ),
    ),
    "asked and never accepted": (
        "asked once",
        history(*ALL_HEARD, asked=[ASKED, Asked(at=1.0, question="nobody asks")]),
    ),
    "two answers at once": ("one at a time", goes_on(asked_at=1.4)),
    "still running": ("every run ends", history(*ALL_HEARD, runs=[replace(RUN, state="running")])),
    "the model talks on": (
        "cancel stops",
        history(*ALL_HEARD, said(CANCEL, 1.1), obeyed(CANCEL, 1.1)),
    ),
    "the model is asked all the same": (
        "cancel stops",
        history(said(CANCEL), obeyed(CANCEL, -5.0), *ALL_HEARD),
    ),
    "cancelled by nobody": (
        "nothing else cancels",
        history(said(SEND), runs=[CANCELLED], messages=[QUESTION]),
    ),
    "a cost that is not told": ("the cost is told", unheard(ASKING, HELLO, LO, DONE)),
    "a cut answer whose cost is not told": (
        "the cost is told",
        unheard(*CUT, end="interrupted", text="Hel"),
    ),
    "a cost told twice": ("the cost is told", unheard(ASKING, HELLO, USAGE, USAGE, DONE)),
    "a cost in the middle": ("the cost is told", unheard(ASKING, HELLO, USAGE, LO, DONE)),
    "an internal error": (
        "nothing internal",
        history(*ALL_HEARD, heard({"type": "error", "code": "internal", "message": "..."})),
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_history_is_found(case: str) -> None:
    promise, bad = BAD[case]
    assert promise in {each.promise for each in broken(bad)}

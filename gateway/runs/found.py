"""How a connection may follow a run: what a finder returns."""

from dataclasses import dataclass

from gateway.runs.feed import Feed
from gateway.wire import answers
from storage.records import Run, RunState


@dataclass(frozen=True, slots=True, kw_only=True)
class Readable:
    """A run with a feed in this process, to be read from there: a live one, or the log of an ended one.

    Attributes:
        last_seq: the last event that may be posted.
    """

    feed: Feed
    session_id: str
    state: RunState
    last_seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """A run whose generation, in another process, posts to the connection within a beat.

    Attributes:
        last_seq: at the last beat.
        overdue: it has waited so long for a process that perhaps none was told.
    """

    session_id: str
    state: RunState
    last_seq: int
    overdue: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Untended:
    """A run that nobody who can be asked generates: it waits, or its generation died.

    Attributes:
        run: as the store said it is.
    """

    run: Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired:
    """A run whose log may not be replayed any more."""

    run: Run


def listed_run(run: Run, *, last_seq: int) -> answers.LiveRun:
    """Return what a client is told of a run that has not ended."""
    return answers.LiveRun(
        run_id=run.run_id,
        session_id=run.session_id,
        last_seq=last_seq,
        state="running" if last_seq or run.state == "running" else "queued",
    )

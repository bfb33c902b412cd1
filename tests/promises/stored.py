"""Reading what a store holds of some people, for the judgement of a history."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

import orjson

from storage.keys import run_id
from storage.records import Message, Owner, Run
from storage.repositories import Repositories, Store
from tests.promises.history import Frame, Stored, StoredMessage, StoredRun

Fetch = Callable[[str], Awaitable[bytes]]


async def read_stored(
    store: Store, send_ids: Mapping[Owner, Sequence[str]], *, fetch: Fetch, now: float
) -> Stored:
    """Return all runs of these sends, and every message of all sessions of these people.

    Args:
        store: open, with nothing going on.
        send_ids: everything that each of them ever sent.
        fetch: returns the body of a blob by its key.
        now: Unix time in seconds.
    """
    runs: list[StoredRun] = []
    messages: list[StoredMessage] = []
    for owner, ids in send_ids.items():
        its, user = store.of(owner), owner.user_id
        found = [await its.runs.get(run_id(owner, each)) for each in ids]
        mine = [run for run in found if run is not None]
        runs += [_stored_run(user, run, await _events(its, run, fetch, now)) for run in mine]
        messages += [_stored_message(user, each) for each in await _messages(its, mine)]
    return Stored(runs=runs, messages=messages)


async def _messages(its: Repositories, runs: Sequence[Run]) -> list[Message]:
    """Return what is in the history, and the replies that newer ones have replaced there."""
    found: dict[str, Message] = {}
    before: str | None = None
    sessions: list[str] = []
    while True:
        page = await its.sessions.page(before=before, limit=50)
        sessions += [session.session_id for session in page.items]
        if (before := page.next) is None:
            break
    for session_id in sessions:
        while True:
            messages = await its.messages.page(session_id, before=before, limit=100)
            found.update((message.message_id, message) for message in messages.items)
            if (before := messages.next) is None:
                break
    for run in runs:
        reply = await its.messages.get(run.reply_id)
        if reply is not None:
            found[reply.message_id] = reply
    return list(found.values())


async def _events(its: Repositories, run: Run, fetch: Fetch, now: float) -> list[Frame] | None:
    """Return the log as a reader gets it; `None` if it is none that may be replayed."""
    events: list[Frame] = []
    for entry in await its.log.read(run.run_id, after=0):
        if entry.blob is None:
            events += map(orjson.loads, entry.body.split(b"\n"))
        else:
            events += orjson.loads(await fetch(entry.blob.key))["events"]
    is_whole = run.state != "ended" or (run.log_until > now and len(events) == run.last_seq)
    return events if is_whole else None


def _stored_run(user: str, run: Run, events: Sequence[Frame] | None) -> StoredRun:
    return StoredRun(
        user=user,
        run_id=run.run_id,
        send_id=run.send_id,
        session_id=run.session_id,
        message_id=run.message_id,
        reply_id=run.reply_id,
        state=run.state,
        end=run.end,
        events=events,
    )


def _stored_message(user: str, message: Message) -> StoredMessage:
    return StoredMessage(
        user=user,
        message_id=message.message_id,
        session_id=message.session_id,
        run_id=message.run_id,
        role=message.role,
        content=message.content,
    )

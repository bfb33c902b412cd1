"""Finishing a run, in DynamoDB: one transaction that stores all of its end, or nothing."""

import logging
from typing import Final

from storage.dynamodb import expressions
from storage.dynamodb.accept import Entry, place_item
from storage.dynamodb.client import CONDITION_FAILED, Item, TransactionCanceledError
from storage.dynamodb.contents import Contents, drop_quietly
from storage.dynamodb.expressions import number, text
from storage.dynamodb.items import (
    entry_item,
    is_claimed,
    is_run,
    memory_item,
    message_item,
    run_of,
    usage_item,
)
from storage.dynamodb.keys import OwnerKeys
from storage.dynamodb.log_writers import LogWriter, log_expiry
from storage.dynamodb.session_runs import SessionRuns, change, session_runs_of, stands
from storage.dynamodb.table import DataTable
from storage.dynamodb.tables import LIVE_OF
from storage.errors import LogSlotTakenError, NotRunOwnerError, StorageUnavailableError
from storage.records import Completion, Run

MAX_MEMORIES: Final = 90
"""Of one reply; a transaction has at most 100 entries. No reply of sense has a tenth of that."""

_TRIES: Final = 8
"""Each failed one has seen somebody else succeed in the same conversation."""

_log = logging.getLogger(__name__)


async def finish(
    table: DataTable,
    keys: OwnerKeys,
    contents: Contents,
    writer: LogWriter,
    completion: Completion,
) -> Run | None:
    """Store the end of a run; see `Runs.finish`. Returns the session's next run, if one waits."""
    await writer.settle()  # what was appended before belongs before the end
    next_number = await writer.next_number(completion.claimed_by)
    run = await _own(table, keys, completion)
    if run.state == "ended":
        return await _waiting(table, keys, run)
    if completion.terminal.first != next_number:
        raise LogSlotTakenError("the terminal entry does not fit the log")
    text_at: Item = {}
    if completion.reply is not None:
        text_at = await contents.check_in(completion.reply, attempt=completion.claimed_by)
    try:
        await _store(table, keys, run, writer, completion, text_at)
    except (NotRunOwnerError, LogSlotTakenError):
        await drop_quietly(contents, text_at)
        raise
    return await _waiting(table, keys, run)


async def _own(table: DataTable, keys: OwnerKeys, completion: Completion) -> Run:
    """Return the run, running or ended by that claim."""
    head = await table.get(keys.head(completion.run_id))
    mine = completion.claimed_by
    if head is None or not (is_claimed(head, mine) or is_claimed(head, mine, state="ended")):
        raise NotRunOwnerError("the run is not ours, or has ended")
    return run_of(head)


async def _waiting(table: DataTable, keys: OwnerKeys, run: Run) -> Run | None:
    """Return the session's next run, if it is still queued."""
    session = await table.get(keys.session(run.session_id))
    active = session_runs_of(session).active if session else None
    head = await table.get(keys.head(active)) if active else None
    waiting = run_of(head) if head is not None and is_run(head) else None
    return waiting if waiting is not None and waiting.state == "queued" else None


async def _store(
    table: DataTable,
    keys: OwnerKeys,
    run: Run,
    writer: LogWriter,
    completion: Completion,
    text_at: Item,
) -> None:
    guess = SessionRuns(active=run.run_id)
    end = _end(keys, run, completion, text_at, may_replace=writer.unsure)
    for _ in range(_TRIES):
        after = guess.minus(run.run_id, at=completion.finished_at)
        session = change(keys.session(run.session_id), guess, after)
        try:
            await table.transact(("Update", session), *end)
        except TransactionCanceledError as canceled:
            of_session, *others = (reason.code == CONDITION_FAILED for reason in canceled.reasons)
            if any(others):
                if (await _own(table, keys, completion)).state == "ended":
                    return  # by a repeat of ours
                raise LogSlotTakenError("the slot of the terminal entry is taken") from canceled
            if of_session:
                guess = _guess(canceled.reasons[0].item)
        else:
            return
    raise StorageUnavailableError("too much happens in this conversation at once")


def _guess(session: Item | None) -> SessionRuns:
    if session is None or not stands(session):
        raise NotRunOwnerError("the run's session is forgotten")
    return session_runs_of(session)


def _end(
    keys: OwnerKeys, run: Run, completion: Completion, text_at: Item, *, may_replace: bool
) -> list[Entry]:
    """Return all entries of the transaction but the session's."""
    entries = [_head(keys, completion), _terminal(keys, completion, may_replace=may_replace)]
    if (reply := completion.reply) is not None:
        key = keys.reply(run.session_id, run.message_id, reply.message_id)
        entries.append(("Put", expressions.put(message_item(key, reply) | text_at)))
        entries.append(("Put", expressions.put(place_item(keys, reply.message_id, key))))
    if (usage := completion.usage) is not None:
        spent = keys.usage(run.run_id, completion.finished_at)
        entries.append(("Put", expressions.put(usage_item(spent, run.run_id, usage))))
    kept = completion.memories[:MAX_MEMORIES]
    if len(kept) < len(completion.memories):
        _log.warning("a reply has too many memories", extra={"run_id": run.run_id})
    for memory in kept:
        item = memory_item(keys.memory(memory.memory_id), memory)
        entries.append(("Put", expressions.put(item)))
    return entries


def _head(keys: OwnerKeys, completion: Completion) -> Entry:
    return "Update", expressions.update(
        keys.head(completion.run_id),
        "SET #state = :ended, #last_seq = :last, #end = :end, #log_until = :log_until"
        f" REMOVE #{LIVE_OF}",
        "#state = :running AND #claimed_by = :me",
        {
            ":running": text("running"),
            ":ended": text("ended"),
            ":me": text(completion.claimed_by),
            ":last": number(completion.terminal.last),
            ":end": text(completion.end),
            ":log_until": number(completion.log_until),
        },
    )


def _terminal(keys: OwnerKeys, completion: Completion, *, may_replace: bool) -> Entry:
    """Return the put of the log's last entry into a free slot.

    Where a put of ours ended without an answer, the slot may hold an entry of ours that nobody was
    shown; that one the end replaces.
    """
    item = entry_item(
        keys.slot(completion.run_id, completion.terminal.first),
        completion.terminal,
        claimed_by=completion.claimed_by,
        ttl=log_expiry(completion.finished_at),
    )
    if may_replace:
        mine = "attribute_not_exists(#pk) OR #claimed_by = :me"
        return "Put", expressions.put(item, mine, {":me": text(completion.claimed_by)})
    return "Put", expressions.put(item, "attribute_not_exists(#pk)")

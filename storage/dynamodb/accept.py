"""Accepting a turn, in DynamoDB: one transaction, whose refusal says what is stored instead."""

import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from storage.dynamodb import expressions
from storage.dynamodb.client import CONDITION_FAILED, Item, Reason, TransactionCanceledError
from storage.dynamodb.contents import Contents, drop_quietly
from storage.dynamodb.expressions import number, text
from storage.dynamodb.items import (
    is_forgotten,
    is_run,
    message_item,
    run_item,
    run_of,
    session_item,
)
from storage.dynamodb.keys import OwnerKeys
from storage.dynamodb.session_runs import SessionRuns, change, session_runs_of, stands
from storage.dynamodb.table import DataTable
from storage.dynamodb.tables import PARTITION_KEY, SORT_KEY
from storage.errors import StorageError, StorageUnavailableError
from storage.records import (
    MAX_QUEUED_RUNS,
    Acceptance,
    Accepted,
    AcceptOutcome,
    Duplicate,
    Refused,
)
from storage.ttl import TOMBSTONE

Entry = tuple[str, Mapping[str, Any]]
"""One entry of a transaction, for `DataTable.transact`."""

_TRIES: Final = 8
"""Each failed one has seen somebody else succeed in the same conversation."""

_NEW: Final = "attribute_not_exists(#pk)"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Guess:
    """What a transaction takes to be stored already.

    Attributes:
        cancel_at: of a cancel that came before the run, if there is one.
        runs: what the conversation says of its runs.
    """

    cancel_at: float | None
    runs: SessionRuns


async def accept(
    table: DataTable, keys: OwnerKeys, contents: Contents, acceptance: Acceptance
) -> AcceptOutcome:
    """Store the turn; see `Runs.accept`. The run stays queued, whatever `Acceptance.claim` says.

    A repeat of our own transaction, whose answer was lost, finds the `attempt` that it wrote itself.
    """
    attempt = secrets.token_hex(6)
    message = acceptance.message
    text_at = await contents.check_in(message, attempt=attempt) if message else {}
    try:
        outcome = await _store(table, keys, acceptance, attempt, text_at)
    except BaseException:
        # It may be stored all the same: a text without a message does less harm than the reverse.
        if text_at and message:
            _log.warning("a text may be left over", extra={"message_id": message.message_id})
        raise
    if text_at and not isinstance(outcome, Accepted):
        await drop_quietly(contents, text_at)
    return outcome


async def _store(
    table: DataTable, keys: OwnerKeys, acceptance: Acceptance, attempt: str, text_at: Item
) -> AcceptOutcome:
    guess = _Guess(cancel_at=None, runs=SessionRuns())
    for _ in range(_TRIES):
        asked = _with_cancel(acceptance, guess.cancel_at)
        try:
            await table.transact(*_entries(keys, asked, guess, attempt, text_at))
        except TransactionCanceledError as canceled:
            judged = _judge(acceptance, guess, attempt, canceled.reasons)
        else:
            return Accepted(run=asked.run, ahead=guess.runs.all)
        if isinstance(judged, Refused) and judged.why != "conflict":
            # What was accepted before is a duplicate, whatever else has changed since.
            head = await table.get(keys.head(acceptance.run.run_id))
            return _known(acceptance, guess, attempt, head) or judged
        if not isinstance(judged, _Guess):
            return judged
        guess = judged
    raise StorageUnavailableError("too much happens in this conversation at once")


def _with_cancel(acceptance: Acceptance, cancel_at: float | None) -> Acceptance:
    """Return what to store: the run with its reader, and with the early cancel if that still counts."""
    run = acceptance.run
    if acceptance.reader is not None:
        run = replace(run, readers=(acceptance.reader,))
    if cancel_at is not None and run.created_at < cancel_at + TOMBSTONE:
        run = replace(run, cancel_at=cancel_at)
    return replace(acceptance, run=run)


def _entries(
    keys: OwnerKeys, acceptance: Acceptance, guess: _Guess, attempt: str, text_at: Item
) -> list[Entry]:
    """Return the transaction: HEAD, the conversation, then what belongs to the message."""
    run, message = acceptance.run, acceptance.message
    question = keys.question(run.session_id, run.message_id)
    entries = [_head(keys, acceptance, guess, attempt), _session(keys, acceptance, guess)]
    if message is None:
        named = keys.session_run(run.session_id, run.run_id) | {"run_id": text(run.run_id)}
        entries.append(("ConditionCheck", expressions.check(question, "attribute_exists(#pk)")))
        entries.append(("Put", expressions.put(named)))
    else:
        stored = message_item(question, message) | text_at
        entries.append(("Put", expressions.put(stored, _NEW)))
        entries.append(
            ("Put", expressions.put(place_item(keys, message.message_id, question), _NEW))
        )
    return entries


def place_item(keys: OwnerKeys, message_id: str, at: Item) -> Item:
    """Return the item by which a message is found that lies at that key."""
    return {**keys.place(message_id), "in": at[PARTITION_KEY], "at": at[SORT_KEY]}


def _head(keys: OwnerKeys, acceptance: Acceptance, guess: _Guess, attempt: str) -> Entry:
    run = acceptance.run
    waits = bool(guess.runs.all)
    item = run_item(keys.head(run.run_id), keys.owner, run, attempt=attempt, waits=waits)
    if guess.cancel_at is None:
        return "Put", expressions.put(item, _NEW)
    condition = "attribute_not_exists(#state) AND #cancel_at = :seen"
    return "Put", expressions.put(item, condition, {":seen": number(guess.cancel_at)})


def _session(keys: OwnerKeys, acceptance: Acceptance, guess: _Guess) -> Entry:
    run = acceptance.run
    key = keys.session(run.session_id)
    if acceptance.new_session is None:
        after = guess.runs.plus(run.run_id, at=run.created_at)
        return "Update", change(key, guess.runs, after)
    session = replace(acceptance.new_session, active_run=run.run_id)
    return "Put", expressions.put(session_item(key, keys.owner, session), _NEW)


def _judge(
    acceptance: Acceptance, guess: _Guess, attempt: str, reasons: Sequence[Reason]
) -> AcceptOutcome | _Guess:
    """Say what a canceled transaction means: an outcome, or a better guess to try with."""
    head, session, *rest = reasons
    if head.code == CONDITION_FAILED:
        known = _known(acceptance, guess, attempt, head.item)
        if known is None and is_forgotten(head.item):
            return Refused(why="not_found")
        return known or replace(guess, cancel_at=_cancel_at(head.item))
    if any(reason.code == CONDITION_FAILED for reason in rest):
        if acceptance.message is None:
            return Refused(why="not_found")
        raise StorageError("a message with that id exists already")
    if session.code == CONDITION_FAILED:
        return _judge_session(acceptance, guess, session.item)
    return guess


def _judge_session(acceptance: Acceptance, guess: _Guess, item: Item | None) -> Refused | _Guess:
    if acceptance.new_session is not None:
        raise StorageError("a session with that id exists already")
    if item is None or not stands(item):
        return Refused(why="not_found")
    runs = session_runs_of(item)
    if len(runs.all) > (0 if acceptance.if_busy == "reject" else MAX_QUEUED_RUNS):
        return Refused(why="busy")
    return replace(guess, runs=runs)


def _known(
    acceptance: Acceptance, guess: _Guess, attempt: str, head: Item | None
) -> AcceptOutcome | None:
    """Say what it means that this HEAD is stored; `None` if it is no run."""
    if head is None or not is_run(head):
        return None
    run = run_of(head)
    if head["attempt"]["S"] == attempt:
        return Accepted(run=run, ahead=guess.runs.all)
    same = run.request_hash == acceptance.run.request_hash
    return Duplicate(run=run) if same else Refused(why="conflict")


def _cancel_at(tombstone: Item | None) -> float | None:
    return float(tombstone["cancel_at"]["N"]) if tombstone else None

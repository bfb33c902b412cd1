"""One owner's runs, in DynamoDB: each verb is one conditional write to HEAD, or one transaction.

A condition that fails brings the item as it is, which tells a repeat of ours from somebody else's write.
"""

from collections.abc import Sequence
from contextlib import aclosing
from typing import Final

from storage.dynamodb.accept import accept
from storage.dynamodb.client import ConditionFailedError, Item
from storage.dynamodb.contents import Contents
from storage.dynamodb.expressions import number, text
from storage.dynamodb.finish import finish
from storage.dynamodb.items import (
    expiry,
    has_waited,
    is_claimed,
    is_run,
    reader_value,
    run_of,
)
from storage.dynamodb.keys import Key, OwnerKeys, key_of
from storage.dynamodb.log_writers import LogWriter, LogWriters
from storage.dynamodb.patience import in_time
from storage.dynamodb.session_runs import session_runs_of
from storage.dynamodb.table import DataTable
from storage.dynamodb.tables import LIVE_INDEX, LIVE_OF, TTL
from storage.errors import NotRunOwnerError, StorageUnavailableError
from storage.records import (
    MAX_READERS,
    Acceptance,
    AcceptOutcome,
    Completion,
    Owner,
    Run,
    RunReader,
)
from storage.ttl import TOMBSTONE

_MOST_LIVE: Final = 100
_TRIES: Final = 4
"""A cancel that races with its own accept is tried that often."""

_LIVE: Final = "#state IN (:queued, :running)"
_QUEUED: Final = "#state = :queued"
_BEGINS: Final = f"{_QUEUED} AND (attribute_not_exists(#waits) OR attribute_exists(#cancel_at))"
"""One that shall only end, because it was cancelled, need not wait for that."""

_STATES: Final = {":queued": text("queued"), ":running": text("running")}


class DynamoRuns:
    """`SharedRuns` of one owner; cheap to make.

    Args:
        owner: of every item that is read or written.
        table: holds them.
        contents: of the owner's messages.
        writers: of the whole store; they learn who may append.
    """

    __slots__ = ("_contents", "_keys", "_owner", "_table", "_writers")

    def __init__(
        self, owner: Owner, table: DataTable, contents: Contents, writers: LogWriters
    ) -> None:
        self._owner = owner
        self._keys = OwnerKeys(owner)
        self._table = table
        self._contents = contents
        self._writers = writers

    async def accept(self, acceptance: Acceptance) -> AcceptOutcome:
        """Store a turn exactly once; see `Runs.accept`."""
        async with in_time():
            return await accept(self._table, self._keys, self._contents, acceptance)

    async def get(self, run_id: str) -> Run | None:
        """Return the run, or `None`."""
        return _run_or_none(await self._table.get(self._keys.head(run_id)))

    async def live(self) -> Sequence[Run]:
        """Return the runs that have not ended; see `Runs.live`.

        Which those are is read from an index, which may miss one that was accepted in this second.
        """
        indexed = self._table.query(
            f"#{LIVE_OF} = :owner",
            {":owner": text(self._keys.owner)},
            index=LIVE_INDEX,
            limit=_MOST_LIVE,
        )
        keys: list[Key] = []
        async with aclosing(indexed):
            async for item in indexed:
                keys.append(key_of(item))
                if len(keys) == _MOST_LIVE:
                    break
        runs = [run_of(head) for head in await self._table.get_all(keys) if is_run(head)]
        live = [run for run in runs if run.state != "ended"]
        return tuple(sorted(live, key=lambda run: (run.created_at, run.reply_id)))

    async def claim(self, run_id: str, *, claimed_by: str, lease_until: float) -> Run:
        """Make a queued run ours; see `Runs.claim`.

        HEAD says whether another run was ahead when it was accepted. Only of those that had to wait the
        conversation is asked who is its first now; its first a run stays until it ends.
        """
        values = {**_STATES, ":me": text(claimed_by), ":lease": number(lease_until)}
        claim = "SET #state = :running, #claimed_by = :me, #lease_until = :lease"
        async with in_time():
            for condition in (_BEGINS, _QUEUED):
                head: Item | None
                try:
                    head = await self._table.update(
                        self._keys.head(run_id), claim, condition, values
                    )
                except ConditionFailedError as failed:
                    head = failed.item
                    if head is not None and is_claimed(head, claimed_by):
                        self._writer(run_id).still_claimed(claimed_by)
                        return run_of(head)
                    if head is None or not await self._may_begin(head):
                        break
                else:
                    self._writer(run_id).claimed(claimed_by, next_number=1)
                    return run_of(head)
        raise NotRunOwnerError("the run is not queued, not its session's first, or unknown")

    async def _may_begin(self, head: Item) -> bool:
        """Whether that run waits no longer, though HEAD says that it had to."""
        if not is_run(head) or not has_waited(head):
            return False
        run = run_of(head)
        session = await self._table.get(self._keys.session(run.session_id))
        return session is not None and session_runs_of(session).active == run.run_id

    async def take_over(self, run_id: str, *, claimed_by: str, now: float) -> Run:
        """Become the owner of a run whose lease is over; see `Runs.take_over`."""
        try:
            head = await self._table.update(
                self._keys.head(run_id),
                "SET #claimed_by = :me",
                "#state = :running AND #lease_until <= :now",
                {":running": text("running"), ":me": text(claimed_by), ":now": number(now)},
            )
        except ConditionFailedError as failed:
            raise NotRunOwnerError("the run does not run, or its lease lives") from failed
        self._writer(run_id).claimed(claimed_by, next_number=None)
        return run_of(head)

    async def beat(
        self, run_id: str, *, claimed_by: str, lease_until: float, last_seq: int
    ) -> Run | None:
        """Say that the generation lives; see `SharedRuns.beat`."""
        try:
            head = await self._table.update(
                self._keys.head(run_id),
                "SET #lease_until = :lease, #last_seq = :last",
                "#state = :running AND #claimed_by = :me",
                {
                    ":running": text("running"),
                    ":me": text(claimed_by),
                    ":lease": number(lease_until),
                    ":last": number(last_seq),
                },
            )
        except ConditionFailedError as failed:
            self._writer(run_id).lose(claimed_by)
            if not is_run(failed.item):
                return None
            raise NotRunOwnerError("the run is not ours, or has ended") from failed
        return run_of(head)

    async def join(self, run_id: str, reader: RunReader, *, now: float) -> Run | None:
        """Ask the generation to post to that connection too; see `SharedRuns.join`."""
        try:
            head = await self._table.update(
                self._keys.head(run_id),
                "SET #readers.#connection = :reader",
                "(#state = :queued OR (#state = :running AND #lease_until > :now))"
                " AND (attribute_exists(#readers.#connection) OR size(#readers) < :most)",
                {
                    **_STATES,
                    ":now": number(now),
                    ":reader": reader_value(reader),
                    ":most": number(MAX_READERS),
                },
                {"connection": reader.connection_id},
            )
        except ConditionFailedError as failed:
            run = _run_or_none(failed.item)
            return await self._join_instead(run, reader) if run and run.state == "queued" else run
        return run_of(head)

    async def _join_instead(self, run: Run, reader: RunReader) -> Run | None:
        """Take the place of a queued run's oldest reader; return the run as for `join`."""
        oldest = min(run.readers, key=lambda each: each.nonce)
        try:
            head = await self._table.update(
                self._keys.head(run.run_id),
                "SET #readers.#connection = :reader REMOVE #readers.#oldest",
                f"{_QUEUED} AND contains(#readers.#oldest, :nonce)",
                {
                    ":queued": text("queued"),
                    ":reader": reader_value(reader),
                    ":nonce": text(oldest.nonce),
                },
                {"connection": reader.connection_id, "oldest": oldest.connection_id},
            )
        except ConditionFailedError as failed:
            return _run_or_none(failed.item)
        return run_of(head)

    async def leave(self, run_id: str, connection_id: str, *, nonce: str) -> None:
        """Forget a reader unless it has joined again; see `SharedRuns.leave`."""
        try:
            await self._table.update(
                self._keys.head(run_id),
                "REMOVE #readers.#connection",
                "contains(#readers.#connection, :nonce)",
                {":nonce": text(nonce)},
                {"connection": connection_id},
            )
        except ConditionFailedError:
            return

    async def cancel(self, run_id: str, *, now: float) -> Run | None:
        """Remember that the run shall stop; see `Runs.cancel`."""
        for _ in range(_TRIES):
            try:
                head = await self._table.update(
                    self._keys.head(run_id),
                    "SET #cancel_at = if_not_exists(#cancel_at, :now)",
                    _LIVE,
                    {**_STATES, ":now": number(now)},
                )
            except ConditionFailedError as failed:
                if is_run(failed.item):
                    return _run_or_none(failed.item)
            else:
                return run_of(head)
            if await self._cancel_early(run_id, now):
                return None
        raise StorageUnavailableError("the run changes while it is canceled")

    async def finish(self, completion: Completion) -> Run | None:
        """Store the end of a run; see `Runs.finish`."""
        run_id = completion.run_id
        async with in_time():
            next_run = await finish(
                self._table, self._keys, self._contents, self._writer(run_id), completion
            )
        await self._writers.stop(self._owner, [run_id])
        return next_run

    async def _cancel_early(self, run_id: str, now: float) -> bool:
        """Keep the cancel of a run that is not known yet; false if the run has come meanwhile."""
        try:
            await self._table.update(
                self._keys.head(run_id),
                f"SET #cancel_at = :now, #{TTL} = :ttl",
                "attribute_not_exists(#state) AND attribute_not_exists(#forgotten)"
                " AND (attribute_not_exists(#cancel_at) OR #cancel_at <= :expired)",
                {
                    ":now": number(now),
                    ":expired": number(now - TOMBSTONE),
                    f":{TTL}": expiry(now + TOMBSTONE),
                },
            )
        except ConditionFailedError as failed:
            return not is_run(failed.item)
        return True

    def _writer(self, run_id: str) -> LogWriter:
        return self._writers.of(self._owner, run_id)


def _run_or_none(head: Item | None) -> Run | None:
    return run_of(head) if head is not None and is_run(head) else None

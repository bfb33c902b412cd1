"""Sealing: ending a run whose generation died, with what its log holds of the reply."""

import logging
from collections.abc import Callable, Sequence

import orjson

from gateway.frames.spill import Spill
from gateway.runs.beat import LEASE_S
from gateway.turns.finish import completion, last_events, started
from gateway.turns.outcome import NEVER_BEGUN, Outcome
from gateway.turns.reply import Draft
from storage import ttl
from storage.errors import BlobMissingError
from storage.records import LogEntry, Owner, Run
from storage.repositories import Store

log = logging.getLogger(__name__)


class Sealer:
    """Ends dead runs as `interrupted`; their partial text stays readable.

    Args:
        store: where the run and its log are.
        spill: where events lie that were too large for the log.
        new_id: makes the claim's random id.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        *,
        store: Store,
        spill: Spill,
        new_id: Callable[[], str],
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._spill = spill
        self._new_id = new_id
        self._clock = clock

    async def seal(self, owner: Owner, run: Run) -> Run | None:
        """End one run.

        Returns:
            The session's next queued run, to be started now, or `None`.

        Raises:
            NotRunOwnerError: it is not running, or somebody generates it.
        """
        runs, claimed_by = self._store.of(owner).runs, self._new_id()
        run = await runs.take_over(run.run_id, claimed_by=claimed_by, now=self._clock())
        entries = await self._store.of(owner).log.read(run.run_id, after=0)
        return await self._end(owner, run, claimed_by, entries, Outcome(reason="interrupted"))

    async def fail(self, owner: Owner, run: Run) -> Run | None:
        """End a run as `error` that nobody has begun to generate, and that nobody shall.

        Returns:
            The session's next queued run, to be started now, or `None`.

        Raises:
            NotRunOwnerError: it is not queued any more.
        """
        claimed_by, lease_until = self._new_id(), self._clock() + LEASE_S
        run = await self._store.of(owner).runs.claim(
            run.run_id, claimed_by=claimed_by, lease_until=lease_until
        )
        return await self._end(owner, run, claimed_by, (), NEVER_BEGUN)

    async def _end(
        self,
        owner: Owner,
        run: Run,
        claimed_by: str,
        entries: Sequence[LogEntry],
        outcome: Outcome,
    ) -> Run | None:
        if run.cancel_at is not None:
            outcome = Outcome(reason="cancelled")
        now = self._clock()
        log.info("run sealed", extra={"run_id": run.run_id, "reason": outcome.reason})
        return await self._store.of(owner).runs.finish(
            completion(
                run,
                claimed_by=claimed_by,
                terminal=_terminal(run, entries, outcome),
                draft=await self._draft(entries),
                outcome=outcome,
                usage=None,
                now=now,
                log_until=now + ttl.LOG,
            )
        )

    async def _draft(self, entries: Sequence[LogEntry]) -> Draft:
        text: list[str] = []
        found: dict[str, str] = {}
        memories: dict[str, str] = {}
        for entry in entries:
            for event in await self._events(entry):
                match event:
                    case {"type": "content.delta", "text": str(piece)}:
                        text.append(piece)
                    case {"type": "emotion" | "category" as name, "value": str(value)}:
                        found[name] = value
                    case {"type": "memory", "memory_id": str(memory_id), "value": str(value)}:
                        memories[memory_id] = value
        return Draft(
            content="".join(text),
            emotion=found.get("emotion"),
            category=found.get("category"),
            memories=memories,
        )

    async def _events(self, entry: LogEntry) -> list[dict[str, object]]:
        if entry.blob is None:
            return [orjson.loads(event) for event in entry.body.split(b"\n")]
        try:
            frame = orjson.loads(await self._spill.fetch(entry.blob))
        except BlobMissingError:
            log.warning("a spilled event is gone", extra={"run_id": entry.run_id})
            return []
        events: list[dict[str, object]] = frame["events"]
        return events


def _terminal(run: Run, entries: Sequence[LogEntry], outcome: Outcome) -> LogEntry:
    events = last_events(run, outcome, None, saved=True)
    if not entries:
        events.insert(0, started(run))
    first = entries[-1].last + 1 if entries else 1
    return LogEntry(
        run_id=run.run_id, first=first, last=first + len(events) - 1, body=b"\n".join(events)
    )

"""Sealing: ending a run whose generation died or broke, with what its log holds of the reply."""

import logging
from collections.abc import Callable, Sequence

import orjson

from gateway.frames.spill import Spill
from gateway.runs.beat import LEASE_S
from gateway.turns.context import read_context
from gateway.turns.finish import completion, last_events, started
from gateway.turns.outcome import NEVER_BEGUN, Outcome
from gateway.turns.prompt import PromptRules, build_prompt
from gateway.turns.reply import Draft
from gateway.turns.usage import estimated_usage
from storage import ttl
from storage.errors import BlobMissingError, StorageError
from storage.records import LogEntry, Owner, Run, Usage
from storage.repositories import Store

log = logging.getLogger(__name__)

_Event = dict[str, object]


class Sealer:
    """Ends dead runs as `interrupted`; their partial text stays readable, its cost is estimated.

    Args:
        store: where the run and its log are.
        spill: where events lie that were too large for the log.
        rules: what went into the prompt.
        new_id: makes the claim's random id.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        *,
        store: Store,
        spill: Spill,
        rules: PromptRules,
        new_id: Callable[[], str],
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._spill = spill
        self._rules = rules
        self._new_id = new_id
        self._clock = clock

    async def seal(self, owner: Owner, run: Run) -> Run | None:
        """End one run.

        Returns:
            The session's next queued run, to be started now, or `None`.

        Raises:
            NotRunOwnerError: it is not running, or somebody generates it.
            StorageUnavailableError: the store refuses.
        """
        runs, claimed_by = self._store.of(owner).runs, self._new_id()
        run = await runs.take_over(run.run_id, claimed_by=claimed_by, now=self._clock())
        entries = await self._store.of(owner).log.read(run.run_id, after=0)
        return await self._end(owner, run, claimed_by, entries, Outcome(reason="interrupted"))

    async def end_broken(
        self, owner: Owner, run: Run, *, claimed_by: str, outcome: Outcome
    ) -> Run | None:
        """End a run that a fault of ours has stopped; its readers were told that it is not saved.

        Its log is for nobody, since it has another end than they heard. One that is ended already stays
        as it is.

        Args:
            owner: whose run it is.
            run: the run.
            claimed_by: the claim of its generation, which appends no more.
            outcome: as its readers were told.

        Returns:
            The session's next queued run, to be started now, or `None`.

        Raises:
            NotRunOwnerError: it is not ours, or was not begun.
            StorageUnavailableError: the store refuses.
        """
        entries = await self._store.of(owner).log.read(run.run_id, after=0)
        return await self._end(owner, run, claimed_by, entries, outcome, log_s=0.0)

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
        *,
        log_s: float = ttl.LOG,
    ) -> Run | None:
        if run.cancel_at is not None:
            outcome = Outcome(reason="cancelled")
        events = [event for entry in entries for event in await self._events(entry)]
        draft = _draft(events)
        usage = await self._usage(owner, run, model=_asked(events), content=draft.content)
        now = self._clock()
        log.info("run sealed", extra={"run_id": run.run_id, "reason": outcome.reason})
        return await self._store.of(owner).runs.finish(
            completion(
                run,
                claimed_by=claimed_by,
                terminal=_terminal(run, entries, outcome, usage),
                draft=draft,
                outcome=outcome,
                usage=usage,
                now=now,
                log_until=now + log_s,
            )
        )

    async def _usage(
        self, owner: Owner, run: Run, *, model: str | None, content: str
    ) -> Usage | None:
        """Estimate what the reply cost: nobody lives who has heard the provider's count.

        The prompt is made again from what is stored; memories that came since are in it, too.

        Returns:
            The estimate; `None` if no model was asked, or its prompt cannot be read: no run shall stay
            open for that.
        """
        if model is None:
            return None
        try:
            context = await read_context(self._store.of(owner), run, self._rules)
        except StorageError as error:
            fields = {"run_id": run.run_id, "cause": str(error)}
            log.warning("usage not estimated", extra=fields)
            return None
        if context is None:  # forgotten since
            return None
        prompt = build_prompt(self._rules.system_text(context.character), context)
        return estimated_usage(model=model, prompt=prompt, content=content)

    async def _events(self, entry: LogEntry) -> list[_Event]:
        if entry.blob is None:
            return [orjson.loads(event) for event in entry.body.split(b"\n")]
        try:
            frame = orjson.loads(await self._spill.fetch(entry.blob))
        except BlobMissingError:
            log.warning("a spilled event is gone", extra={"run_id": entry.run_id})
            return []
        events: list[_Event] = frame["events"]
        return events


def _asked(events: Sequence[_Event]) -> str | None:
    """Return the model that was asked for the reply; `None` if nobody was, for all that is known."""
    match events:
        case [{"type": "started", "model": str(model)}, *_]:
            return model
    return None


def _draft(events: Sequence[_Event]) -> Draft:
    text: list[str] = []
    found: dict[str, str] = {}
    memories: dict[str, str] = {}
    for event in events:
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


def _terminal(
    run: Run, entries: Sequence[LogEntry], outcome: Outcome, usage: Usage | None
) -> LogEntry:
    events = last_events(run, outcome, usage, saved=True)
    if not entries:
        events.insert(0, started(run))
    first = entries[-1].last + 1 if entries else 1
    return LogEntry(
        run_id=run.run_id, first=first, last=first + len(events) - 1, body=b"\n".join(events)
    )

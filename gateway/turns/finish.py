"""Finishing a turn: reply, memories, usage and the terminal event in one transaction, then `done`."""

import asyncio
import itertools
import logging
from collections.abc import Callable
from dataclasses import replace

from gateway.runs.beat import LEASE_S
from gateway.runs.live_run import LiveRun
from gateway.turns.outcome import Outcome
from gateway.turns.reply import Draft
from gateway.wire import events
from storage import ttl
from storage.errors import LogSlotTakenError, NotRunOwnerError, StorageError
from storage.records import Completion, LogEntry, Memory, Message, Owner, Run, Usage
from storage.repositories import Store

RETRIES_S = (0.1, 0.4, 1.0)
"""Waits between attempts to store the end before it is told as `saved: false`."""

TELL_WITHIN_S = 4.5
"""How long all these attempts may take together: a store that hangs takes as long for one."""

KEEP_TRYING_S = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Waits between later attempts; the last one repeats. Until one succeeds the session stays busy."""

log = logging.getLogger(__name__)


class Finisher:
    """Ends runs, exactly once each.

    Args:
        store: keeps the end.
        clock: Unix time in seconds.
    """

    def __init__(self, *, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock

    async def finish(
        self, live: LiveRun, draft: Draft, outcome: Outcome, usage: Usage | None
    ) -> Run | None:
        """Store the end of a run and post it; the caller is the run's one generation.

        Where the storage refuses, the readers get `done{saved: false}` after `RETRIES_S`, where it hangs
        after `TELL_WITHIN_S`, and storing goes on until it succeeds: only then the session is free again.

        Returns:
            The session's next queued run, to be started now, or `None`.
        """
        await live.settle()
        if live.lost:
            await self.tell_lost(live)
            return None
        completion = self._completion(live, draft, outcome, usage)
        try:
            async with asyncio.timeout(TELL_WITHIN_S):
                next_run = await self._store_end(live.owner, completion)
        except LogSlotTakenError:
            if live.volatile:
                # An append that seemed refused was kept after all. Nobody else has the run: its
                # readers are told now, and whoever meets it when its lease is over seals it.
                self._tell(live, outcome, usage, saved=False)
            else:
                await self.tell_lost(live)
            return None
        except NotRunOwnerError:
            await self.tell_lost(live)
            return None
        except (StorageError, TimeoutError) as error:
            self._tell(live, outcome, usage, saved=False)
            completion = replace(completion, log_until=completion.finished_at)
            return await self._keep_trying(live, completion, str(error) or "no answer in time")
        self._tell(live, outcome, usage, saved=not live.volatile)
        return next_run

    async def _store_end(self, owner: Owner, completion: Completion) -> Run | None:
        runs = self._store.of(owner).runs
        for wait in RETRIES_S:
            try:
                return await runs.finish(completion)
            except (LogSlotTakenError, NotRunOwnerError):
                raise
            except StorageError:
                await asyncio.sleep(wait)
        return await runs.finish(completion)

    async def tell_lost(self, live: LiveRun) -> None:
        """End a run that is ours no more for its readers, if its session was forgotten.

        Otherwise another generation has it, and tells them.
        """
        if not live.forgotten and await self._is_session_gone(live):
            live.forget()
        if live.forgotten:
            self._tell(live, Outcome(reason="cancelled"), None, saved=False)

    async def _is_session_gone(self, live: LiveRun) -> bool:
        """Ask the store, which may know before this process is told; if it refuses, whoever resumes is."""
        try:
            return await self._store.of(live.owner).sessions.get(live.run.session_id) is None
        except StorageError:
            return False

    async def tell_broken(self, live: LiveRun, outcome: Outcome) -> None:
        """End a run for its readers that a fault of ours has stopped; the caller has it sealed."""
        await live.settle()
        if not live.feed.complete:
            self._tell(live, outcome, None, saved=False)

    async def give_up(self, live: LiveRun, outcome: Outcome) -> Run | None:
        """End a run that could not even be claimed: tell the readers now, store it when possible."""
        self._tell(live, outcome, None, saved=False)
        completion = self._completion(live, Draft(), outcome, None)
        return await self._keep_trying(live, completion, "it cannot be claimed")

    async def _keep_trying(self, live: LiveRun, completion: Completion, cause: str) -> Run | None:
        log.error(
            "the end of a run cannot be stored",
            extra={"run_id": completion.run_id, "cause": cause},
        )
        runs = self._store.of(live.owner).runs
        for attempt in itertools.count():
            await asyncio.sleep(KEEP_TRYING_S[min(attempt, len(KEEP_TRYING_S) - 1)])
            try:
                if not live.claimed:
                    await runs.claim(
                        completion.run_id,
                        claimed_by=live.claimed_by,
                        lease_until=self._clock() + LEASE_S,
                    )
                    live.claimed = True
                return await runs.finish(completion)
            except (NotRunOwnerError, LogSlotTakenError):
                return None
            except StorageError:
                continue
        return None

    def _tell(self, live: LiveRun, outcome: Outcome, usage: Usage | None, *, saved: bool) -> None:
        first = [] if live.last_seq else [started(live.run)]
        live.end([*first, *last_events(live.run, outcome, usage, saved=saved)], saved=saved)

    def _completion(
        self, live: LiveRun, draft: Draft, outcome: Outcome, usage: Usage | None
    ) -> Completion:
        now = self._clock()
        return completion(
            live.run,
            claimed_by=live.claimed_by,
            terminal=live.terminal_entry(last_events(live.run, outcome, usage, saved=True)),
            draft=draft,
            outcome=outcome,
            usage=usage,
            now=now,
            log_until=now if live.volatile else now + ttl.LOG,
        )


def completion(
    run: Run,
    *,
    claimed_by: str,
    terminal: LogEntry,
    draft: Draft,
    outcome: Outcome,
    usage: Usage | None,
    now: float,
    log_until: float,
) -> Completion:
    """Return all that is stored when a run ends. A reply without a word is not stored."""
    reply = Message(
        message_id=run.reply_id,
        session_id=run.session_id,
        role="assistant",
        content=draft.content,
        created_at=now,
        run_id=run.run_id,
        reply_to=run.message_id,
        emotion=draft.emotion,
        category=draft.category,
        end=outcome.reason,
    )
    memories = tuple(
        Memory(
            memory_id=memory_id,
            value=value,
            created_at=now,
            session_id=run.session_id,
            message_id=run.reply_id,
        )
        for memory_id, value in draft.memories.items()
    )
    return Completion(
        run_id=run.run_id,
        claimed_by=claimed_by,
        end=outcome.reason,
        terminal=terminal,
        reply=reply if draft.content else None,
        memories=memories,
        usage=usage,
        finished_at=now,
        log_until=log_until,
    )


def started(run: Run, *, model: str | None = None) -> bytes:
    """Return a run's first event.

    Args:
        run: that begins.
        model: who is asked for the reply; `None` if nobody is.
    """
    return events.started(
        id=run.send_id,
        session_id=run.session_id,
        message_id=run.message_id,
        reply_id=run.reply_id,
        model=model,
    )


def last_events(run: Run, outcome: Outcome, usage: Usage | None, *, saved: bool) -> list[bytes]:
    """Return a run's last events: its usage, if known, and `done`."""
    last = []
    if usage is not None:
        last.append(
            events.UsageReported(
                model=usage.model,
                prompt_tokens=usage.prompt_tokens,
                completion_tokens=usage.completion_tokens,
                estimated=usage.estimated or None,
            ).encode()
        )
    done = events.Done(
        reason=outcome.reason, message_id=run.reply_id, saved=saved, error=outcome.error
    )
    return [*last, done.encode()]

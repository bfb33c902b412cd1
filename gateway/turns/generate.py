"""Generating a reply: claim the run, ask the model, let every part out as it comes, finish."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import ExitStack, aclosing
from dataclasses import dataclass

from gateway.runs.beat import LEASE_S
from gateway.runs.live_run import LiveRun
from gateway.turns.coalescing import Coalescing
from gateway.turns.context import read_context
from gateway.turns.finish import Finisher, started
from gateway.turns.outcome import Outcome, failure, outcome_of, stopped
from gateway.turns.prompt import PromptRules, build_prompt
from gateway.turns.reply import ReplyShape, ReplyWriter
from gateway.turns.seal import Sealer
from gateway.turns.usage import estimated_usage
from storage.errors import NotRunOwnerError, StorageError, StorageUnavailableError
from storage.records import Claim, Run, Usage
from storage.repositories import Store
from streaming.models.chat_model import ChatMessage, ChatModel, ModelRequest

CLAIM_WAITS_S = (0.1, 0.4, 1.0)
"""Waits between attempts to claim a run."""

CLAIM_WITHIN_S = 4.5
"""How long all these attempts may take together: a store that hangs takes as long for one."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Attempt:
    """What is known of a generation while it goes on.

    Attributes:
        began, first_delta: seconds of the monotonic clock.
        prompt: what was asked; empty until it is known.
    """

    writer: ReplyWriter
    began: float
    first_delta: float | None = None
    prompt: tuple[ChatMessage, ...] = ()


class Generator:
    """Generates replies, one call of `generate` per run. Shared; of a run that ended it keeps nothing.

    Args:
        store: where the conversation is read.
        finisher: stores the end.
        sealer: stores the end where a fault of ours has kept the finisher from it.
        model: who answers.
        shape: the values a reply may take.
        rules: what goes into every prompt.
        new_id: makes the id of a memory.
        clock: Unix time in seconds.
        monotonic: seconds, never going back, for durations.
    """

    def __init__(
        self,
        *,
        store: Store,
        finisher: Finisher,
        sealer: Sealer,
        model: ChatModel,
        shape: ReplyShape,
        rules: PromptRules,
        new_id: Callable[[], str],
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._store = store
        self._finisher = finisher
        self._sealer = sealer
        self._model = model
        self._shape = shape
        self._function = shape.function()
        self._rules = rules
        self._new_id = new_id
        self._clock = clock
        self._monotonic = monotonic
        self._coalescing = Coalescing()

    async def generate(self, live: LiveRun) -> Run | None:
        """Generate one reply to its end, whatever happens on the way.

        Cancelling this coroutine abandons the run unfinished, to be sealed later; to stop the reply
        itself, use `LiveRun.cancel` or `LiveRun.interrupt`.

        Returns:
            The session's next queued run, to be started now, or `None`.
        """
        try:
            return await self._generate(live)
        except Exception as error:  # noqa: BLE001 - the run's last line of defence; `failure` logs it
            outcome = failure(error)
        try:
            await self._finisher.tell_broken(live, outcome)
        except Exception:
            log.exception("generation broke", extra={"run_id": live.run.run_id})
        try:
            return await self._end_broken(live, outcome)
        except NotRunOwnerError:  # somebody else has it
            return None
        except Exception:
            log.exception("generation broke", extra={"run_id": live.run.run_id})
            return None

    async def _end_broken(self, live: LiveRun, outcome: Outcome) -> Run | None:
        """Store the end of a run from its log: what this generation holds may be what broke it.

        If that fails, too, whoever meets the run when its lease is over seals it, or the next start.
        """
        try:
            return await self._sealer.end_broken(
                live.owner, live.run, claimed_by=live.claimed_by, outcome=outcome
            )
        except NotRunOwnerError:
            if live.claimed:
                raise
        return await self._sealer.fail(live.owner, live.run)  # claiming it was what broke

    async def _generate(self, live: LiveRun) -> Run | None:
        attempt = _Attempt(
            writer=ReplyWriter(self._shape, new_memory_id=self._new_id), began=self._monotonic()
        )
        try:
            if not live.claimed:
                async with asyncio.timeout(CLAIM_WITHIN_S):
                    await self._claim(live)
        except NotRunOwnerError:
            await self._finisher.tell_lost(live)
            return None
        except TimeoutError:
            return await self._finisher.give_up(
                live, failure(StorageUnavailableError("no answer in time"))
            )
        except StorageError as error:
            return await self._finisher.give_up(live, failure(error))
        outcome = await self._answer(live, attempt)
        if outcome.whole:
            live.emit(attempt.writer.close())
        usage = self._usage(attempt, outcome)
        next_run = await self._finisher.finish(live, attempt.writer.draft, outcome, usage)
        self._report(live, outcome, usage, attempt)
        return next_run

    def new_claim(self) -> Claim:
        """Return a claim for a run that is being accepted, to be generated here."""
        return Claim(
            claimed_by=self._new_id(),
            lease_until=self._clock() + LEASE_S,
            history_bytes=self._rules.history_bytes,
            memories_bytes=self._rules.memories_bytes,
        )

    async def _claim(self, live: LiveRun) -> None:
        runs = self._store.of(live.owner).runs
        for wait in (*CLAIM_WAITS_S, None):
            lease_until = self._clock() + LEASE_S
            try:
                claimed = await runs.claim(
                    live.run.run_id, claimed_by=live.claimed_by, lease_until=lease_until
                )
            except StorageUnavailableError:
                if wait is None:
                    raise
                await asyncio.sleep(wait)
            else:
                live.claimed = True
                live.cancelled = live.cancelled or claimed.cancel_at is not None
                return

    async def _answer(self, live: LiveRun, attempt: _Attempt) -> Outcome:
        if live.cancelled:
            live.emit([started(live.run)])
            return stopped(cancelled=True)
        live.emit([started(live.run, model=self._model.name)])
        clock = asyncio.get_running_loop().time
        try:
            async with asyncio.timeout(None) as until_stopped:
                live.stopped_by(lambda: until_stopped.reschedule(clock()))
                await self._stream(live, attempt)
        except Exception as error:  # noqa: BLE001 - `failure` tells it, and logs what nobody foresaw
            if not until_stopped.expired():
                return failure(error)
        finally:
            live.stopped_by(None)
        if until_stopped.expired() or live.forgotten:
            return stopped(cancelled=live.cancelled)
        return outcome_of(attempt.writer.finish_reason, said=bool(attempt.writer.draft.content))

    async def _stream(self, live: LiveRun, attempt: _Attempt) -> None:
        its = self._store.of(live.owner)
        context = live.context or await read_context(its, live.run, self._rules)
        if context is None:  # its session was forgotten meanwhile, and nobody may have told us yet
            live.forget()
            return
        attempt.prompt = build_prompt(self._rules.system_text(context.character), context)
        request = ModelRequest(messages=attempt.prompt, function=self._function)
        async with aclosing(self._model.stream(request)) as stream:
            with ExitStack() as streaming:
                async for parts in stream:
                    events = attempt.writer.read(parts)
                    if not events:
                        continue
                    if attempt.first_delta is None:
                        attempt.first_delta = self._monotonic()
                        streaming.enter_context(self._coalescing)
                    live.emit(events)
                    await self._coalescing.wait()

    def _usage(self, attempt: _Attempt, outcome: Outcome) -> Usage | None:
        """Return what the reply cost; `None` when the model was not asked, or would not answer."""
        if not attempt.prompt:
            return None
        counted = attempt.writer.usage
        if counted is not None:
            return Usage(
                model=self._model.name,
                prompt_tokens=counted.prompt_tokens,
                completion_tokens=counted.completion_tokens,
                estimated=False,
            )
        if outcome.reason == "error" and not attempt.writer.draft.content:
            return None
        return estimated_usage(
            model=self._model.name, prompt=attempt.prompt, content=attempt.writer.draft.content
        )

    def _report(
        self, live: LiveRun, outcome: Outcome, usage: Usage | None, attempt: _Attempt
    ) -> None:
        first, began = attempt.first_delta, attempt.began
        log.info(
            "run ended",
            extra={
                "run_id": live.run.run_id,
                "session_id": live.run.session_id,
                "tenant_id": live.owner.tenant_id,
                "reason": outcome.reason,
                "code": outcome.error.code if outcome.error else None,
                "first_delta_ms": None if first is None else round((first - began) * 1e3, 2),
                "total_ms": round((self._monotonic() - began) * 1e3, 1),
                "events": live.last_seq,
                "frames": live.feed.frames_posted,
                "bytes": live.feed.bytes_posted,
                "prompt_tokens": usage.prompt_tokens if usage else 0,
                "completion_tokens": usage.completion_tokens if usage else 0,
                "volatile": live.volatile,
            },
        )

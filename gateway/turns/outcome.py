"""How a generation ended, in the words of the wire. The one mapping from model errors to events."""

import logging
from dataclasses import dataclass

from gateway.wire.errors import (
    InternalError,
    ModelBusyError,
    ModelProtocolError,
    ModelRefusedError,
    ModelTimeoutError,
    ModelUnavailableError,
    StorageUnavailableError,
    WireError,
)
from gateway.wire.events import DoneReason, RunError
from storage.errors import StorageError
from streaming.models import errors as model_errors

log = logging.getLogger(__name__)

_WIRE_ERRORS: dict[type[model_errors.ModelError], type[WireError]] = {
    model_errors.ModelAuthError: ModelUnavailableError,
    model_errors.ModelQuotaError: ModelUnavailableError,
    model_errors.ModelNotFoundError: ModelUnavailableError,
    model_errors.ModelRateLimitedError: ModelBusyError,
    model_errors.ModelBadRequestError: ModelRefusedError,
    model_errors.ModelRefusedError: ModelRefusedError,
    model_errors.ModelUnavailableError: ModelUnavailableError,
    model_errors.ModelTimeoutError: ModelTimeoutError,
    model_errors.ModelProtocolError: ModelProtocolError,
}

_FINISH_REASONS: dict[str | None, DoneReason] = {"length": "length", "content_filter": "filtered"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Why a run ended, and what went wrong if something did."""

    reason: DoneReason
    error: RunError | None = None

    @property
    def whole(self) -> bool:
        """Whether the model itself ended the reply, so that defaults fill what it left out."""
        return self.reason in {"stop", "length", "filtered"}


def outcome_of(finish_reason: str | None, *, said: bool) -> Outcome:
    """Judge a stream that came to its end.

    Args:
        finish_reason: the provider's word, if it came.
        said: whether there is a word of content.
    """
    reason = _FINISH_REASONS.get(finish_reason, "stop")
    if reason == "stop" and not said:
        return Outcome(reason="error", error=_run_error(ModelProtocolError()))
    return Outcome(reason=reason)


def stopped(*, cancelled: bool) -> Outcome:
    """Return how a run ends that was stopped: by its user, or because the process goes down."""
    return Outcome(reason="cancelled" if cancelled else "interrupted")


def failure(error: BaseException) -> Outcome:
    """Return how a run ends that this error has stopped. Errors nobody foresaw are logged here."""
    match error:
        case model_errors.ModelFilteredError():
            return Outcome(reason="filtered")
        case model_errors.ModelTimeoutError(phase=phase):
            told = _run_error(ModelTimeoutError(), phase=phase)
            return Outcome(reason="timeout", error=told)
        case model_errors.ModelError():
            log.warning(
                "model failed",
                extra={"code": error.code, "detail": error.detail, "status": error.status},
            )
            return Outcome(reason="error", error=_told(error))
        case StorageError():
            log.error("storage failed", extra={"cause": f"{type(error).__name__}: {error}"})
            return Outcome(reason="error", error=_run_error(StorageUnavailableError()))
    log.error("generation broke", exc_info=error)
    return Outcome(reason="error", error=_run_error(InternalError()))


def _told(error: model_errors.ModelError) -> RunError:
    after = None if error.retry_after is None else int(error.retry_after * 1000)
    told = _WIRE_ERRORS.get(type(error), ModelUnavailableError)(retry_after_ms=after)
    # A stream that broke its rules is not asked for again by itself, but a person may well try.
    is_broken = isinstance(error, model_errors.ModelProtocolError)
    return _run_error(told, retryable=error.retryable or is_broken)


def _run_error(
    error: WireError,
    *,
    retryable: bool | None = None,
    phase: model_errors.TimeoutPhase | None = None,
) -> RunError:
    return RunError(
        code=error.code,
        message=error.public_message,
        retryable=error.retryable if retryable is None else retryable,
        retry_after_ms=error.retry_after_ms,
        phase=phase,
    )


NEVER_BEGUN = Outcome(reason="error", error=_run_error(InternalError(), retryable=True))
"""Nobody could be made to generate the reply. It may be asked for again."""

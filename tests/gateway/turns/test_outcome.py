"""How a generation ended, in the words of the wire."""

import logging

import pytest

from gateway.turns.outcome import Outcome, failure, outcome_of
from gateway.wire.errors import ErrorCode
from gateway.wire.events import DoneReason
from storage.errors import BlobMissingError, StorageUnavailableError
from streaming.models import errors as model_errors
from streaming.models.errors import (
    ModelAuthError,
    ModelBadRequestError,
    ModelError,
    ModelFilteredError,
    ModelNotFoundError,
    ModelProtocolError,
    ModelQuotaError,
    ModelRateLimitedError,
    ModelRefusedError,
    ModelTimeoutError,
    ModelUnavailableError,
    TimeoutPhase,
)

SECRET = "sk-secret from upstream"


# Ends without an error


@pytest.mark.parametrize(
    ("finish_reason", "said", "reason"),
    [
        ("stop", True, "stop"),
        ("tool_calls", True, "stop"),
        ("", True, "stop"),
        ("something new", True, "stop"),
        (None, True, "stop"),
        ("length", True, "length"),
        ("length", False, "length"),
        ("content_filter", True, "filtered"),
        ("content_filter", False, "filtered"),
    ],
)
def test_the_providers_reason(finish_reason: str | None, said: bool, reason: DoneReason) -> None:
    outcome = outcome_of(finish_reason, said=said)
    assert outcome == Outcome(reason=reason)
    assert outcome.whole


def test_a_reply_without_a_word_broke_the_protocol() -> None:
    outcome = outcome_of("stop", said=False)
    assert outcome.reason == "error"
    assert outcome.error is not None
    assert outcome.error.code == "model.protocol"
    assert not outcome.whole


# Errors


@pytest.mark.parametrize(
    ("error", "reason", "code", "retryable"),
    [
        (ModelAuthError(SECRET, status=401), "error", "model.unavailable", False),
        (ModelQuotaError(SECRET, status=429), "error", "model.unavailable", False),
        (ModelNotFoundError(SECRET, status=404), "error", "model.unavailable", False),
        (ModelRateLimitedError(SECRET, status=429), "error", "model.busy", True),
        (ModelBadRequestError(SECRET, status=400), "error", "model.refused", False),
        (ModelRefusedError(SECRET), "error", "model.refused", False),
        (ModelUnavailableError(SECRET, status=503), "error", "model.unavailable", True),
        (ModelProtocolError(SECRET), "error", "model.protocol", True),
        (ModelTimeoutError("first_token"), "timeout", "model.timeout", True),
        (StorageUnavailableError(SECRET), "error", "storage.unavailable", True),
        (BlobMissingError(SECRET), "error", "storage.unavailable", True),
        (RuntimeError(SECRET), "error", "internal", False),
        (ExceptionGroup("", [ValueError(SECRET)]), "error", "internal", False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_what_a_client_is_told_of_an_error(
    error: Exception, reason: DoneReason, code: ErrorCode, retryable: bool
) -> None:
    outcome = failure(error)
    assert outcome.reason == reason
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.retryable) == (code, retryable)
    assert SECRET not in outcome.error.model_dump_json()
    assert not outcome.whole


def test_a_filter_before_the_first_word_is_no_error() -> None:
    assert failure(ModelFilteredError(SECRET)) == Outcome(reason="filtered")


def test_every_model_error_is_in_the_table_above() -> None:
    def leaves(error: type[ModelError]) -> set[type[ModelError]]:
        return {error}.union(*map(leaves, error.__subclasses__()))

    named = {getattr(model_errors, name) for name in model_errors.__all__ if name.endswith("Error")}
    assert leaves(ModelError) >= named
    for error in named - {ModelError, ModelFilteredError, ModelTimeoutError}:
        assert failure(error()).error is not None


@pytest.mark.parametrize("phase", ["first_token", "between_chunks", "total"])
def test_a_timeout_says_which_deadline_it_was(phase: TimeoutPhase) -> None:
    outcome = failure(ModelTimeoutError(phase))
    assert outcome.error is not None
    assert outcome.error.phase == phase


@pytest.mark.parametrize(
    ("retry_after", "told"), [(None, None), (0.0, 0), (1.5, 1_500), (120.0, 120_000)]
)
def test_how_long_to_wait_is_told(retry_after: float | None, told: int | None) -> None:
    outcome = failure(ModelRateLimitedError(retry_after=retry_after))
    assert outcome.error is not None
    assert outcome.error.retry_after_ms == told


def test_one_error_may_say_that_it_is_worth_another_try() -> None:
    outcome = failure(ModelBadRequestError(retryable=True))
    assert outcome.error is not None
    assert outcome.error.retryable


# Logs


def test_a_model_error_is_logged_by_its_code(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        failure(ModelNotFoundError("deploymentnotfound", status=404))
    (record,) = caplog.records
    logged = vars(record)
    assert (logged["code"], logged["detail"]) == ("not_found", "deploymentnotfound")
    assert logged["status"] == 404


def test_what_nobody_foresaw_is_logged_with_its_trace(caplog: pytest.LogCaptureFixture) -> None:
    failure(ZeroDivisionError())
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None

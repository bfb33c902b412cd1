"""From any error to what a client is told, and to an HTTP status."""

import logging

import pytest

from gateway.faults import cause_of, http_status, wire_error
from gateway.identity import errors as identity
from gateway.identity.errors import Flaw
from gateway.wire import errors as wire
from storage import errors as storage

SECRET = "postgres://user:secret@host"


def all_below(root: type) -> set[type]:
    return {root}.union(*map(all_below, root.__subclasses__()))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (wire.BusyError(), wire.BusyError),
        (identity.AuthRequiredError(SECRET), wire.AuthRequiredError),
        (identity.TokenInvalidError(Flaw.SIGNATURE), wire.AuthInvalidError),
        (identity.TokenExpiredError(SECRET), wire.AuthExpiredError),
        (identity.OriginDeniedError(SECRET), wire.OriginDeniedError),
        (identity.KeysUnavailableError(SECRET), wire.KeysUnavailableError),
        (storage.BlobMissingError(SECRET), wire.NotFoundError),
        (storage.UploadRejectedError(SECRET), wire.BadRequestError),
        (storage.StorageUnavailableError(SECRET), wire.StorageUnavailableError),
        (storage.NotRunOwnerError(SECRET), wire.StorageUnavailableError),
        (storage.LogSlotTakenError(SECRET), wire.StorageUnavailableError),
        (storage.UnstorableTextError(SECRET), wire.StorageUnavailableError),
        (OSError(SECRET), wire.InternalError),
        (ValueError(SECRET), wire.InternalError),
        (ExceptionGroup(SECRET, [OSError(SECRET)]), wire.InternalError),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_what_a_client_is_told(error: Exception, told: type[wire.WireError]) -> None:
    found = wire_error(error)
    assert type(found) is told
    assert "secret" not in found.public_message


def test_a_wire_error_stays_the_same_object() -> None:
    error = wire.RateLimitedError("Slow down.", retry_after_ms=5)
    assert wire_error(error) is error


@pytest.mark.parametrize(
    ("error", "status", "code", "retryable"),
    [
        (identity.AuthRequiredError(), 401, "auth.required", False),
        (identity.TokenInvalidError(Flaw.SIZE), 401, "auth.invalid", False),
        (identity.TokenExpiredError(), 401, "auth.expired", False),
        (identity.OriginDeniedError(), 403, "origin.denied", False),
        (identity.KeysUnavailableError(), 503, "internal", True),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_who_is_not_let_in_is_told_why(
    error: identity.IdentityError, status: int, code: str, retryable: bool
) -> None:
    told = wire_error(error)
    assert (http_status(told), told.code, told.retryable) == (status, code, retryable)


def test_every_kind_of_identity_error_is_told() -> None:
    for kind in all_below(identity.IdentityError) - {identity.IdentityError}:
        error = kind(Flaw.SIZE) if kind is identity.TokenInvalidError else kind()
        assert type(wire_error(error)) is not wire.InternalError


@pytest.mark.parametrize(
    ("error", "cause", "trace"),
    [
        (
            storage.StorageUnavailableError("DynamoDB refuses: AccessDeniedException"),
            "StorageUnavailableError: DynamoDB refuses: AccessDeniedException",
            False,
        ),
        (storage.StorageUnavailableError(), "StorageUnavailableError", False),
        (storage.StorageError("malformed"), "StorageError: malformed", True),
        (identity.KeysUnavailableError("unfetched"), "KeysUnavailableError: unfetched", False),
        (ZeroDivisionError(), None, True),
    ],
    ids=["refused", "refused-silently", "malformed", "keys", "bug"],
)
def test_a_fault_of_ours_is_logged_as_an_error_with_what_explains_it(
    caplog: pytest.LogCaptureFixture, error: Exception, cause: str | None, trace: bool
) -> None:
    wire_error(error)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert getattr(record, "cause", None) == cause
    assert bool(record.exc_info) is trace


@pytest.mark.parametrize(
    "error",
    [
        wire.NotFoundError(),
        identity.TokenInvalidError(Flaw.SIGNATURE),
        storage.BlobMissingError(),
        storage.UploadRejectedError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_a_client_causes_is_no_error_of_the_log(
    caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    with caplog.at_level(logging.DEBUG):
        wire_error(error)
    assert caplog.records == []


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (identity.TokenInvalidError(Flaw.SIGNATURE), "credential refused: signature"),
        (identity.OriginDeniedError("no Origin"), "no Origin"),
        (wire.RateLimitedError(), "RateLimitedError"),
        (storage.StorageUnavailableError(SECRET), "StorageUnavailableError"),
        (ValueError(SECRET), "ValueError"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_what_a_log_may_say_of_the_cause(error: Exception, cause: str) -> None:
    assert cause_of(error) == cause


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (wire.BadRequestError(), 400),
        (wire.UnsupportedError(), 400),
        (wire.AuthRequiredError(), 401),
        (wire.AuthInvalidError(), 401),
        (wire.AuthExpiredError(), 401),
        (wire.OriginDeniedError(), 403),
        (wire.NotFoundError(), 404),
        (wire.ConflictError(), 409),
        (wire.PayloadTooLargeError(), 413),
        (wire.RateLimitedError(), 429),
        (wire.MaintenanceError(), 503),
        (wire.KeysUnavailableError(), 503),
        (wire.StorageUnavailableError(), 503),
        (wire.InternalError(), 500),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_the_status_of_an_error(error: wire.WireError, status: int) -> None:
    assert http_status(error) == status

"""The one mapping from errors to what a client is told. Whatever nobody foresaw is `internal`."""

import logging

from gateway.identity.errors import (
    AuthRequiredError,
    IdentityError,
    KeysUnavailableError,
    OriginDeniedError,
    TokenExpiredError,
    TokenInvalidError,
)
from gateway.wire import errors as wire
from storage.errors import BlobMissingError, StorageError, UploadRejectedError

log = logging.getLogger(__name__)

_IDENTITY: dict[type[IdentityError], type[wire.WireError]] = {
    AuthRequiredError: wire.AuthRequiredError,
    TokenInvalidError: wire.AuthInvalidError,
    TokenExpiredError: wire.AuthExpiredError,
    OriginDeniedError: wire.OriginDeniedError,
}


def wire_error(error: Exception) -> wire.WireError:
    """Return the error as the client is told it. One that is our fault leaves a line of level `error`.

    That says what refused, in a few words: a table that is not there, or a lock that many wait for, is met by
    every command. What only a bug explains is logged with its trace.
    """
    match error:
        case wire.WireError():
            return error
        case KeysUnavailableError():
            log.error("keys are unavailable", extra={"cause": _said(error)})
            return wire.KeysUnavailableError()
        case IdentityError():
            return _IDENTITY[type(error)]()
        case BlobMissingError():
            return wire.NotFoundError()
        case UploadRejectedError():
            return wire.BadRequestError("The upload is not what was announced.")
        case StorageError():
            trace = None if error.retryable else error
            log.error("storage failed", extra={"cause": _said(error)}, exc_info=trace)
            return wire.StorageUnavailableError()
    log.error("handler broke", exc_info=error)
    return wire.InternalError()


def cause_of(error: Exception) -> str:
    """Return what a log may say of why somebody was refused: nothing that came from outside."""
    return str(error) if isinstance(error, IdentityError) else type(error).__name__


def _said(error: Exception) -> str:
    """Return the kind of an error and its text, which in these trees holds a code at most."""
    return f"{type(error).__name__}: {error}".removesuffix(": ")


_STATUS: dict[type[wire.WireError], int] = {
    wire.BadRequestError: 400,
    wire.UnsupportedError: 400,
    wire.AuthRequiredError: 401,
    wire.AuthInvalidError: 401,
    wire.AuthExpiredError: 401,
    wire.OriginDeniedError: 403,
    wire.TenantSuspendedError: 403,
    wire.NotFoundError: 404,
    wire.ConflictError: 409,
    wire.PayloadTooLargeError: 413,
    wire.RateLimitedError: 429,
    wire.QuotaExceededError: 429,
    wire.MaintenanceError: 503,
    wire.KeysUnavailableError: 503,
    wire.StorageUnavailableError: 503,
}


def http_status(error: wire.WireError) -> int:
    """Return the HTTP status that goes with an error."""
    return _STATUS.get(type(error), 500)

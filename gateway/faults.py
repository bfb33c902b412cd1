"""The one mapping from errors to what a client is told. Whatever nobody foresaw is `internal`."""

import logging

from gateway.identity.errors import (
    AuthRequiredError,
    IdentityError,
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
    """Return the error as the client is told it; logs the trace of one that is our fault."""
    match error:
        case wire.WireError():
            return error
        case IdentityError():
            return _IDENTITY.get(type(error), wire.KeysUnavailableError)()
        case BlobMissingError():
            return wire.NotFoundError()
        case UploadRejectedError():
            return wire.BadRequestError("The upload is not what was announced.")
        case StorageError():
            return wire.StorageUnavailableError()
    log.error("handler broke", exc_info=error)
    return wire.InternalError()


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

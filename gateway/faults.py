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
from storage.errors import BlobMissingError, StorageError

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
        case StorageError():
            return wire.StorageUnavailableError()
    log.error("handler broke", exc_info=error)
    return wire.InternalError()

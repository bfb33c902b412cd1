"""Everything that may be said about what went wrong.

::

    WireError
    ├── BadRequestError            bad_request
    ├── UnsupportedError           unsupported
    ├── PayloadTooLargeError       payload.too_large
    ├── ConflictError              conflict
    ├── BusyError                  busy                 retryable
    ├── NotFoundError              not_found
    ├── NotResumableError          not_resumable
    ├── AuthRequiredError          auth.required
    ├── AuthInvalidError           auth.invalid
    ├── AuthExpiredError           auth.expired
    ├── OriginDeniedError          origin.denied
    ├── RateLimitedError           rate.limited         retryable
    ├── QuotaExceededError         quota.exceeded
    ├── TenantSuspendedError       tenant.suspended
    ├── MaintenanceError           maintenance          retryable
    ├── ModelTimeoutError          model.timeout        retryable
    ├── ModelBusyError             model.busy           retryable
    ├── ModelRefusedError          model.refused
    ├── ModelProtocolError         model.protocol       retryable
    ├── ModelUnavailableError      model.unavailable    retryable
    ├── StorageUnavailableError    storage.unavailable  retryable
    └── InternalError              internal
        └── KeysUnavailableError   internal             retryable

A `public_message` is a constant sentence, or one made of the client's own field names: exception text,
upstream messages and paths never reach it.
"""

from enum import IntEnum
from typing import ClassVar, Literal

ErrorCode = Literal[
    "auth.expired",
    "auth.invalid",
    "auth.required",
    "origin.denied",
    "rate.limited",
    "quota.exceeded",
    "tenant.suspended",
    "maintenance",
    "payload.too_large",
    "bad_request",
    "unsupported",
    "conflict",
    "busy",
    "not_found",
    "not_resumable",
    "model.timeout",
    "model.busy",
    "model.refused",
    "model.protocol",
    "model.unavailable",
    "storage.unavailable",
    "internal",
]


class CloseCode(IntEnum):
    """Why the server closes the socket (4000-4999 are the application's, RFC 6455 section 7.4.2).

    Attributes:
        AGE: the connection has reached its age.
        TOO_BIG: a message or frame was larger than the transport takes.
        RESTART: the server is restarting.
        BAD_FRAMES: too many frames in a row were not of the protocol.
        AUTH: no identity in time, or it is over.
        ORIGIN: the page's origin is not on the list.
        IDLE: nothing was heard from the client for too long.
        SUPERSEDED: another connection has taken this one's place.
        RATE: too much at once, or too much that the client leaves unread.
        MAINTENANCE: the service is going down for a while.
    """

    AGE = 1001
    TOO_BIG = 1009
    RESTART = 1012
    BAD_FRAMES = 4400
    AUTH = 4401
    ORIGIN = 4403
    IDLE = 4408
    SUPERSEDED = 4409
    RATE = 4429
    MAINTENANCE = 4503


class WireError(Exception):
    """Root of the tree: an error as the client is told it.

    Attributes:
        code: stable, for programs.
        public_message: for people; the default of the class unless given.
        retryable: whether the same command may succeed later.
        retry_after_ms: how long to wait before that, if known.
    """

    code: ClassVar[ErrorCode] = "internal"
    default_message: ClassVar[str] = "Something went wrong on our side."
    retryable: ClassVar[bool] = False

    def __init__(self, public_message: str | None = None, *, retry_after_ms: int | None = None):
        self.public_message = public_message or self.default_message
        self.retry_after_ms = retry_after_ms
        super().__init__(self.public_message)


class BadRequestError(WireError):
    """The frame or a field of it is not what the protocol says."""

    code = "bad_request"
    default_message = "The message is not valid."


class UnsupportedError(WireError):
    """A type of command that this server does not know."""

    code = "unsupported"
    default_message = "This type of message is not supported."


class PayloadTooLargeError(WireError):
    """Text or upload beyond a limit that `ready.limits` states."""

    code = "payload.too_large"
    default_message = "This is larger than allowed."


class ConflictError(WireError):
    """An id that was used before, with other content."""

    code = "conflict"
    default_message = "This id was used before with other content."


class BusyError(WireError):
    """The session already has an answer under way, or its queue is full."""

    code = "busy"
    default_message = "An answer is still being written in this session."
    retryable = True


class NotFoundError(WireError):
    """It does not exist, or belongs to somebody else: the two cannot be told apart."""

    code = "not_found"
    default_message = "There is no such thing."


class NotResumableError(WireError):
    """The run's log has expired; the stored message replaces what is shown."""

    code = "not_resumable"
    default_message = "This answer can no longer be replayed."


class AuthRequiredError(WireError):
    """A command before the connection was identified."""

    code = "auth.required"
    default_message = "Identify yourself with a token first."


class AuthInvalidError(WireError):
    """A token or ticket that proves nothing."""

    code = "auth.invalid"
    default_message = "The token is not valid."


class AuthExpiredError(WireError):
    """The identity was good and is over; renew it with `auth`."""

    code = "auth.expired"
    default_message = "The token has expired."


class OriginDeniedError(WireError):
    """The page's origin is not on the list."""

    code = "origin.denied"
    default_message = "This origin is not allowed."


class RateLimitedError(WireError):
    """Too much at once."""

    code = "rate.limited"
    default_message = "Too many requests."
    retryable = True


class QuotaExceededError(WireError):
    """What the plan allows is used up."""

    code = "quota.exceeded"
    default_message = "The quota is used up."


class TenantSuspendedError(WireError):
    """The tenant may not use the service at the moment; only its operator can change that."""

    code = "tenant.suspended"
    default_message = "This service is suspended."


class MaintenanceError(WireError):
    """The server takes nothing new at the moment."""

    code = "maintenance"
    default_message = "The service is going down for maintenance."
    retryable = True


class ModelTimeoutError(WireError):
    """The model was silent for too long."""

    code = "model.timeout"
    default_message = "The model took too long."
    retryable = True


class ModelBusyError(WireError):
    """The provider turns requests away at the moment."""

    code = "model.busy"
    default_message = "The model is busy."
    retryable = True


class ModelRefusedError(WireError):
    """The provider will not answer this request."""

    code = "model.refused"
    default_message = "The model refused this request."


class ModelProtocolError(WireError):
    """The provider's stream broke its own rules."""

    code = "model.protocol"
    default_message = "The model's answer could not be read."
    retryable = True


class ModelUnavailableError(WireError):
    """The provider cannot be reached, or is not set up."""

    code = "model.unavailable"
    default_message = "The model is not available."
    retryable = True


class StorageUnavailableError(WireError):
    """What has to be kept cannot be kept at the moment."""

    code = "storage.unavailable"
    default_message = "The storage is not available."
    retryable = True


class InternalError(WireError):
    """Our fault; the log knows more."""


class KeysUnavailableError(InternalError):
    """The keys that could prove the token cannot be had now; the token may well be good."""

    default_message = "Sign-in cannot be checked right now."
    retryable = True

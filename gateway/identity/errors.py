"""Why somebody is not let in.

::

    IdentityError
    ├── AuthRequiredError       no credential where one is needed            auth.required  401
    ├── TokenInvalidError       not a token of ours, or a broken credential  auth.invalid   401
    ├── TokenExpiredError       good in every other respect                  auth.expired   401
    ├── OriginDeniedError       the page it comes from is not on the list    origin.denied  403
    └── KeysUnavailableError    ours to mend: no key to check it with        internal       503

    JwksError                   never leaves this package
    ├── JwksFetchError          the issuer did not serve its key document
    └── JwksDocumentError       what it served holds no usable key

    LocalKeyError               start-up: the server's own key cannot be used; one clear line

The first four are the caller's fault. The text of each (``str(error)``) is for the log: it names
the check that failed and never quotes the token.
"""

from enum import StrEnum
from typing import ClassVar, Literal

AuthCode = Literal["auth.required", "auth.invalid", "auth.expired", "origin.denied", "internal"]


class IdentityError(Exception):
    """Root of the tree.

    Attributes:
        code: the protocol's error code.
        public_message: what may be shown to the client.
        retryable: whether the same credential may be accepted later.
        status: the HTTP status of a handshake or request refused for this reason.
    """

    code: ClassVar[AuthCode]
    public_message: ClassVar[str]
    retryable: ClassVar[bool] = False
    status: ClassVar[int] = 401


class AuthRequiredError(IdentityError):
    """No credential was given where one is needed."""

    code = "auth.required"
    public_message = "Sign in first."


class Flaw(StrEnum):
    """Which check a credential failed: a short constant for logs and tests, never sent."""

    SIZE = "size"
    SHAPE = "shape"
    HEADER = "header"
    ALGORITHM = "algorithm"
    EXTENSION = "extension"
    TYPE = "type"
    KEY_ID = "key_id"
    UNKNOWN_KEY = "unknown_key"
    SIGNATURE = "signature"
    PAYLOAD = "payload"
    TIME = "time"
    NOT_YET = "not_yet"
    ISSUER = "issuer"
    TOKEN_USE = "token_use"  # noqa: S105 - the name of a claim
    AUDIENCE = "audience"
    SUBJECT = "subject"
    CARRIER = "carrier"
    TICKET = "ticket"


class TokenInvalidError(IdentityError):
    """The credential is not one of ours.

    Attributes:
        flaw: the first check that it failed.
    """

    code = "auth.invalid"
    public_message = "The sign-in was not accepted."

    def __init__(self, flaw: Flaw) -> None:
        super().__init__(f"credential refused: {flaw}")
        self.flaw = flaw


class TokenExpiredError(IdentityError):
    """The token is proved to be ours and names an allowed user, but its time is over."""

    code = "auth.expired"
    public_message = "The sign-in has expired."


class OriginDeniedError(IdentityError):
    """The page that opened the connection is not on the list of allowed origins."""

    code = "origin.denied"
    public_message = "This page may not connect."
    status = 403


class KeysUnavailableError(IdentityError):
    """The keys that could prove the token cannot be had now.

    The token may well be good, so a 401 (which makes clients drop it) would be a lie. The protocol has
    no code of its own for this; `internal` with `retryable` says what a client can act on.
    """

    code = "internal"
    public_message = "Sign-in cannot be checked right now. Try again."
    retryable = True
    status = 503


class JwksError(Exception):
    """An issuer's keys could not be refreshed; those known before stay in use."""


class JwksFetchError(JwksError):
    """The key document could not be fetched: network, status, redirect, size or time."""


class JwksDocumentError(JwksError):
    """The document is not a JWK set, or no entry of it can be used."""


class LocalKeyError(Exception):
    """The server's own signing key cannot be used. The text is one line for the operator."""

"""Why somebody is not let in.

::

    IdentityError
    ├── AuthRequiredError       no credential where one is needed
    ├── TokenInvalidError       not a token of ours, or a broken credential
    ├── TokenExpiredError       good in every other respect
    ├── OriginDeniedError       the page it comes from is not on the list
    └── KeysUnavailableError    ours to mend: no key to check it with

    JwksError                   never leaves this package
    ├── JwksFetchError          the issuer did not serve its key document
    └── JwksDocumentError       what it served holds no usable key

    LocalKeyError               start-up: the server's own key cannot be used; one clear line

The first four are the caller's fault. The text of each (``str(error)``) is for the log: it names
the check that failed and never quotes the token. What a client is told is decided by `gateway.faults`.
"""

from enum import StrEnum


class IdentityError(Exception):
    """Root of the tree of what those who come are refused for."""


class AuthRequiredError(IdentityError):
    """No credential was given where one is needed."""


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

    def __init__(self, flaw: Flaw) -> None:
        super().__init__(f"credential refused: {flaw}")
        self.flaw = flaw


class TokenExpiredError(IdentityError):
    """The token is proved to be ours and names an allowed user, but its time is over."""


class OriginDeniedError(IdentityError):
    """The page that opened the connection is not on the list of allowed origins."""


class KeysUnavailableError(IdentityError):
    """The keys that could prove the token cannot be had now.

    The token may well be good: to refuse it, which makes clients drop it, would be a lie.
    """


class JwksError(Exception):
    """An issuer's keys could not be refreshed; those known before stay in use."""


class JwksFetchError(JwksError):
    """The key document could not be fetched: network, status, redirect, size or time."""


class JwksDocumentError(JwksError):
    """The document is not a JWK set, or no entry of it can be used."""


class LocalKeyError(Exception):
    """The server's own signing key cannot be used. The text is one line for the operator."""

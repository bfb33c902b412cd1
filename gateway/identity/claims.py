"""What an issuer's tokens must say, and the check that one does. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from gateway.identity.errors import Flaw, TokenExpiredError, TokenInvalidError
from gateway.identity.principal import TENANT_ID, USER_ID, Principal

MAX_LEEWAY_S: Final = 60

# The last second of the year 9999. What is larger is no date in seconds (most often milliseconds);
# the comparison also refuses NaN and infinity.
_LATEST_DATE: Final = 253_402_300_799

Claims = Mapping[str, object]
TokenUse = Literal["access", "id"]

# Cognito's access tokens carry `client_id`; its id tokens, and everybody else's tokens, `aud`.
_AUDIENCE_CLAIM: Final[Mapping[TokenUse | None, str]] = {
    "access": "client_id",
    "id": "aud",
    None: "aud",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRules:
    """What the tokens of one issuer must say.

    Attributes:
        issuer: the exact `iss`; a trailing slash counts.
        audience: the accepted audiences or client ids; at least one.
        tenant_id: the tenant that this issuer speaks for.
        token_use: `access` and `id` are the two kinds of Amazon Cognito; `None` leaves the claim
            unchecked, for issuers that do not set it.
        leeway_s: tolerated clock difference in seconds, 0 to 60.

    Raises:
        ValueError: a value outside these bounds; the operator's mistake, told in one line.
    """

    issuer: str
    audience: frozenset[str]
    tenant_id: str
    token_use: TokenUse | None = None
    leeway_s: float = 30

    def __post_init__(self) -> None:
        if not self.issuer:
            raise ValueError("an issuer must not be empty")
        if not self.audience or "" in self.audience:
            raise ValueError(
                f"issuer {self.issuer}: name at least one audience, none of them empty"
            )
        if not TENANT_ID.fullmatch(self.tenant_id):
            raise ValueError(f"issuer {self.issuer}: the tenant id must match {TENANT_ID.pattern}")
        if not 0 <= self.leeway_s <= MAX_LEEWAY_S:
            raise ValueError(
                f"issuer {self.issuer}: the leeway must be 0 to {MAX_LEEWAY_S} seconds"
            )


def check_claims(claims: Claims, *, rules: TokenRules, now: float) -> Principal:
    """Check the claims of a token whose signature is proved (RFC 7519 section 4.1).

    Expiry is judged last, so that `TokenExpiredError` means: good in every other respect.

    Args:
        claims: the token's payload.
        rules: those of the issuer whose key proved the signature.
        now: Unix time in seconds.

    Raises:
        TokenInvalidError: a claim is missing, malformed or not as the rules ask.
        TokenExpiredError: `exp` plus the leeway is not after `now`, and nothing else is wrong.
    """
    expires_at = _date(claims, "exp")
    _refuse_the_future(claims, latest=now + rules.leeway_s)
    if claims.get("iss") != rules.issuer:
        raise TokenInvalidError(Flaw.ISSUER)
    if rules.token_use is not None and claims.get("token_use") != rules.token_use:
        raise TokenInvalidError(Flaw.TOKEN_USE)
    if not _audiences(claims, rules) & rules.audience:
        raise TokenInvalidError(Flaw.AUDIENCE)
    user_id = claims.get("sub")
    if not isinstance(user_id, str) or not USER_ID.fullmatch(user_id):
        raise TokenInvalidError(Flaw.SUBJECT)
    if now >= expires_at + rules.leeway_s:
        raise TokenExpiredError("the token has expired")
    return Principal(
        tenant_id=rules.tenant_id,
        user_id=user_id,
        issuer=rules.issuer,
        token_expires_at=expires_at,
    )


def _date(claims: Claims, name: str) -> float:
    """Read a NumericDate (RFC 7519 section 2). A bool is an `int` to Python, but no date."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TokenInvalidError(Flaw.TIME)
    if not 0 <= value <= _LATEST_DATE:
        raise TokenInvalidError(Flaw.TIME)
    return float(value)


def _refuse_the_future(claims: Claims, *, latest: float) -> None:
    for name in ("nbf", "iat"):
        if name in claims and _date(claims, name) > latest:
            raise TokenInvalidError(Flaw.NOT_YET)


def _audiences(claims: Claims, rules: TokenRules) -> frozenset[str]:
    """Return whom the token is meant for; `aud` alone may be a list."""
    name = _AUDIENCE_CLAIM[rules.token_use]
    named = claims.get(name)
    listed = named if name == "aud" and isinstance(named, list) else [named]
    if not all(isinstance(one, str) for one in listed):
        raise TokenInvalidError(Flaw.AUDIENCE)
    return frozenset(listed)

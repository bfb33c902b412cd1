"""Whose token is it: many issuers, one question."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from gateway.identity.claims import TokenRules
from gateway.identity.errors import Flaw, TokenInvalidError
from gateway.identity.keys import PublicKey
from gateway.identity.principal import Principal
from gateway.identity.tokens import parse, prove


class KeySource(Protocol):
    """One issuer's keys: `jwks.JwksCache`, or `keys.FixedKeys` for the server's own."""

    async def find(self, kid: str) -> PublicKey | None:
        """Return the key of that name, or `None` if the issuer has none.

        Raises:
            KeysUnavailableError: it cannot be told now.
        """
        ...

    async def settle(self) -> None:
        """Wait until nothing is under way."""
        ...

    async def aclose(self) -> None:
        """Stop what is under way."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedIssuer:
    """An issuer that the operator trusts: what its tokens must say, and where its keys are."""

    rules: TokenRules
    keys: KeySource


class TokenVerifier:
    """Turns tokens into principals. Lives as long as the process; end it with `aclose`.

    Args:
        issuers: all that are trusted. The verifier owns their key sources from here on.

    Raises:
        ValueError: one issuer is listed twice, so that its tenant would be ambiguous.
    """

    def __init__(self, issuers: Iterable[TrustedIssuer]) -> None:
        self._issuers: dict[str, TrustedIssuer] = {}
        for issuer in issuers:
            if self._issuers.setdefault(issuer.rules.issuer, issuer) is not issuer:
                raise ValueError(f"issuer {issuer.rules.issuer} is configured twice")

    async def identify(self, token: str, *, now: float) -> Principal:
        """Prove a token.

        What it claims as `iss` only selects among the trusted issuers; that issuer's own key and rules
        decide, and its tenant is the principal's. Waits only while keys are being fetched. Cancelling is
        safe.

        Args:
            token: as received.
            now: Unix time in seconds.

        Raises:
            TokenInvalidError: the caller's fault; its `flaw` names the check.
            TokenExpiredError: good in every other respect, but its time is over.
            KeysUnavailableError: ours: the keys cannot be had now.
        """
        unproved = parse(token)
        claimed = unproved.claims.get("iss")
        issuer = self._issuers.get(claimed) if isinstance(claimed, str) else None
        if issuer is None:
            raise TokenInvalidError(Flaw.ISSUER)
        key = await issuer.keys.find(unproved.kid)
        if key is None:
            raise TokenInvalidError(Flaw.UNKNOWN_KEY)
        return prove(unproved, key=key, rules=issuer.rules, now=now)

    async def settle(self) -> None:
        """Wait for refreshes under way: a host that is frozen between calls ends each call with it."""
        for issuer in self._issuers.values():
            await issuer.keys.settle()

    async def aclose(self) -> None:
        """Stop what the key sources have under way."""
        for issuer in self._issuers.values():
            await issuer.keys.aclose()

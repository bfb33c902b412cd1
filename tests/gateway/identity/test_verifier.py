"""Many issuers, one question: whose token is it."""

import subprocess
import sys
from dataclasses import replace

import pytest

from gateway.identity.errors import (
    Flaw,
    KeysUnavailableError,
    TokenExpiredError,
    TokenInvalidError,
)
from gateway.identity.keys import FixedKeys, PublicKey, prepare_key
from gateway.identity.verifier import TokenVerifier, TrustedIssuer
from tests.gateway.identity.forge import KID, NOW, RULES, keys, private_key, token

OTHER = "https://other.example"


class Source(FixedKeys):
    """Fixed keys that remember what they were asked."""

    def __init__(self, name: str = "issuer", error: Exception | None = None) -> None:
        super().__init__({KID: prepare_key(KID, private_key(name).public_key())})
        self.error = error
        self.asked: list[str] = []
        self.settled = 0
        self.closed = 0

    async def find(self, kid: str) -> PublicKey | None:
        self.asked.append(kid)
        if self.error is not None:
            raise self.error
        return await super().find(kid)

    async def settle(self) -> None:
        self.settled += 1

    async def aclose(self) -> None:
        self.closed += 1


def pair() -> tuple[TokenVerifier, Source, Source]:
    mine, theirs = Source(), Source("second")
    other_rules = replace(RULES, issuer=OTHER, tenant_id="other")
    verifier = TokenVerifier(
        [TrustedIssuer(rules=RULES, keys=mine), TrustedIssuer(rules=other_rules, keys=theirs)]
    )
    return verifier, mine, theirs


async def test_each_issuer_vouches_for_its_own_tenant() -> None:
    verifier, _, _ = pair()
    assert (await verifier.identify(token(), now=NOW)).tenant_id == "acme"
    made = token(claims={"iss": OTHER}, key="second")
    principal = await verifier.identify(made, now=NOW)
    assert (principal.tenant_id, principal.issuer) == ("other", OTHER)


async def test_one_issuers_key_cannot_speak_for_another() -> None:
    verifier, mine, theirs = pair()
    with pytest.raises(TokenInvalidError) as refusal:
        await verifier.identify(token(key="second"), now=NOW)
    assert refusal.value.flaw is Flaw.SIGNATURE
    assert (mine.asked, theirs.asked) == ([KID], [])


@pytest.mark.parametrize("issuer", ["https://evil.example", "", None, 1, ["x"], {}])
async def test_an_unknown_issuer_asks_nobody_for_keys(issuer: object) -> None:
    verifier, mine, theirs = pair()
    with pytest.raises(TokenInvalidError) as refusal:
        await verifier.identify(token(claims={"iss": issuer}), now=NOW)
    assert refusal.value.flaw is Flaw.ISSUER
    assert mine.asked == theirs.asked == []


async def test_a_malformed_token_asks_nobody_for_keys() -> None:
    verifier, mine, _ = pair()
    with pytest.raises(TokenInvalidError):
        await verifier.identify(token(header={"alg": "none"}), now=NOW)
    assert mine.asked == []


async def test_an_unknown_key_is_the_tokens_fault() -> None:
    verifier, _, _ = pair()
    with pytest.raises(TokenInvalidError) as refusal:
        await verifier.identify(token(header={"kid": "other"}), now=NOW)
    assert refusal.value.flaw is Flaw.UNKNOWN_KEY


async def test_missing_keys_are_not_the_tokens_fault() -> None:
    source = Source(error=KeysUnavailableError("down"))
    verifier = TokenVerifier([TrustedIssuer(rules=RULES, keys=source)])
    with pytest.raises(KeysUnavailableError):
        await verifier.identify(token(), now=NOW)


async def test_an_expired_token_is_told_apart() -> None:
    verifier, _, _ = pair()
    with pytest.raises(TokenExpiredError):
        await verifier.identify(token(claims={"exp": NOW - 60}), now=NOW)


async def test_without_issuers_nobody_is_known() -> None:
    with pytest.raises(TokenInvalidError):
        await TokenVerifier([]).identify(token(), now=NOW)


def test_an_issuer_listed_twice_is_a_mistake() -> None:
    twice = [
        TrustedIssuer(rules=RULES, keys=FixedKeys(keys())),
        TrustedIssuer(rules=replace(RULES, tenant_id="other"), keys=FixedKeys(keys())),
    ]
    with pytest.raises(ValueError, match="twice"):
        TokenVerifier(twice)


async def test_settling_and_closing_reach_every_source() -> None:
    verifier, mine, theirs = pair()
    await verifier.settle()
    await verifier.aclose()
    assert [(s.settled, s.closed) for s in (mine, theirs)] == [(1, 1), (1, 1)]


def imported_by(module: str) -> set[str]:
    """Return the names of all modules that importing this one brings into a fresh process."""
    script = f"import sys, {module}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


@pytest.mark.parametrize("module", ["handshake", "tickets", "demo_guard", "errors", "principal"])
def test_what_reads_a_handshake_needs_no_cryptography(module: str) -> None:
    heavy = {"jose", "cryptography", "aiohttp", "openai", "pydantic"}
    assert heavy.isdisjoint(imported_by(f"gateway.identity.{module}"))


@pytest.mark.parametrize("module", ["verifier", "jwks", "jwks_http", "local_issuer"])
def test_what_proves_a_token_needs_no_http_client(module: str) -> None:
    assert {"aiohttp", "openai"}.isdisjoint(imported_by(f"gateway.identity.{module}"))

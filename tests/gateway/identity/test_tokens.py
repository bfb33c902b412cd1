"""What a token may be, and everything that it may not."""

from dataclasses import replace

import pytest

from gateway.identity.claims import TokenRules
from gateway.identity.errors import Flaw, TokenExpiredError, TokenInvalidError
from gateway.identity.keys import FixedKeys, PublicKey
from gateway.identity.principal import Principal
from gateway.identity.verifier import TokenVerifier, TrustedIssuer
from storage.records import Owner
from tests.gateway.identity.attacks import ATTACKS, GOOD, Attack, Make
from tests.gateway.identity.forge import ISSUER, KID, NOW, RULES, keys, token, verify


def each(attacks: list[Attack]) -> list[object]:
    return [pytest.param(a, id=a.name.encode("unicode_escape").decode()[:80]) for a in attacks]


@pytest.mark.parametrize("attack", each(ATTACKS))
def test_an_attack_is_refused_by_the_check_meant_for_it(attack: Attack) -> None:
    with pytest.raises(TokenInvalidError) as refusal:
        verify(attack.make(), keys=keys(), rules=attack.rules, now=NOW)
    assert refusal.value.flaw is attack.flaw


def test_every_flaw_of_a_token_is_attacked() -> None:
    elsewhere = {Flaw.CARRIER, Flaw.TICKET}
    assert {attack.flaw for attack in ATTACKS} == set(Flaw) - elsewhere


@pytest.mark.parametrize("attack", each(ATTACKS))
async def test_an_attack_is_refused_alike_among_many_issuers(attack: Attack) -> None:
    other = replace(RULES, issuer="https://other.example", tenant_id="other")
    verifier = TokenVerifier(
        TrustedIssuer(rules=rules, keys=FixedKeys(keys())) for rules in (attack.rules, other)
    )
    with pytest.raises(TokenInvalidError):
        await verifier.identify(attack.make(), now=NOW)


@pytest.mark.parametrize(("make", "rules"), GOOD.values(), ids=GOOD.keys())
def test_a_good_token_is_accepted(make: Make, rules: TokenRules) -> None:
    principal = verify(make(), keys=keys(), rules=rules, now=NOW)
    assert principal.tenant_id == "acme"
    assert principal.issuer == ISSUER


def test_a_principal_says_what_the_token_proved() -> None:
    principal = verify(token(), keys=keys(), rules=RULES, now=NOW)
    assert principal == Principal(
        tenant_id="acme", user_id="user-1", issuer=ISSUER, token_expires_at=NOW + 3600
    )
    assert principal.owner == Owner(tenant_id="acme", user_id="user-1")


@pytest.mark.parametrize("claim_name", ["tenant_id", "custom:tenant_id", "tenant", "owner"])
def test_no_claim_selects_the_tenant(claim_name: str) -> None:
    made = token(claims={claim_name: "evil"})
    assert verify(made, keys=keys(), rules=RULES, now=NOW).tenant_id == "acme"


@pytest.mark.parametrize("ago", [30, 30.5, 3600, 10**9, NOW])
def test_a_token_that_only_expired_is_told_apart(ago: float) -> None:
    with pytest.raises(TokenExpiredError):
        verify(token(claims={"exp": NOW - ago}), keys=keys(), rules=RULES, now=NOW)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: token(claims={"exp": 1, "iss": "https://evil.example"}), id="issuer"),
        pytest.param(lambda: token(claims={"exp": 1, "sub": "a#b"}), id="subject"),
        pytest.param(lambda: token(claims={"exp": 1, "client_id": "x"}), id="audience"),
        pytest.param(lambda: token(claims={"exp": 1, "token_use": "id"}), id="token use"),
        pytest.param(lambda: token(claims={"exp": 1}, key="attacker"), id="signature"),
    ],
)
def test_an_expired_token_with_another_flaw_is_invalid(make: Make) -> None:
    with pytest.raises(TokenInvalidError):
        verify(make(), keys=keys(), rules=RULES, now=NOW)


@pytest.mark.parametrize("leeway", [0, 30, 60])
def test_the_leeway_widens_both_ends(leeway: int) -> None:
    rules = replace(RULES, leeway_s=leeway)
    good = token(claims={"exp": NOW - leeway + 1, "nbf": NOW + leeway})
    verify(good, keys=keys(), rules=rules, now=NOW)
    with pytest.raises(TokenExpiredError):
        verify(token(claims={"exp": NOW - leeway}), keys=keys(), rules=rules, now=NOW)
    with pytest.raises(TokenInvalidError):
        verify(token(claims={"nbf": NOW + leeway + 1}), keys=keys(), rules=rules, now=NOW)


def test_whatever_the_key_raises_is_the_tokens_fault() -> None:
    class Broken:
        def verify(self, _signed: bytes, _signature: bytes) -> bool:
            raise RuntimeError("a library's own words")

    broken = {KID: PublicKey(kid=KID, modulus=1, rs256=Broken())}
    with pytest.raises(TokenInvalidError) as refusal:
        verify(token(), keys=broken, rules=RULES, now=NOW)
    assert refusal.value.flaw is Flaw.SIGNATURE
    assert "words" not in str(refusal.value)


@pytest.mark.parametrize(
    "members",
    [
        {"issuer": ""},
        {"audience": frozenset()},
        {"audience": frozenset({""})},
        {"tenant_id": ""},
        {"tenant_id": "a#b"},
        {"leeway_s": -1},
        {"leeway_s": 61},
        {"leeway_s": float("nan")},
    ],
    ids=str,
)
def test_rules_that_would_let_too_much_in_cannot_be_made(members: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="issuer"):
        replace(RULES, **members)

"""The server as its own issuer."""

import json

import pytest

from gateway.identity.errors import TokenExpiredError, TokenInvalidError
from gateway.identity.keys import read_jwks
from gateway.identity.local_issuer import MAX_TTL_S, LocalIssuer, _thumbprint
from gateway.identity.tokens import parse
from gateway.identity.verifier import TokenVerifier
from tests.gateway.identity.forge import NOW, private_key

NAME = "http://127.0.0.1:8765"


def issuer(key: str = "issuer", tenant_id: str = "local", name: str = NAME) -> LocalIssuer:
    return LocalIssuer(private_key(key), issuer=name, audience="makoto", tenant_id=tenant_id)


async def test_a_minted_token_identifies_its_user() -> None:
    own = issuer()
    principal = await TokenVerifier([own.trusted()]).identify(
        own.mint("demo", ttl_s=900, now=NOW + 0.7), now=NOW + 1
    )
    assert (principal.tenant_id, principal.user_id, principal.issuer) == ("local", "demo", NAME)
    assert principal.token_expires_at == NOW + 900


async def test_a_minted_token_is_good_at_once_and_expires() -> None:
    own = issuer()
    verifier = TokenVerifier([own.trusted()])
    minted = own.mint("demo", ttl_s=1, now=NOW + 0.999)
    await verifier.identify(minted, now=NOW)
    with pytest.raises(TokenExpiredError):
        await verifier.identify(minted, now=NOW + 120)


def test_a_minted_token_says_all_that_an_access_token_does() -> None:
    own = issuer()
    unproved = parse(own.mint("demo", ttl_s=900, now=NOW + 0.9))
    assert unproved.claims == {
        "iss": NAME,
        "sub": "demo",
        "aud": "makoto",
        "client_id": "makoto",
        "token_use": "access",
        "iat": NOW,
        "nbf": NOW,
        "exp": NOW + 900,
    }
    assert list(read_jwks(own.jwks_document())) == [unproved.kid]


async def test_the_served_keys_prove_its_tokens_and_hold_nothing_private() -> None:
    own = issuer()
    (entry,) = json.loads(own.jwks_document())["keys"]
    assert entry.keys() == {"kty", "n", "e", "kid", "use", "alg"}


def test_a_key_keeps_its_name_and_another_has_its_own() -> None:
    names = [
        json.loads(issuer(k).jwks_document())["keys"][0]["kid"] for k in ("issuer", "issuer", "x")
    ]
    assert names[0] == names[1] != names[2]


def test_the_name_of_a_key_is_its_thumbprint() -> None:
    # The example of RFC 7638 section 3.1, through the same two steps.
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMs"
        "tn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
    )
    assert (
        _thumbprint({"kty": "RSA", "n": modulus, "e": "AQAB"})
        == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
    )


async def test_tenants_are_kept_apart_by_issuer_even_with_one_key() -> None:
    one, other = issuer(tenant_id="one"), issuer(tenant_id="other", name=f"{NAME}/other")
    verifier = TokenVerifier([one.trusted(), other.trusted()])
    first = await verifier.identify(one.mint("u", ttl_s=60, now=NOW), now=NOW)
    second = await verifier.identify(other.mint("u", ttl_s=60, now=NOW), now=NOW)
    assert (first.tenant_id, second.tenant_id) == ("one", "other")
    assert first.owner != second.owner


async def test_a_server_with_another_key_does_not_know_its_tokens() -> None:
    with pytest.raises(TokenInvalidError):
        await TokenVerifier([issuer("second").trusted()]).identify(
            issuer().mint("demo", ttl_s=60, now=NOW), now=NOW
        )


@pytest.mark.parametrize("user_id", ["", "a b", "a#b", "真琴", "x" * 129, "a\n"])
def test_a_user_that_no_token_may_name_gets_none(user_id: str) -> None:
    with pytest.raises(ValueError, match="user id"):
        issuer().mint(user_id, ttl_s=60, now=NOW)


@pytest.mark.parametrize("ttl_s", [0, -1, MAX_TTL_S + 1])
def test_a_token_is_short_lived(ttl_s: int) -> None:
    with pytest.raises(ValueError, match="seconds"):
        issuer().mint("demo", ttl_s=ttl_s, now=NOW)


@pytest.mark.parametrize("names", [{"name": ""}, {"tenant_id": ""}, {"tenant_id": "a#b"}], ids=str)
def test_an_issuer_without_a_name_or_tenant_cannot_be_made(names: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="issuer"):
        issuer(**names)

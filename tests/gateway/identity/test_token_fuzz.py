"""Tokens that nobody thought of: mutations of a good one, and anything that JSON can say."""

import re
import string

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.identity.errors import IdentityError, TokenInvalidError
from tests.gateway.identity.forge import (
    CLAIMS,
    HEADER,
    KID,
    NOW,
    OIDC_RULES,
    RULES,
    keys,
    token,
    verify,
)

GOOD = token()
LETTERS = string.ascii_letters + string.digits + "-_.=+/ \n\x00é猫"
POSITIONS = st.integers(0, len(GOOD) - 1)

# A tampered token is refused whatever else is true of it; the fuzz only varies how.
Mutation = st.one_of(
    st.tuples(st.just("replace"), POSITIONS, st.text(LETTERS, min_size=1, max_size=4)),
    st.tuples(st.just("insert"), POSITIONS, st.text(LETTERS, min_size=1, max_size=4)),
    st.tuples(st.just("delete"), POSITIONS, st.integers(1, 8)),
    st.tuples(st.just("repeat"), POSITIONS, st.integers(1, 8)),
    st.tuples(st.just("swap"), POSITIONS, POSITIONS),
    st.tuples(st.just("case"), POSITIONS, st.just(0)),
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


def mutate(text: str, kind: str, at: int, what: int | str) -> str:
    match kind, what:
        case "replace", str():
            return text[:at] + what + text[at + len(what) :]
        case "insert", str():
            return text[:at] + what + text[at:]
        case "delete", int():
            return text[:at] + text[at + what :]
        case "repeat", int():
            return text[: at + what] + text[at:]
        case "swap", int():
            low, high = sorted((at, what))
            return text[:low] + text[high:] + text[low:high]
        case _:
            return text[:at] + text[at : at + 1].swapcase() + text[at + 1 :]


@settings(max_examples=600, deadline=None)
@given(st.lists(Mutation, min_size=1, max_size=3))
def test_a_mutated_token_is_never_accepted(mutations: list[tuple[str, int, int | str]]) -> None:
    mutated = GOOD
    for kind, at, what in mutations:
        mutated = mutate(mutated, kind, at, what)
    try:
        verify(mutated, keys=keys(), rules=RULES, now=NOW)
    except TokenInvalidError:
        return
    assert mutated == GOOD


@settings(max_examples=200, deadline=None)
@given(st.text() | st.from_regex(re.compile(r"[A-Za-z0-9_-]{0,40}(\.[A-Za-z0-9_-]{0,40}){0,4}")))
def test_any_text_is_refused_with_a_typed_error(text: str) -> None:
    try:
        verify(text, keys=keys(), rules=RULES, now=NOW)
    except TokenInvalidError:
        return
    raise AssertionError("accepted")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_any_signed_bytes_as_claims_are_refused_with_a_typed_error(content: bytes) -> None:
    try:
        verify(token(claims=content or b" "), keys=keys(), rules=RULES, now=NOW)
    except TokenInvalidError:
        return
    raise AssertionError("accepted")


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from([*CLAIMS, "x"]), JSON, max_size=3))
def test_any_signed_claims_give_a_sound_principal_or_a_typed_error(
    claims: dict[str, object],
) -> None:
    try:
        principal = verify(token(claims=claims), keys=keys(), rules=OIDC_RULES, now=NOW)
    except IdentityError:
        return
    assert re.fullmatch(r"[A-Za-z0-9_.:@=-]{1,128}", principal.user_id)
    assert principal.tenant_id == "acme"
    assert NOW - 30 < principal.token_expires_at < 10**12


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["alg", "kid", "typ", "crit", "b64", "cty", "x"]), JSON, max_size=3
    )
)
def test_any_signed_header_is_accepted_only_as_rs256_by_a_known_key(
    header: dict[str, object],
) -> None:
    try:
        verify(token(header=header), keys=keys(), rules=RULES, now=NOW)
    except TokenInvalidError:
        return
    effective = {**HEADER, **header}
    assert effective["alg"] == "RS256"
    assert effective["kid"] == KID
    assert effective.keys().isdisjoint({"crit", "b64", "cty"})

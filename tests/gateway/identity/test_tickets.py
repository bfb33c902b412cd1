"""Tickets: made, stored by hash, redeemed."""

import hashlib
import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.identity.errors import Flaw, TokenInvalidError
from gateway.identity.principal import Principal
from gateway.identity.tickets import redeemed, ticket_hash, ticket_record, ticket_text

NOW = 1_800_000_000.0
PRINCIPAL = Principal(
    tenant_id="acme", user_id="user-1", issuer="https://i.example", token_expires_at=NOW + 3600
)


@given(st.binary(min_size=16, max_size=16))
def test_every_ticket_has_the_shape_that_is_accepted(random: bytes) -> None:
    text = ticket_text(random)
    assert len(text) == 22
    assert ticket_hash(text) == hashlib.sha256(text.encode()).hexdigest()


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16))
def test_different_randomness_gives_different_tickets(one: bytes, other: bytes) -> None:
    assert (ticket_text(one) == ticket_text(other)) == (one == other)


@pytest.mark.parametrize("size", [0, 15, 17, 32])
def test_a_ticket_takes_128_bits(size: int) -> None:
    with pytest.raises(ValueError, match="16"):
        ticket_text(bytes(size))


GOOD = "A" * 22


@pytest.mark.parametrize(
    "text",
    [
        *("", "A", "A" * 21, "A" * 23, "A" * 4096, GOOD + "\n", " " + GOOD, GOOD + "=="),
        *("A" * 21 + "B", "A" * 21 + "+", "+" + "A" * 21, "/" + "A" * 21, "é" + "A" * 21),
        *("Ａ" * 22, "A" * 21 + "\x00", "A" * 10 + " " + "A" * 11, "\ud83d" * 22),
    ],
)
def test_what_never_was_a_ticket_is_refused_before_storage_is_asked(text: str) -> None:
    with pytest.raises(TokenInvalidError) as refusal:
        ticket_hash(text)
    assert refusal.value.flaw is Flaw.TICKET


def test_a_record_does_not_hold_the_ticket() -> None:
    text = ticket_text(secrets.token_bytes(16))
    record = ticket_record(text, PRINCIPAL, now=NOW)
    assert text not in repr(record)
    assert record.owner == PRINCIPAL.owner


@pytest.mark.parametrize(("left", "lives"), [(3600, 60), (60, 60), (59, 59), (1, 1), (-5, -5)])
def test_a_ticket_outlives_neither_a_minute_nor_the_token(left: float, lives: float) -> None:
    principal = Principal(
        tenant_id="acme", user_id="u", issuer="https://i.example", token_expires_at=NOW + left
    )
    assert ticket_record(GOOD, principal, now=NOW).expires_at == NOW + lives


def test_a_redeemed_ticket_gives_the_same_principal_back() -> None:
    assert redeemed(ticket_record(GOOD, PRINCIPAL, now=NOW)) == PRINCIPAL


def test_a_ticket_that_storage_does_not_give_up_is_refused() -> None:
    with pytest.raises(TokenInvalidError):
        redeemed(None)

"""Tickets: a single-use stand-in for a token, for handshakes that cannot carry one.

A ticket is 128 random bits as 22 characters of base64url. Its text is shown once, to whoever proved
a token over HTTP; stored is its SHA-256, from which nobody can get back to it. It opens one connection
within 60 seconds, and that connection's identity ends when the token's would. Pure: the randomness, the
time and the storage (`storage.repositories.Tickets`) are the caller's.
"""

import base64
import hashlib
import re
from typing import Final

from gateway.identity.errors import Flaw, TokenInvalidError
from gateway.identity.principal import Principal
from storage import ttl
from storage.records import Ticket

TICKET_RANDOM_BYTES: Final = 16

# 128 bits fill 21 characters and the upper two bits of the 22nd.
_SHAPE: Final = re.compile(r"[A-Za-z0-9_-]{21}[AQgw]")


def ticket_text(random: bytes) -> str:
    """Spell a ticket.

    Args:
        random: 16 bytes of a cryptographic source (`secrets.token_bytes`), used for nothing else.

    Raises:
        ValueError: another number of bytes; the caller's fault.
    """
    if len(random) != TICKET_RANDOM_BYTES:
        raise ValueError(f"a ticket takes {TICKET_RANDOM_BYTES} random bytes, not {len(random)}")
    return base64.urlsafe_b64encode(random).rstrip(b"=").decode("ascii")


def ticket_hash(text: str) -> str:
    """Return the hex SHA-256 that a ticket is stored under.

    Args:
        text: as a client sent it.

    Raises:
        TokenInvalidError: it never was a ticket, so that storage need not be asked.
    """
    if not _SHAPE.fullmatch(text):
        raise TokenInvalidError(Flaw.TICKET)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def ticket_record(text: str, principal: Principal, *, now: float) -> Ticket:
    """Return what to store of a ticket for this principal.

    Args:
        text: from `ticket_text`.
        principal: who gets it.
        now: Unix time in seconds.
    """
    return Ticket(
        ticket_hash=ticket_hash(text),
        owner=principal.owner,
        issuer=principal.issuer,
        auth_expires_at=principal.token_expires_at,
        expires_at=min(now + ttl.TICKET, principal.token_expires_at),
    )


def redeemed(ticket: Ticket | None) -> Principal:
    """Return who a ticket stood for.

    Args:
        ticket: as storage has found it, or given it up to this caller alone; `None` if it had none that is
            still good.

    Raises:
        TokenInvalidError: unknown, used or too late; which of them is not told.
    """
    if ticket is None:
        raise TokenInvalidError(Flaw.TICKET)
    return Principal(
        tenant_id=ticket.owner.tenant_id,
        user_id=ticket.owner.user_id,
        issuer=ticket.issuer,
        token_expires_at=ticket.auth_expires_at,
    )

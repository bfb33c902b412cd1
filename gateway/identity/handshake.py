"""What a WebSocket handshake says about who is calling. Pure; proves nothing.

A credential comes in one place, once. More than one is refused rather than ranked: two readers of one
request must never pick different ones.

===============================  ===============================================  ================
where                            who                                              without `Origin`
===============================  ===============================================  ================
``Sec-WebSocket-Protocol``       browsers: ``makoto.v1, bearer.<jwt>``            refused
``Authorization: Bearer <jwt>``  everybody else                                   allowed
``?ticket=``                     whoever got one (see `gateway.identity.tickets`) allowed
``?token=``                      nobody, unless the operator turns it on          refused
nowhere                          where the host waits for ``hello{token}``        refused
===============================  ===============================================  ================

An `Origin` that is there must be on the list, whatever the credential: browsers always send it, so
this keeps other people's pages out (RFC 6455 section 10.2).
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from gateway.identity.errors import (
    AuthRequiredError,
    Flaw,
    OriginDeniedError,
    TokenInvalidError,
)
from gateway.wire.limits import SUBPROTOCOL

_BEARER_ITEM: Final = "bearer."

# RFC 6750 section 2.1 (`b64token`); a scheme's name is case-insensitive (RFC 9110 section 11.1).
_AUTHORIZATION: Final = re.compile(r"(?i:bearer) +([A-Za-z0-9._~+/-]+=*)")

# RFC 6454 section 6.2, as browsers write it: lower case, no path, no default port.
_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://(?:\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?")
_DEFAULT_PORT: Final = re.compile(r"http://.*:80|https://.*:443")

Pairs = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class HandshakePolicy:
    """What the operator allows.

    Attributes:
        origins: exact origins of the pages that may connect, as browsers write them:
            ``https://chat.example``, ``http://localhost:8765``. Empty: no page may.
        admits_unidentified: whether a socket may open without a credential, to bring one in `hello`.
            False where nothing runs that would time it out.
        reads_query_token: whether ``?token=`` is a credential. URLs end up in logs: leave it off.

    Raises:
        ValueError: an origin that no browser would send; the operator's mistake, told in one line.
    """

    origins: frozenset[str]
    admits_unidentified: bool = False
    reads_query_token: bool = False

    def __post_init__(self) -> None:
        for origin in self.origins:
            if not _ORIGIN.fullmatch(origin) or _DEFAULT_PORT.fullmatch(origin):
                raise ValueError(
                    f"not an origin as browsers send it (scheme://host, with the port if it is "
                    f"not the scheme's own, lower case, no path): {origin}"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Bearer:
    """A token, not yet proved. Hand it to the verifier."""

    token: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketOffer:
    """A ticket's text, not yet redeemed."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unidentified:
    """Nothing was offered, and the host lets the socket open for a `hello` with a token."""


Credential = Bearer | TicketOffer | Unidentified


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A handshake that may go on to proof.

    Attributes:
        credential: what it brings.
        subprotocol: the value to answer as `Sec-WebSocket-Protocol`; `None`: send no such header. Never
            answer with anything else that was offered, for a token may be among it.
    """

    credential: Credential
    subprotocol: str | None


def read_handshake(headers: Pairs, query: Pairs, *, policy: HandshakePolicy) -> Offer:
    """Find the credential of a handshake.

    Args:
        headers: all request headers in order, one pair per line as received; names in any case.
        query: the decoded query parameters in order, repeated ones kept.
        policy: what the operator allows.

    Raises:
        OriginDeniedError: not from an allowed page.
        TokenInvalidError: a credential that is malformed, repeated or in a place that is turned off.
        AuthRequiredError: none, where one is needed.
    """
    lines = [(name.lower(), value.strip(" \t")) for name, value in headers]
    parameters = list(query)
    origins = _values(lines, "origin")
    if len(origins) > 1 or not policy.origins.issuperset(origins):
        raise OriginDeniedError("the Origin is not on the list")
    protocols = _items(_values(lines, "sec-websocket-protocol"))
    of_anybody: list[Credential] = [*_authorization(lines), *_tickets(parameters)]
    of_pages: list[Credential] = [*_bearer_items(protocols), *_query_tokens(parameters, policy)]
    found = of_anybody + of_pages
    if len(found) > 1:
        raise TokenInvalidError(Flaw.CARRIER)
    if not found and not policy.admits_unidentified:
        raise AuthRequiredError("no credential in the handshake")
    if not origins and not of_anybody:
        raise OriginDeniedError("no Origin, and no credential that goes without")
    return Offer(
        credential=found[0] if found else Unidentified(),
        subprotocol=SUBPROTOCOL if SUBPROTOCOL in protocols else None,
    )


def bearer_token(headers: Pairs) -> str:
    """Return the token of a plain HTTP request, which comes as ``Authorization: Bearer``.

    Raises:
        AuthRequiredError: there is none.
        TokenInvalidError: more than one, or malformed.
    """
    found = list(_authorization((name.lower(), value.strip(" \t")) for name, value in headers))
    if not found:
        raise AuthRequiredError("no credential in the request")
    if len(found) > 1:
        raise TokenInvalidError(Flaw.CARRIER)
    return found[0].token


def _values(pairs: Pairs, name: str) -> list[str]:
    return [value for named, value in pairs if named == name]


def _items(lines: Iterable[str]) -> list[str]:
    """Split list header lines; several lines are one list (RFC 9110 section 5.3)."""
    return [item.strip(" \t") for line in lines for item in line.split(",")]


def _authorization(lines: Pairs) -> Iterator[Bearer]:
    for value in _values(lines, "authorization"):
        match = _AUTHORIZATION.fullmatch(value)
        if match is None:
            raise TokenInvalidError(Flaw.CARRIER)
        yield Bearer(token=match[1])


def _bearer_items(protocols: Iterable[str]) -> Iterator[Bearer]:
    for item in protocols:
        if item.startswith(_BEARER_ITEM):
            yield Bearer(token=item.removeprefix(_BEARER_ITEM))


def _tickets(parameters: Pairs) -> Iterator[TicketOffer]:
    return (TicketOffer(text=text) for text in _values(parameters, "ticket"))


def _query_tokens(parameters: Pairs, policy: HandshakePolicy) -> Iterator[Bearer]:
    for token in _values(parameters, "token"):
        if not policy.reads_query_token:
            raise TokenInvalidError(Flaw.CARRIER)
        yield Bearer(token=token)

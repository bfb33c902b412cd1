"""Letting a connection in, and renewing who it is: credentials in, connection records out."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from gateway.identity.errors import Flaw, OriginDeniedError, TokenExpiredError, TokenInvalidError
from gateway.identity.handshake import (
    Bearer,
    Credential,
    HandshakePolicy,
    TicketOffer,
    read_handshake,
)
from gateway.identity.principal import Principal
from gateway.identity.tickets import redeemed, ticket_hash, ticket_record, ticket_text
from gateway.identity.verifier import TokenVerifier
from storage.records import Connection, Owner, Ticket
from storage.repositories import Connections, Tickets

DENIED_MAX: Final = 100
"""How many denied origins are logged, each once: anybody can make up more."""

log = logging.getLogger(__name__)


class Door(Protocol):
    """What of a `Store` is asked before it is known who comes."""

    @property
    def tickets(self) -> Tickets:
        """Handshake tickets."""
        ...

    @property
    def connections(self) -> Connections:
        """Open connections."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Handshake:
    """A request to open a WebSocket, as every host can describe it.

    Attributes:
        connection_id: made by the host, unguessable.
        headers: all request headers in order, one pair per line as received.
        query: the decoded query parameters in order.
        lifetime_s: after how many seconds the platform will close the connection.
    """

    connection_id: str
    headers: Sequence[tuple[str, str]]
    query: Sequence[tuple[str, str]]
    lifetime_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """A handshake to be accepted, with the subprotocol to answer (`None`: without that header)."""

    connection: Connection
    subprotocol: str | None


class Admission:
    """Decides who comes in.

    Args:
        store: redeems tickets and keeps connections.
        verifier: proves tokens.
        policy: what a handshake may look like.
        clock: Unix time in seconds.
        allow: asked before a connection or a ticket is stored for a user; raises what that user is told
            if it shall not be.
    """

    def __init__(
        self,
        *,
        store: Door,
        verifier: TokenVerifier,
        policy: HandshakePolicy,
        clock: Callable[[], float],
        allow: Callable[[Owner], None] | None = None,
    ) -> None:
        self._store = store
        self._verifier = verifier
        self._policy = policy
        self._clock = clock
        self._allow = allow
        self._denied: set[str] = set()

    async def admit(self, handshake: Handshake) -> Admitted:
        """Judge a handshake and store its connection.

        Raises:
            IdentityError: it is refused.
            WireError: this user, who is known, shall not have a connection now; see `allow`. His ticket
                stays good.
            StorageUnavailableError: the connection cannot be stored.
        """
        try:
            offer = read_handshake(handshake.headers, handshake.query, policy=self._policy)
        except OriginDeniedError:
            self._log_denied(handshake.headers)
            raise
        now = self._clock()
        principal: Principal | None = None
        auth_expires_at = 0.0
        try:
            principal = await self._principal(offer.credential)
        except TokenExpiredError:
            # A refused handshake tells a browser nothing; let it in to hear `auth.expired`.
            if not self._policy.admits_unidentified:
                raise
            auth_expires_at = now
        connection = Connection(
            connection_id=handshake.connection_id,
            owner=principal.owner if principal else None,
            issuer=principal.issuer if principal else "",
            auth_expires_at=principal.token_expires_at if principal else auth_expires_at,
            opened_at=now,
            expires_at=now + handshake.lifetime_s,
        )
        await self._store.connections.save(connection)
        return Admitted(connection=connection, subprotocol=offer.subprotocol)

    async def identify(self, connection: Connection, token: str) -> Connection:
        """Prove a token for an open connection: who it is, or that it still is.

        Returns:
            The connection as it is now, stored.

        Raises:
            IdentityError: the token proves nothing, or another person than the connection's.
            StorageUnavailableError: the connection cannot be stored.
        """
        principal = await self._verifier.identify(token, now=self._clock())
        if connection.owner is not None and (
            connection.owner != principal.owner or connection.issuer != principal.issuer
        ):
            raise TokenInvalidError(Flaw.SUBJECT)
        renewed = replace(
            connection,
            owner=principal.owner,
            issuer=principal.issuer,
            auth_expires_at=principal.token_expires_at,
        )
        await self._store.connections.save(renewed)
        return renewed

    async def sell_ticket(self, token: str, random: bytes) -> tuple[str, Ticket]:
        """Exchange a token for a ticket; returns its text, to be shown once, and its record.

        Raises:
            IdentityError: the token proves nothing.
            WireError: this user shall not have a ticket now; see `allow`.
            StorageUnavailableError: the ticket cannot be stored.
        """
        now = self._clock()
        principal = await self._verifier.identify(token, now=now)
        if self._allow is not None:
            self._allow(principal.owner)
        text = ticket_text(random)
        ticket = ticket_record(text, principal, now=now)
        await self._store.tickets.issue(ticket)
        return text, ticket

    def _log_denied(self, headers: Sequence[tuple[str, str]]) -> None:
        """Tell the operator, once, which page was turned away: its own visitors cannot see why."""
        origin = ", ".join(value for name, value in headers if name.lower() == "origin")[:200]
        if origin not in self._denied and len(self._denied) < DENIED_MAX:
            self._denied.add(origin)
            log.warning("origin denied", extra={"origin": origin})

    async def _principal(self, credential: Credential) -> Principal | None:
        match credential:
            case Bearer(token=token):
                principal = await self._verifier.identify(token, now=self._clock())
                if self._allow is not None:
                    self._allow(principal.owner)
                return principal
            case TicketOffer(text=text):
                return await self._redeem(text)
        return None

    async def _redeem(self, text: str) -> Principal:
        name, now = ticket_hash(text), self._clock()
        if self._allow is not None:  # before it is used up: it has opened nothing
            found = await self._store.tickets.find(name, now=now)
            self._allow(redeemed(found).owner)
        return redeemed(await self._store.tickets.redeem(name, now=now))

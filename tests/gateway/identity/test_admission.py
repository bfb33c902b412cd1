"""Who is let in, as whom, and how that is renewed."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.identity.admission import DENIED_MAX, Admission, Handshake
from gateway.identity.errors import (
    AuthRequiredError,
    Flaw,
    IdentityError,
    KeysUnavailableError,
    OriginDeniedError,
    TokenExpiredError,
    TokenInvalidError,
)
from gateway.identity.handshake import HandshakePolicy
from gateway.identity.keys import FixedKeys, PublicKey
from gateway.identity.verifier import TokenVerifier, TrustedIssuer
from gateway.wire.errors import RateLimitedError
from storage import ttl
from storage.errors import StorageUnavailableError
from storage.records import Connection, Owner, Ticket
from tests.gateway.identity.forge import ISSUER, NOW, RULES, keys, token

OTHER = "https://other.example"
PAGE = "https://chat.example"
USER = Owner(tenant_id="acme", user_id="user-1")


class Rows:
    """The connections and tickets of a store, in dictionaries."""

    def __init__(self) -> None:
        self.connections_by_id: dict[str, Connection] = {}
        self.tickets_by_hash: dict[str, Ticket] = {}
        self.refusing = False
        self.connections = SimpleNamespace(save=self._save)
        self.tickets = SimpleNamespace(issue=self._issue, find=self._find, redeem=self._redeem)

    def _check(self) -> None:
        if self.refusing:
            raise StorageUnavailableError("refusing")

    async def _save(self, connection: Connection) -> None:
        self._check()
        self.connections_by_id[connection.connection_id] = connection

    async def _issue(self, ticket: Ticket) -> None:
        self._check()
        self.tickets_by_hash[ticket.ticket_hash] = ticket

    async def _find(self, ticket_hash: str, *, now: float) -> Ticket | None:
        self._check()
        ticket = self.tickets_by_hash.get(ticket_hash)
        return ticket if ticket is not None and ticket.expires_at > now else None

    async def _redeem(self, ticket_hash: str, *, now: float) -> Ticket | None:
        self._check()
        ticket = self.tickets_by_hash.pop(ticket_hash, None)
        return ticket if ticket is not None and ticket.expires_at > now else None


class BrokenKeys(FixedKeys):
    async def find(self, kid: str) -> PublicKey | None:
        raise KeysUnavailableError("no keys")


class Door:
    """An admission over rows that the test sees, and a clock that it turns."""

    def __init__(self, **policy: Any) -> None:
        self.now = NOW
        self.rows = Rows()
        self.admission = Admission(
            store=self.rows,  # type: ignore[arg-type] # only these two are used
            verifier=TokenVerifier(
                [
                    TrustedIssuer(rules=RULES, keys=FixedKeys(keys())),
                    TrustedIssuer(
                        rules=replace(RULES, issuer=OTHER, tenant_id="other"),
                        keys=FixedKeys(keys()),
                    ),
                    TrustedIssuer(
                        rules=replace(RULES, issuer="https://down.example", tenant_id="down"),
                        keys=BrokenKeys({}),
                    ),
                ]
            ),
            policy=HandshakePolicy(
                origins=frozenset({PAGE}), **{"admits_unidentified": True, **policy}
            ),
            clock=lambda: self.now,
            allow=self._allow,
        )
        self.refused: set[Owner] = set()

    def _allow(self, owner: Owner) -> None:
        if owner in self.refused:
            raise RateLimitedError

    async def open(
        self,
        *headers: tuple[str, str],
        query: tuple[tuple[str, str], ...] = (),
        connection_id: str = "c1",
    ) -> Any:
        return await self.admission.admit(
            Handshake(connection_id=connection_id, headers=headers, query=query, lifetime_s=7_200.0)
        )


@pytest.fixture
def door() -> Door:
    return Door()


def bearer(made: str) -> tuple[str, str]:
    return ("Authorization", f"Bearer {made}")


def page(made: str | None = None) -> tuple[tuple[str, str], tuple[str, str]]:
    offered = "makoto.v1" if made is None else f"makoto.v1, bearer.{made}"
    return ("Origin", PAGE), ("Sec-WebSocket-Protocol", offered)


# The handshake


@pytest.mark.parametrize("kind", ["page", "header"])
async def test_a_token_opens_a_connection_of_its_user(door: Door, kind: str) -> None:
    made = token()
    headers = page(made) if kind == "page" else (bearer(made),)
    admitted = await door.open(*headers)
    assert admitted.connection == Connection(
        connection_id="c1",
        owner=USER,
        issuer=ISSUER,
        auth_expires_at=NOW + 3_600,
        opened_at=NOW,
        expires_at=NOW + 7_200,
    )
    assert admitted.subprotocol == ("makoto.v1" if kind == "page" else None)
    assert door.rows.connections_by_id == {"c1": admitted.connection}


async def test_the_tenant_comes_from_the_issuer(door: Door) -> None:
    admitted = await door.open(bearer(token(claims={"iss": OTHER, "tenant": "acme"})))
    assert admitted.connection.owner == Owner(tenant_id="other", user_id="user-1")


async def test_a_page_may_bring_its_token_later(door: Door) -> None:
    admitted = await door.open(*page())
    assert (admitted.connection.owner, admitted.connection.auth_expires_at) == (None, 0.0)
    assert admitted.subprotocol == "makoto.v1"


async def test_an_expired_token_is_let_in_to_hear_so(door: Door) -> None:
    admitted = await door.open(*page(token(claims={"exp": NOW - 1_000})))
    assert admitted.connection.owner is None
    assert admitted.connection.issuer == ""
    assert admitted.connection.auth_expires_at == NOW  # what tells it from one that brought none


async def test_where_nothing_times_them_out_nobody_is_let_in_unidentified() -> None:
    door = Door(admits_unidentified=False)
    with pytest.raises(TokenExpiredError):
        await door.open(*page(token(claims={"exp": NOW - 1_000})))
    with pytest.raises(AuthRequiredError):
        await door.open(*page())
    assert door.rows.connections_by_id == {}


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        (page("garbage"), TokenInvalidError),
        (page(token(claims={"aud": "x", "client_id": "x"})), TokenInvalidError),
        (page(token(claims={"iss": "https://down.example"})), KeysUnavailableError),
        ((("Origin", "https://evil.example"), bearer(token())), OriginDeniedError),
        ((), OriginDeniedError),
        ((*page(token()), bearer(token())), TokenInvalidError),
    ],
    ids=["garbage", "not for us", "keys down", "evil page", "nothing", "two credentials"],
)
async def test_who_is_refused(
    door: Door, headers: tuple[tuple[str, str], ...], error: type[IdentityError]
) -> None:
    with pytest.raises(error):
        await door.open(*headers)
    assert door.rows.connections_by_id == {}


async def test_an_origin_that_is_denied_is_logged_once(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    for origin in ("https://evil.example", "https://evil.example", "https://other.example"):
        with pytest.raises(OriginDeniedError):
            await door.open(("Origin", origin), bearer("secret-token"))
    with pytest.raises(OriginDeniedError):
        await door.open(("Origin", "x" * 9_000))
    for number in range(2 * DENIED_MAX):
        with pytest.raises(OriginDeniedError):
            await door.open(("Origin", f"https://{number}.example"))
    told = [
        vars(record)["origin"] for record in caplog.records if record.message == "origin denied"
    ]
    assert told[:3] == ["https://evil.example", "https://other.example", "x" * 200]
    assert len(told) == DENIED_MAX
    assert "secret" not in str([vars(record) for record in caplog.records])


@pytest.mark.parametrize("allowed", [True, False])
async def test_a_token_in_the_query_is_a_setting(allowed: bool) -> None:
    door = Door(reads_query_token=allowed)
    query = (("token", token()),)
    if allowed:
        assert (await door.open(("Origin", PAGE), query=query)).connection.owner == USER
    else:
        with pytest.raises(TokenInvalidError):
            await door.open(("Origin", PAGE), query=query)


async def test_a_user_who_comes_too_often_gets_neither_connection_nor_ticket(door: Door) -> None:
    text, _ = await door.admission.sell_ticket(token(), b"r" * 16)
    door.refused.add(USER)
    for headers, query in (((bearer(token()),), ()), ((), (("ticket", text),))):
        with pytest.raises(RateLimitedError):
            await door.open(*headers, query=query)
    with pytest.raises(RateLimitedError):
        await door.admission.sell_ticket(token(), b"s" * 16)
    assert door.rows.connections_by_id == {}
    assert len(door.rows.tickets_by_hash) == 1
    await door.open(bearer(token(claims={"sub": "user-2"})))
    await door.open(*page())  # nobody yet


async def test_a_ticket_that_meets_the_rate_opens_one_connection_later(door: Door) -> None:
    text, _ = await door.admission.sell_ticket(token(), b"r" * 16)
    door.refused.add(USER)
    for _ in range(2):
        with pytest.raises(RateLimitedError):
            await door.open(query=(("ticket", text),))
    door.refused.clear()
    assert (await door.open(query=(("ticket", text),))).connection.owner == USER
    with pytest.raises(TokenInvalidError):
        await door.open(query=(("ticket", text),))


async def test_a_ticket_that_meets_the_rate_is_at_no_time_used_up(door: Door) -> None:
    text, _ = await door.admission.sell_ticket(token(), b"r" * 16)
    del door.rows.tickets.redeem, door.rows.tickets.issue
    door.refused.add(USER)
    with pytest.raises(RateLimitedError):
        await door.open(query=(("ticket", text),))


async def test_a_connection_that_cannot_be_stored_is_not_opened(door: Door) -> None:
    door.rows.refusing = True
    with pytest.raises(StorageUnavailableError):
        await door.open(bearer(token()))


# Tickets


async def test_a_ticket_opens_one_connection(door: Door) -> None:
    text, record = await door.admission.sell_ticket(token(), b"r" * 16)
    assert text not in str(record)
    door.now += 30
    admitted = await door.open(query=(("ticket", text),))
    assert (admitted.connection.owner, admitted.connection.issuer) == (USER, ISSUER)
    assert admitted.connection.auth_expires_at == NOW + 3_600
    with pytest.raises(TokenInvalidError) as caught:
        await door.open(query=(("ticket", text),), connection_id="c2")
    assert caught.value.flaw is Flaw.TICKET


async def test_a_ticket_is_good_for_a_minute(door: Door) -> None:
    text, record = await door.admission.sell_ticket(token(), b"r" * 16)
    assert record.expires_at == NOW + ttl.TICKET
    door.now = record.expires_at
    with pytest.raises(TokenInvalidError):
        await door.open(query=(("ticket", text),))


async def test_a_ticket_ends_with_its_token(door: Door) -> None:
    _, record = await door.admission.sell_ticket(token(claims={"exp": NOW + 10}), b"r" * 16)
    assert record.expires_at == NOW + 10


@pytest.mark.parametrize("text", ["", "x", "A" * 23, "../../etc/passwd", "春" * 22])
async def test_what_never_was_a_ticket_is_not_looked_for(door: Door, text: str) -> None:
    door.rows.refusing = True
    with pytest.raises(TokenInvalidError):
        await door.open(query=(("ticket", text),))


@pytest.mark.parametrize(
    ("made", "error"),
    [("garbage", TokenInvalidError), (token(claims={"exp": NOW - 1_000}), TokenExpiredError)],
    ids=["garbage", "expired"],
)
async def test_no_ticket_is_sold_for_a_bad_token(
    door: Door, made: str, error: type[IdentityError]
) -> None:
    with pytest.raises(error):
        await door.admission.sell_ticket(made, b"r" * 16)
    assert door.rows.tickets_by_hash == {}


# Identifying an open connection


async def test_a_connection_learns_who_it_serves(door: Door) -> None:
    opened = (await door.open(*page())).connection
    known = await door.admission.identify(opened, token())
    assert known == replace(opened, owner=USER, issuer=ISSUER, auth_expires_at=NOW + 3_600)
    assert door.rows.connections_by_id["c1"] == known


async def test_an_identity_is_renewed_in_place(door: Door) -> None:
    opened = (await door.open(bearer(token()))).connection
    door.now += 3_000
    renewed = await door.admission.identify(opened, token(claims={"exp": NOW + 9_000}))
    assert renewed == replace(opened, auth_expires_at=NOW + 9_000)


async def test_an_expired_identity_may_be_renewed(door: Door) -> None:
    opened = (await door.open(bearer(token()))).connection
    door.now += 100_000
    later = token(claims={"exp": door.now + 60, "iat": door.now, "nbf": door.now})
    renewed = await door.admission.identify(opened, later)
    assert renewed.auth_expires_at == door.now + 60


@pytest.mark.parametrize(
    "claims",
    [{"sub": "user-2"}, {"iss": OTHER}],
    ids=["another user", "another tenant with the same name"],
)
async def test_a_connection_stays_the_same_persons(door: Door, claims: dict[str, Any]) -> None:
    opened = (await door.open(bearer(token()))).connection
    with pytest.raises(TokenInvalidError) as caught:
        await door.admission.identify(opened, token(claims=claims))
    assert caught.value.flaw is Flaw.SUBJECT
    assert door.rows.connections_by_id["c1"] == opened


@pytest.mark.parametrize(
    ("made", "error"),
    [("garbage", TokenInvalidError), (token(claims={"exp": NOW - 1_000}), TokenExpiredError)],
    ids=["garbage", "expired"],
)
async def test_a_bad_token_leaves_the_connection_as_it_is(
    door: Door, made: str, error: type[IdentityError]
) -> None:
    opened = (await door.open(bearer(token()))).connection
    with pytest.raises(error):
        await door.admission.identify(opened, made)
    assert door.rows.connections_by_id["c1"] == opened


async def test_a_renewal_that_cannot_be_stored_is_none(door: Door) -> None:
    opened = (await door.open(bearer(token()))).connection
    door.rows.refusing = True
    with pytest.raises(StorageUnavailableError):
        await door.admission.identify(opened, token(claims={"exp": NOW + 9_000}))
    assert door.rows.connections_by_id["c1"] == opened

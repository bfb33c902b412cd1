"""What a handshake says about who is calling."""

from dataclasses import dataclass

import pytest

from gateway.identity.errors import (
    AuthRequiredError,
    IdentityError,
    OriginDeniedError,
    TokenInvalidError,
)
from gateway.identity.handshake import (
    Bearer,
    Credential,
    HandshakePolicy,
    TicketOffer,
    Unidentified,
    read_handshake,
)

PAGE = "https://chat.example"
LOCAL = "http://localhost:8765"
STRICT = HandshakePolicy(origins=frozenset({PAGE, LOCAL}))
OPEN = HandshakePolicy(origins=frozenset({PAGE, LOCAL}), admits_unidentified=True)
QUERY = HandshakePolicy(origins=frozenset({PAGE}), reads_query_token=True)
NO_PAGES = HandshakePolicy(origins=frozenset())

JWT = "eyJh.eyJi.c2ln"
ORIGIN = ("Origin", PAGE)
PROTOCOLS = ("Sec-WebSocket-Protocol", f"makoto.v1, bearer.{JWT}")
AUTHORIZATION = ("Authorization", f"Bearer {JWT}")
TICKET = ("ticket", "AAAA")
TOKEN = ("token", JWT)


GIVEN = Bearer(token=JWT)


@dataclass(frozen=True)
class Request:
    """A handshake and what is to come of it."""

    headers: tuple[tuple[str, str], ...]
    query: tuple[tuple[str, str], ...] = ()
    policy: HandshakePolicy = STRICT
    credential: Credential = GIVEN
    subprotocol: str | None = None


def protocols(*values: str) -> tuple[tuple[str, str], ...]:
    return (ORIGIN, *(("Sec-WebSocket-Protocol", value) for value in values))


ACCEPTED = {
    "a page": Request((ORIGIN, PROTOCOLS), subprotocol="makoto.v1"),
    "a page on another listed origin": Request(
        (("Origin", LOCAL), PROTOCOLS), subprotocol="makoto.v1"
    ),
    "names in lower case": Request(
        (("origin", PAGE), ("sec-websocket-protocol", PROTOCOLS[1])), subprotocol="makoto.v1"
    ),
    "no space in the list": Request(protocols(f"makoto.v1,bearer.{JWT}"), subprotocol="makoto.v1"),
    "spaces and tabs in the list": Request(
        protocols(f" \tmakoto.v1\t ,  bearer.{JWT} "), subprotocol="makoto.v1"
    ),
    "the token first": Request(protocols(f"bearer.{JWT}, makoto.v1"), subprotocol="makoto.v1"),
    "empty items": Request(protocols(f",makoto.v1,,bearer.{JWT},"), subprotocol="makoto.v1"),
    "the list in two lines": Request(
        protocols("makoto.v1", f"bearer.{JWT}"), subprotocol="makoto.v1"
    ),
    "other protocols beside": Request(
        protocols(f"makoto.v2, makoto.v1, chat, bearer.{JWT}"), subprotocol="makoto.v1"
    ),
    "another version only": Request(protocols(f"makoto.v2, bearer.{JWT}"), subprotocol=None),
    "another case": Request(protocols(f"Makoto.v1, bearer.{JWT}"), subprotocol=None),
    "a program": Request((AUTHORIZATION,)),
    "a program that names the protocol": Request(
        (AUTHORIZATION, ("Sec-WebSocket-Protocol", "makoto.v1")), subprotocol="makoto.v1"
    ),
    "a program, scheme in lower case": Request((("authorization", f"bearer {JWT}"),)),
    "a program, two spaces": Request((("Authorization", f"BEARER  {JWT}"),)),
    "a program where no page may connect": Request((AUTHORIZATION,), policy=NO_PAGES),
    "an extension with an Origin": Request((ORIGIN, AUTHORIZATION)),
    "a ticket of a page": Request((ORIGIN,), (TICKET,), credential=TicketOffer(text="AAAA")),
    "a ticket of a program": Request((), (TICKET,), credential=TicketOffer(text="AAAA")),
    "an empty ticket": Request((), (("ticket", ""),), credential=TicketOffer(text="")),
    "other parameters beside": Request(
        (), (("v", "1"), TICKET, ("x", "")), credential=TicketOffer(text="AAAA")
    ),
    "a token in the query, allowed": Request((ORIGIN,), (TOKEN,), policy=QUERY),
    "nothing, allowed": Request((ORIGIN,), policy=OPEN, credential=Unidentified()),
    "nothing but the protocol, allowed": Request(
        protocols("makoto.v1"), policy=OPEN, credential=Unidentified(), subprotocol="makoto.v1"
    ),
    "an empty bearer item is a token to be refused": Request(
        protocols("makoto.v1, bearer."), credential=Bearer(token=""), subprotocol="makoto.v1"
    ),
}


@pytest.mark.parametrize("request_", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_a_handshake_is_read(request_: Request) -> None:
    offer = read_handshake(request_.headers, request_.query, policy=request_.policy)
    assert offer.credential == request_.credential
    assert offer.subprotocol == request_.subprotocol


DENIED = {
    f"Origin {origin!r}": Request((("Origin", origin), PROTOCOLS))
    for origin in (
        *("https://evil.example", "null", "", "*", "http://chat.example", "https://chat.example/"),
        *("https://chat.example:443", "https://chat.example:8443", "HTTPS://CHAT.EXAMPLE"),
        *("https://chat.example.evil.example", "https://evil.example?https://chat.example"),
        *("https://chat.example https://evil.example", "https://sub.chat.example", "chat.example"),
        *("https://chat.example\x00", "https://chat.exаmple", "file://", "http://localhost:8766"),
    )
} | {
    "two Origins": Request((ORIGIN, ORIGIN, PROTOCOLS)),
    "two Origins, one foreign": Request((("Origin", "https://evil.example"), ORIGIN, PROTOCOLS)),
    "a page where none may connect": Request((ORIGIN, PROTOCOLS), policy=NO_PAGES),
    "a foreign page with a header": Request((("Origin", "https://evil.example"), AUTHORIZATION)),
    "a foreign page with a ticket": Request((("Origin", "https://evil.example"),), (TICKET,)),
    "a foreign page with nothing": Request((("Origin", "https://evil.example"),), policy=OPEN),
    "no Origin, a token in the list": Request((PROTOCOLS,)),
    "no Origin, a token in the query": Request((), (TOKEN,), policy=QUERY),
    "no Origin, nothing": Request((), policy=OPEN),
    "no Origin, a cookie": Request((("Cookie", f"token={JWT}"),), policy=OPEN),
}


@pytest.mark.parametrize("request_", DENIED.values(), ids=DENIED.keys())
def test_a_page_that_is_not_on_the_list_is_denied(request_: Request) -> None:
    with pytest.raises(OriginDeniedError):
        read_handshake(request_.headers, request_.query, policy=request_.policy)


INVALID = {
    "two bearer items": Request(protocols(f"makoto.v1, bearer.{JWT}, bearer.other")),
    "the same bearer item twice": Request(protocols(f"makoto.v1, bearer.{JWT}, bearer.{JWT}")),
    "bearer items in two lines": Request(protocols(f"bearer.{JWT}", f"bearer.{JWT}")),
    "two Authorization lines": Request((AUTHORIZATION, AUTHORIZATION)),
    "two tickets": Request((), (TICKET, TICKET)),
    "item and header": Request((ORIGIN, PROTOCOLS, AUTHORIZATION)),
    "item and ticket": Request((ORIGIN, PROTOCOLS), (TICKET,)),
    "header and ticket": Request((AUTHORIZATION,), (TICKET,)),
    "item and query token": Request((ORIGIN, PROTOCOLS), (TOKEN,), policy=QUERY),
    "ticket and query token": Request((ORIGIN,), (TICKET, TOKEN), policy=QUERY),
    "two query tokens": Request((ORIGIN,), (TOKEN, TOKEN), policy=QUERY),
    "a query token, off": Request((ORIGIN,), (TOKEN,)),
    "a query token, off, where nothing is needed": Request((ORIGIN,), (TOKEN,), policy=OPEN),
} | {
    f"Authorization {value!r}": Request((ORIGIN, ("Authorization", value)), policy=OPEN)
    for value in (
        *(
            "Bearer",
            "Bearer ",
            f"Bearer{JWT}",
            f"Bearer\t{JWT}",
            f"Bearer {JWT} x",
            f"Bearer {JWT},",
        ),
        *("Basic dXNlcjpwYXNz", JWT, "", f"Token {JWT}", f"Bearer {JWT}, Bearer {JWT}", "Bearer é"),
    )
}


@pytest.mark.parametrize("request_", INVALID.values(), ids=INVALID.keys())
def test_an_ambiguous_or_malformed_credential_is_refused(request_: Request) -> None:
    with pytest.raises(TokenInvalidError):
        read_handshake(request_.headers, request_.query, policy=request_.policy)


REQUIRED = {
    "a page with the protocol only": Request(protocols("makoto.v1")),
    "a page with nothing": Request((ORIGIN,)),
    "a program with nothing": Request(()),
    "a cookie": Request((ORIGIN, ("Cookie", f"token={JWT}; Authorization=Bearer {JWT}"))),
    "headers of other names": Request(
        (ORIGIN, ("X-Authorization", JWT), ("Proxy-Authorization", "x"))
    ),
    "parameters of other names": Request((ORIGIN,), (("Ticket", "AAAA"), ("jwt", JWT))),
    "an item of another case": Request(protocols(f"makoto.v1, Bearer.{JWT}")),
}


@pytest.mark.parametrize("request_", REQUIRED.values(), ids=REQUIRED.keys())
def test_a_credential_is_required_where_nothing_would_wait_for_one(request_: Request) -> None:
    with pytest.raises(AuthRequiredError):
        read_handshake(request_.headers, request_.query, policy=request_.policy)


@pytest.mark.parametrize("request_", [*DENIED.values(), *INVALID.values(), *REQUIRED.values()])
def test_no_refusal_quotes_the_credential(request_: Request) -> None:
    with pytest.raises(IdentityError) as refusal:
        read_handshake(request_.headers, request_.query, policy=request_.policy)
    assert JWT not in str(refusal.value)


@pytest.mark.parametrize("request_", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_no_credential_shows_in_a_log(request_: Request) -> None:
    offer = read_handshake(request_.headers, request_.query, policy=request_.policy)
    assert JWT not in repr(offer)
    assert "AAAA" not in repr(offer)


@pytest.mark.parametrize(
    "origin",
    [
        *("*", "null", "", "chat.example", "https://chat.example/", "https://chat.example/page"),
        *("HTTPS://chat.example", "https://Chat.example", "https://*.example", "https://"),
        *("https://chat.example:443", "http://chat.example:80", "https://a b", "https://a:port"),
        *("https://user@chat.example", "https://chat.example?", " https://chat.example"),
    ],
)
def test_an_origin_that_no_browser_sends_is_the_operators_mistake(origin: str) -> None:
    with pytest.raises(ValueError, match="origin"):
        HandshakePolicy(origins=frozenset({PAGE, origin}))


@pytest.mark.parametrize(
    "origin",
    [
        *("https://chat.example", "http://localhost:8765", "http://[::1]:8765", "http://127.0.0.1"),
        *(
            "https://chat.example:80",
            "chrome-extension://abcdefgh",
            "https://xn--eckwd4c7c.example",
        ),
    ],
)
def test_an_origin_as_browsers_send_it_may_be_listed(origin: str) -> None:
    policy = HandshakePolicy(origins=frozenset({origin}))
    offer = read_handshake([("Origin", origin), PROTOCOLS], [], policy=policy)
    assert offer.credential == Bearer(token=JWT)

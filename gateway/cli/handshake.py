"""How the terminal says who it is: the token itself in a header, or a ticket that it has bought."""

import re
from contextlib import suppress
from http import HTTPStatus
from urllib.parse import parse_qsl, urlencode, urlsplit

import aiohttp
import orjson

from gateway.cli.failure import CommandFailedError

PURCHASE_S = 30.0
"""How long buying a ticket may take, in seconds."""

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750 section 2.1


def bearer(token: str) -> dict[str, str]:
    """Return the header that carries a token.

    Raises:
        CommandFailedError: it fits no header; an error of the header would quote it.
    """
    if not _TOKEN.fullmatch(token):
        raise CommandFailedError("the token is empty, or no token")
    return {"Authorization": f"Bearer {token}"}


async def ticketed(socket_url: str, tickets_url: str, token: str) -> str:
    """Buy a ticket and return the socket's address with it: good for one connection, for a minute.

    Raises:
        CommandFailedError: none is sold; in the server's words, if it has any.
    """
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PURCHASE_S)) as session,
            session.post(tickets_url, headers=bearer(token), allow_redirects=False) as response,
        ):
            status, body = response.status, await response.read()
    except (aiohttp.ClientError, TimeoutError, ValueError) as exc:
        why = str(exc) or type(exc).__name__
        raise CommandFailedError(f"cannot buy a ticket at {tickets_url}: {why}") from None
    if status == HTTPStatus.OK:
        with suppress(ValueError, TypeError, KeyError):
            return _with_ticket(socket_url, str(orjson.loads(body)["ticket"]))
    why = reason_of(body) or f"it answers {status}, and no ticket"
    raise CommandFailedError(f"cannot buy a ticket at {tickets_url}: {why}")


def reason_of(body: bytes | bytearray) -> str:
    """Return what a gateway says in the body of a refusal; empty if it is no such body."""
    try:
        return str(orjson.loads(body)["error"]["message"])
    except (ValueError, TypeError, KeyError):
        return ""


def _with_ticket(url: str, ticket: str) -> str:
    parts = urlsplit(url)
    query = urlencode([*parse_qsl(parts.query, keep_blank_values=True), ("ticket", ticket)])
    return parts._replace(query=query).geturl()

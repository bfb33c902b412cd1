"""Fetching a key document over HTTP. The caller bounds the whole by a timeout."""

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from gateway.identity.errors import JwksFetchError
from gateway.identity.keys import MAX_DOCUMENT_BYTES

if TYPE_CHECKING:
    import aiohttp

# No compression: the size limit counts what is stored, and a small body must not unpack to a large one.
_HEADERS: Final = {"Accept": "application/json", "Accept-Encoding": "identity"}


async def fetch_jwks(url: str) -> bytes:
    """Fetch a key document: one GET, no redirects, no cookies, no proxy, at most 64 KiB.

    Opens a client session of its own, since it is called about once a day. Cancelling it closes the
    connection. It has no deadline: `JwksCache` sets one.

    Raises:
        JwksFetchError: not reachable, any status but 200, or too large.
    """
    import aiohttp  # only here: most processes answer many connects without ever fetching

    try:
        async with (
            aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
            ) as session,
            session.get(url, headers=_HEADERS, allow_redirects=False) as response,
        ):
            return await _read(response)
    except (aiohttp.ClientError, OSError) as exc:
        raise JwksFetchError(f"no answer: {type(exc).__name__}") from exc


async def _read(response: "aiohttp.ClientResponse") -> bytes:
    if response.status != HTTPStatus.OK:
        raise JwksFetchError(f"status {response.status}")
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > MAX_DOCUMENT_BYTES:
            raise JwksFetchError("too large")
    return bytes(body)

"""API Gateway's @connections API: PostToConnection and DeleteConnection, one signed request each.

See https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-how-to-call-websocket-api-connections.html.

The SDK's own client costs 90 to 300 ms to make and 0.6 to 1 ms of CPU per post. aiohttp, which the SDK has
loaded anyway, and our signature cost 5 ms and 0.2 ms.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

from storage.sigv4 import Credentials, Scope, signed

if TYPE_CHECKING:
    import aiohttp

ATTEMPT_S: Final = 3.0
"""For one request: a healthy API answers in some 10 ms, so silence is a fault."""

_CONNECT_S: Final = 1.0
_IDLE_S: Final = 15.0
"""A connection that was idle for longer is not used again: something between may have forgotten it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the API said.

    Attributes:
        status: of HTTP; 0 if nothing came in time. Then the request may have been carried out.
        code: the name of the error, such as `GoneException`; empty for none.
    """

    status: int
    code: str = ""


class ConnectionsApi:
    """The API of one stage, for one event loop: from its first request, which loads aiohttp, to `aclose`.

    Args:
        url: `https://{api}.execute-api.{region}.amazonaws.com/{stage}`, or a custom domain's or an
            emulator's; percent-encoded.
        region: as `eu-central-1`; the signature names it, whatever the domain.
        credentials: of whoever posts, allowed `execute-api:ManageConnections`; they must outlive this.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        *,
        url: str,
        region: str,
        credentials: Credentials,
        clock: Callable[[], float] = time.time,
    ) -> None:
        parts = urlsplit(url)
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self._host = parts.netloc
        self._path = parts.path.rstrip("/")
        self._scope = Scope(region=region, service="execute-api")
        self._credentials = credentials
        self._clock = clock
        self._kept: aiohttp.ClientSession | None = None
        self._fresh: aiohttp.ClientSession | None = None

    async def post(self, connection_id: str, frame: bytes, *, fresh: bool = False) -> Answer:
        """Ask once to send a text frame. Cancelling may come too late.

        Args:
            connection_id: as API Gateway made it.
            frame: at most 131,072 bytes of UTF-8.
            fresh: use a new connection. After a freeze all that were kept may be broken.
        """
        return await self._ask("POST", connection_id, frame, fresh=fresh)

    async def delete(self, connection_id: str, *, fresh: bool = False) -> Answer:
        """Ask once to close a connection; see `post`."""
        return await self._ask("DELETE", connection_id, b"", fresh=fresh)

    async def aclose(self) -> None:
        """Close the connections. Nothing is asked after that."""
        for session in (self._kept, self._fresh):
            if session is not None:
                await session.close()

    async def _ask(self, method: str, connection_id: str, body: bytes, *, fresh: bool) -> Answer:
        import aiohttp
        from yarl import URL

        path = f"{self._path}/@connections/{quote(connection_id, safe='')}"
        headers = signed(
            {"Host": self._host},
            method=method,
            path=path,
            body=body,
            scope=self._scope,
            credentials=self._credentials,
            now=self._clock(),
        )
        try:
            async with self._session(fresh=fresh).request(
                method,
                URL(self._origin + path, encoded=True),
                data=body,
                headers=headers,
                allow_redirects=False,
            ) as response:
                await response.read()
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is one of the latter
            return Answer(status=0, code=type(error).__name__)
        code = response.headers.get("x-amzn-ErrorType", "").partition(":")[0]
        return Answer(status=response.status, code=code)

    def _session(self, *, fresh: bool) -> "aiohttp.ClientSession":
        from aiohttp import TCPConnector

        if fresh:
            if self._fresh is None:
                self._fresh = _open(TCPConnector(force_close=True))
            return self._fresh
        if self._kept is None:
            self._kept = _open(TCPConnector(keepalive_timeout=_IDLE_S))
        return self._kept


def _open(connector: "aiohttp.TCPConnector") -> "aiohttp.ClientSession":
    from aiohttp import ClientSession, ClientTimeout, DummyCookieJar

    return ClientSession(
        connector=connector,
        cookie_jar=DummyCookieJar(),
        timeout=ClientTimeout(total=ATTEMPT_S, sock_connect=_CONNECT_S),
        skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent"),
    )

"""The demo page and the browser client: files of `gateway/web`, under a strict policy."""

import re
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.staticfiles import StaticFiles

import gateway

FOLDER = Path(gateway.__file__).parent / "web"

_HOST = re.compile(r"[A-Za-z0-9.:\[\]-]+")

_REVALIDATE = {"Cache-Control": "no-cache"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """A gateway on another host than the one that serves the page.

    Attributes:
        socket_url: of its socket, `wss` or `ws`.
        tickets_url: where a token buys a ticket: `https`, `http`, or a path on the page's own host;
            `None`: the token goes into the handshake itself.
        payload_origins: from where large bodies are fetched, and where they are uploaded to, unless that
            is one of the hosts above.

    Raises:
        ValueError: one of them is no such URL. One line.
    """

    socket_url: str
    tickets_url: str | None = None
    payload_origins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.sources()

    def sources(self) -> str:
        """Return what the page may connect to, as a policy's list (CSP Level 3, section 2.3.1)."""
        socket = _origin(self.socket_url, "wss", "ws")
        origins = [socket, socket.replace("ws", "http", 1)]
        if self.tickets_url is not None:
            is_path = self.tickets_url.startswith("/") and not self.tickets_url.startswith("//")
            origins.append("'self'" if is_path else _origin(self.tickets_url, "https", "http"))
        origins += (_origin(url, "https", "http") for url in self.payload_origins)
        return " ".join(dict.fromkeys(origins))

    def tags(self) -> str:
        """Return the elements that tell the page of it (`web/page/gateway.js`)."""
        named = {"makoto-gateway": self.socket_url, "makoto-tickets": self.tickets_url}
        return "".join(
            f'\n  <meta name="{name}" content="{escape(url)}">'
            for name, url in named.items()
            if url
        )


def page_router(elsewhere: Elsewhere | None = None) -> APIRouter:
    """Return the router of `/` and `/web/...`.

    Args:
        elsewhere: the gateway that the page talks to, if it is not the one that serves it.
    """
    router = APIRouter()
    files = StaticFiles(directory=FOLDER)
    index = FOLDER / "index.html"

    @router.get("/")
    async def page(request: Request) -> Response:
        if elsewhere is None:
            headers = _headers(_own_sources(request))
            return FileResponse(index, media_type="text/html", headers=headers)
        tagged = index.read_text("utf-8").replace("<head>", f"<head>{elsewhere.tags()}", 1)
        return HTMLResponse(tagged, headers=_headers(elsewhere.sources()))

    @router.get("/web/{path:path}")
    async def file(path: str, request: Request) -> Response:
        response = await files.get_response(path, request.scope)
        response.headers.update(_REVALIDATE)
        if path.endswith(".ts") and "Content-Type" in response.headers:
            response.headers["Content-Type"] = (
                "text/plain; charset=utf-8"  # else that of Qt's own .ts
            )
        response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        response.headers["Access-Control-Allow-Origin"] = "*"  # the client serves any page
        return response

    return router


def _origin(url: str, *schemes: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in schemes or not _HOST.fullmatch(parts.netloc):
        raise ValueError(f"no {' or '.join(schemes)} URL: {url!a}")
    return f"{parts.scheme}://{parts.netloc}"


def _own_sources(request: Request) -> str:
    # 'self' does not cover ws: in every browser yet (CSP Level 3, section 6.7.2.8).
    host = request.url.netloc
    return f"'self' ws://{host} wss://{host}" if _HOST.fullmatch(host) else "'self'"


def _headers(sources: str) -> dict[str, str]:
    policy = (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        f"connect-src {sources}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return {**_REVALIDATE, "Content-Security-Policy": policy}

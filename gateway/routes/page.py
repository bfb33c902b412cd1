"""The demo page and the browser client: files of `gateway/web`, under a strict policy."""

import re
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

import gateway

FOLDER = Path(gateway.__file__).parent / "web"

_HOST = re.compile(r"[A-Za-z0-9.:\[\]-]+")

_REVALIDATE = {"Cache-Control": "no-cache"}


def page_router() -> APIRouter:
    """Return the router of `/` and `/web/...`."""
    router = APIRouter()
    files = StaticFiles(directory=FOLDER)

    @router.get("/")
    async def page(request: Request) -> Response:
        headers = {**_REVALIDATE, "Content-Security-Policy": _policy(request)}
        return FileResponse(FOLDER / "index.html", media_type="text/html", headers=headers)

    @router.get("/web/{path:path}")
    async def file(path: str, request: Request) -> Response:
        response = await files.get_response(path, request.scope)
        response.headers.update(_REVALIDATE)
        response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        response.headers["Access-Control-Allow-Origin"] = "*"  # the client serves any page
        return response

    return router


def _policy(request: Request) -> str:
    # 'self' does not cover ws: in every browser yet (CSP Level 3, section 6.7.2.8).
    host = request.url.netloc
    sockets = f" ws://{host} wss://{host}" if _HOST.fullmatch(host) else ""
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        f"connect-src 'self'{sockets}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )

"""The FastAPI app: routers, headers that every answer carries, and one body for every error."""

import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence

from fastapi import APIRouter, FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from gateway.faults import cause_of, http_status, wire_error
from gateway.wire.answers import http_error
from gateway.wire.errors import BadRequestError, NotFoundError, WireError

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}

log = logging.getLogger(__name__)


def make_http_app(routers: Sequence[APIRouter], *, origins: Sequence[str]) -> FastAPI:
    """Return the app that serves these routers.

    Args:
        routers: what is served; everything else answers 404.
        origins: pages of other origins that may read the answers (CORS).
    """
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    for router in routers:
        app.include_router(router)
    app.add_exception_handler(HTTPException, _refuse)
    app.add_exception_handler(Exception, _refuse)
    app.middleware("http")(_answer)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=list(origins),
        allow_methods=["GET", "POST", "PUT"],
        allow_headers=["Authorization", "Content-Type"],
        max_age=600,
    )
    return app


async def _answer(
    request: Request, call_next: Callable[[Request], Awaitable[Response]]
) -> Response:
    """Turn every error into the one body, and put the security headers on every answer."""
    try:
        response = await call_next(request)
    except Exception as exc:  # noqa: BLE001 - the host's last line of defence; logs the trace
        response = _error_response(wire_error(exc), cause=cause_of(exc))
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    return response


async def _refuse(_: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        told = NotFoundError() if error.status_code in {404, 405} else BadRequestError()
        return _error_response(told, cause=None, status=error.status_code)
    return _error_response(wire_error(error), cause=cause_of(error))


def _error_response(error: WireError, *, cause: str | None, status: int | None = None) -> Response:
    """Return the HTTP answer that tells of an error, and note why; not that there is no such path."""
    request_id = secrets.token_hex(8)
    if cause is not None:
        log.info("refused", extra={"request_id": request_id, "code": error.code, "cause": cause})
    return JSONResponse(
        http_error(error, request_id=request_id),
        status_code=status or http_status(error),
        headers={"Cache-Control": "no-store"},
    )

"""The server as its own issuer: its public keys, and tokens for its own page. Embedded default only."""

from collections.abc import Callable

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from gateway.identity.demo_guard import DemoRequest, may_have_demo_token
from gateway.identity.local_issuer import LocalIssuer
from gateway.wire.answers import milliseconds
from gateway.wire.errors import NotFoundError

DEMO_TOKEN_S = 900
DEMO_USER = "demo"


def keys_router(*, issuer: LocalIssuer) -> APIRouter:
    """Return the router of `GET /.well-known/jwks.json`."""
    router = APIRouter()
    document = issuer.jwks_document()

    @router.get("/.well-known/jwks.json")
    async def keys() -> Response:
        return Response(
            document,
            media_type="application/jwk-set+json",
            headers={"Cache-Control": "max-age=300"},
        )

    return router


def demo_token_router(*, issuer: LocalIssuer, port: int, clock: Callable[[], float]) -> APIRouter:
    """Return the router of `POST /v1/demo/token`; mount it only where the server binds loopback.

    Args:
        issuer: mints the tokens.
        port: the port that the server is bound to.
        clock: Unix time in seconds.
    """
    router = APIRouter()

    @router.post("/v1/demo/token")
    async def demo_token(request: Request) -> Response:
        asked = DemoRequest(
            method=request.method,
            http_version=request.scope["http_version"],
            peer=request.client.host if request.client else None,
            headers=tuple(request.headers.items()),
        )
        if not may_have_demo_token(asked, port=port):
            raise NotFoundError
        now = clock()
        return JSONResponse(
            {
                "token": issuer.mint(DEMO_USER, ttl_s=DEMO_TOKEN_S, now=now),
                "expires_at": milliseconds(now + DEMO_TOKEN_S),
            },
            headers={"Cache-Control": "no-store"},
        )

    return router

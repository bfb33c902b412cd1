"""`POST /v1/tickets`: a bearer token buys a ticket that opens one socket within a minute."""

import secrets

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from gateway.identity.admission import Admission
from gateway.identity.handshake import bearer_token
from gateway.identity.tickets import TICKET_RANDOM_BYTES
from gateway.wire.answers import milliseconds


def tickets_router(*, admission: Admission) -> APIRouter:
    """Return the router."""
    router = APIRouter()

    @router.post("/v1/tickets")
    async def buy(request: Request) -> Response:
        token = bearer_token(request.headers.items())
        text, ticket = await admission.sell_ticket(token, secrets.token_bytes(TICKET_RANDOM_BYTES))
        return JSONResponse(
            {"ticket": text, "expires_at": milliseconds(ticket.expires_at)},
            headers={"Cache-Control": "no-store"},
        )

    return router

"""`/v1/payloads/...`: the bodies of spilled frames and uploads, for whoever holds a signed URL."""

import asyncio
from collections.abc import Callable

from fastapi import APIRouter, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from gateway.wire.errors import BadRequestError, NotFoundError, PayloadTooLargeError
from storage.blobs.files import FileBlobs

UPLOAD_S = 60.0
"""How long an upload may take, in seconds."""


def payloads_router(*, blobs: FileBlobs, clock: Callable[[], float]) -> APIRouter:
    """Return the router.

    Args:
        blobs: keeps the bodies and checks the URLs it signed.
        clock: Unix time in seconds.
    """
    router = APIRouter()

    @router.get("/v1/payloads/{key:path}")
    async def fetch(key: str, request: Request) -> Response:
        if not blobs.verify_download(key, request.query_params, now=clock()):
            raise NotFoundError
        return Response(
            await blobs.get(key),
            media_type="application/json",
            headers={
                "Content-Disposition": "attachment",
                "Cache-Control": "private, no-store",
            },
        )

    @router.put("/v1/payloads/{key:path}")
    async def store(key: str, request: Request) -> Response:
        ref = blobs.verify_upload(key, request.query_params, now=clock())
        if ref is None:
            raise NotFoundError
        announced = request.headers.get("content-length", "")
        if announced.isascii() and announced.isdigit() and int(announced) > ref.bytes:
            raise PayloadTooLargeError
        try:
            async with asyncio.timeout(UPLOAD_S):
                await blobs.receive(ref, request.stream())
        except (TimeoutError, ClientDisconnect):
            raise BadRequestError("The upload did not arrive in time.") from None
        return Response(status_code=204)

    return router

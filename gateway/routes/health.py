"""`GET /healthz`: whether new work is taken."""

from collections.abc import Callable

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response


def health_router(*, is_serving: Callable[[], bool]) -> APIRouter:
    """Return the router; it answers 503 once `is_serving` says no, so that a proxy looks elsewhere."""
    router = APIRouter()

    @router.get("/healthz")
    async def health() -> Response:
        serving = is_serving()
        return JSONResponse(
            {"status": "ok" if serving else "draining"},
            status_code=200 if serving else 503,
            headers={"Cache-Control": "no-store"},
        )

    return router

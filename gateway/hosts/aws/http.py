"""The HTTP API beside the sockets: tickets and health, by the routers of every host.

The demo page is not here: it would have to know an address of the other API. `makoto page` serves it.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from mangum import Mangum
from mangum.types import LambdaContext

from gateway.aws_settings import read_aws_settings
from gateway.bootstrap.door import make_admission, make_door_verifier, open_client, open_door
from gateway.hosts.aws.warm import Kept, run
from gateway.identity.verifier import TokenVerifier
from gateway.routes.health import health_router
from gateway.routes.http_app import make_http_app
from gateway.routes.tickets import tickets_router
from gateway.telemetry import set_up_logs


@dataclass(frozen=True, slots=True, kw_only=True)
class _Site:
    answer: Mangum
    verifier: TokenVerifier


async def _open() -> _Site:
    settings = read_aws_settings()
    set_up_logs(settings.log_level)
    door = open_door(settings, client=open_client(settings), clock=time.time)
    verifier = make_door_verifier(settings, door=door, clock=time.time)
    admission = make_admission(settings, door=door, verifier=verifier, clock=time.time)
    routers = [
        health_router(is_serving=lambda: True),
        tickets_router(admission=admission),
    ]
    app = make_http_app(routers, origins=sorted(settings.allowed_origins))
    return _Site(answer=Mangum(app, lifespan="off"), verifier=verifier)


log = logging.getLogger(__name__)

_site: Final = Kept(_open)


def handler(event: Mapping[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer one request, in the form that API Gateway asks in."""
    site = run(_site.get())
    try:
        return site.answer(dict(event), context)  # on the same loop, which is the current one
    except Exception:
        log.exception("invocation failed")
        raise
    finally:
        run(site.verifier.settle())

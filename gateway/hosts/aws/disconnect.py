"""`$disconnect`: forgets a connection; its runs go on. Best effort on AWS: what is missed expires."""

import logging
import time
from typing import Any, Final

from gateway.aws_settings import read_aws_settings
from gateway.bootstrap.door import open_client, open_door
from gateway.hosts.aws.events import Event, connection_id_of
from gateway.hosts.aws.warm import Kept, run
from gateway.telemetry import set_up_logs
from storage.dynamodb.connections import DynamoConnections

log = logging.getLogger(__name__)


async def _open() -> DynamoConnections:
    settings = read_aws_settings()
    set_up_logs(settings.log_level)
    return open_door(settings, client=open_client(settings), clock=time.time).connections


_connections: Final = Kept(_open)


def handler(event: Event, context: object) -> dict[str, Any]:
    """Answer 200, which nobody reads."""
    run(_disconnect(event))
    return {"statusCode": 200}


async def _disconnect(event: Event) -> None:
    try:
        connection_id = connection_id_of(event)
        await (await _connections.get()).remove(connection_id)
    except Exception:
        log.exception("a connection was not forgotten")
        return
    log.info("disconnected", extra={"connection_id": connection_id})

"""`$connect`: lets a client in, or not. Starts fast: no SDK, no pydantic (see `gateway.bootstrap.door`)."""

import logging
import time
from dataclasses import dataclass
from typing import Any, Final

from gateway.aws_settings import read_aws_settings
from gateway.bootstrap.door import make_admission, make_door_verifier, open_client, open_door
from gateway.faults import cause_of, http_status, wire_error
from gateway.hosts.aws.events import Event, handshake_of
from gateway.hosts.aws.warm import Kept, run
from gateway.identity.admission import Admission, Admitted
from gateway.identity.verifier import TokenVerifier
from gateway.telemetry import set_up_logs

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entrance:
    admission: Admission
    verifier: TokenVerifier


async def _open() -> _Entrance:
    settings = read_aws_settings()
    set_up_logs(settings.log_level)
    door = open_door(settings, client=open_client(settings), clock=time.time)
    verifier = make_door_verifier(settings, door=door, clock=time.time)
    admission = make_admission(settings, door=door, verifier=verifier, clock=time.time)
    return _Entrance(admission=admission, verifier=verifier)


_entrance: Final = Kept(_open)


def handler(event: Event, context: object) -> dict[str, Any]:
    """Answer 200 with the chosen subprotocol, or the status of the refusal."""
    return run(_connect(event))


async def _connect(event: Event) -> dict[str, Any]:
    try:
        entrance = await _entrance.get()
        try:
            admitted = await entrance.admission.admit(handshake_of(event, now=time.time()))
        finally:
            await entrance.verifier.settle()
    except Exception as exc:  # noqa: BLE001 - the host's last line of defence; logs the trace
        return _refusal(exc)
    return _welcome(admitted)


def _welcome(admitted: Admitted) -> dict[str, Any]:
    connection = admitted.connection
    log.info("connected", extra={"connection_id": connection.connection_id})
    answer: dict[str, Any] = {"statusCode": 200}
    if admitted.subprotocol is not None:
        answer["headers"] = {"Sec-WebSocket-Protocol": admitted.subprotocol}
    return answer


def _refusal(error: Exception) -> dict[str, Any]:
    told = wire_error(error)
    log.info("refused", extra={"code": told.code, "cause": cause_of(error)})
    return {"statusCode": http_status(told)}

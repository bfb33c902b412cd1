"""`seal`: ends the runs whose `reply` failed for good. Consumes the on-failure queue of that function.

A record is what Lambda says of an asynchronous invocation that failed; `requestPayload` is its event. See
https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final

import orjson

from gateway.bootstrap.aws import make_seal_job
from gateway.hosts.aws.invocation import Context, Process, open_process
from gateway.hosts.aws.invoker import run_of
from gateway.hosts.aws.warm import Kept, run
from gateway.jobs.seal import RunAliveError
from storage.records import Owner

log = logging.getLogger(__name__)

_process: Final[Kept[Process]] = Kept(open_process)


def handler(event: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """End the runs that the records name; return those to be delivered once more ("partial batch")."""
    failures = run(_seal_all(event, context))
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failures]}


async def _seal_all(event: Mapping[str, Any], context: Context) -> list[str]:
    """Return those that are not settled. All have the same time: none waits for another's readers."""
    records, process = event["Records"], await _process.get()
    settled = await asyncio.gather(*(_is_settled(process, each, context) for each in records))
    pairs = zip(records, settled, strict=True)
    return [record["messageId"] for record, is_settled in pairs if not is_settled]


async def _is_settled(process: Process, record: Mapping[str, Any], context: Context) -> bool:
    try:
        owner, run_id = run_of(orjson.loads(record["body"])["requestPayload"])
    except (ValueError, KeyError, TypeError):
        log.exception("not the failure of a reply")  # nor will it be the next time
        return True
    try:
        await _seal(process, owner, run_id, context)
    except RunAliveError:
        log.info("run still alive", extra={"run_id": run_id})
        return False
    except Exception:
        log.exception("run not sealed", extra={"run_id": run_id})
        return False
    return True


async def _seal(process: Process, owner: Owner, run_id: str, context: Context) -> None:
    async with process.begin(context, tenant_id=owner.tenant_id) as here:
        await make_seal_job(here.on, starter=here.starter).run(owner, run_id)
        await here.starter.confirm()

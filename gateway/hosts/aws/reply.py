"""`reply`: generates one reply and posts it as it comes. Invoked asynchronously, once per run.

An invocation that fails goes to the on-failure queue, which `seal` consumes: whatever cannot be stored here
is raised.
"""

from collections.abc import Mapping
from typing import Any, Final

from gateway.bootstrap.aws import make_reply_job
from gateway.hosts.aws.invocation import Context
from gateway.hosts.aws.invoker import run_of
from gateway.hosts.aws.reply_process import ReplyProcess, open_reply_process
from gateway.hosts.aws.warm import Kept, run

END_BEFORE_S: Final = 20.0
"""How long before Lambda ends the process a reply is interrupted: it is stored and served meanwhile."""

_process: Final[Kept[ReplyProcess]] = Kept(open_reply_process)


def handler(event: Mapping[str, Any], context: Context) -> None:
    """Generate the reply that the event names, unless that was begun before.

    Raises:
        Exception: the run is neither ended nor alive, what waits behind it could not be handed on, or the
            event names none.
    """
    run(_reply(event, context))


async def _reply(event: Mapping[str, Any], context: Context) -> None:
    owner, run_id = run_of(event)
    process = await _process.get()
    async with process.shared.begin(context, tenant_id=owner.tenant_id) as here:
        job = make_reply_job(here.on, model=await process.model(), starter=here.starter)
        await job.run(owner, run_id, deadline=here.deadline - END_BEFORE_S)
        await process.settle()
        await here.starter.confirm()

"""How long a job waits for those who read a run that has ended."""

import asyncio
import logging
from typing import Final

from gateway.runs.feed import Feed

SERVE_S: Final = 10.0
"""For how long slow readers of an ended run are waited for; then it is logged that they are behind.

Their posts go on: how long the process may still take for those is the affair of whoever began it.
"""

log = logging.getLogger(__name__)


async def serve(feed: Feed, *, within_s: float = SERVE_S) -> None:
    """Wait until every reader has all that is kept, or for `within_s` seconds and `SERVE_S` at most."""
    try:
        async with asyncio.timeout(min(within_s, SERVE_S)):
            await feed.delivered()
    except TimeoutError:
        log.warning("readers left behind", extra={"run_id": feed.run_id})

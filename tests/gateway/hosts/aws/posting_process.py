"""A process that generates replies and posts them within a budget, as `reply` does on Lambda.

`python -m tests.gateway.hosts.aws.posting_process API_URL DYNAMODB_URL TABLE RATE SECONDS TENANT:RUNS...`
says `ready`, begins when it is told to, and says `done`. Run r of tenant t posts to connection `t-pid-r`.
"""

import asyncio
import os
import sys
from functools import partial

from gateway.frames.pace import PER_WRITE, Pace
from gateway.frames.spill import Spill
from gateway.hosts.aws.connections_api import ConnectionsApi
from gateway.hosts.aws.post_budget import PostBudget
from gateway.hosts.aws.transport import ConnectionsTransport
from gateway.runs.live_run import LiveRun
from gateway.wire.events import content_delta
from storage.dynamodb.post_slots import DynamoPostSlots
from storage.dynamodb.signed_client import SignedClient
from tests.engines.connections_api import CREDENTIALS, REGION
from tests.gateway.runs.fakes import ANNA, NOW, FakeBlobs, FakeLog, FakePayloads, a_run

TOKEN_EVERY_S = 0.01


def token(connection_id: str, number: int) -> str:
    return f"{connection_id} の {number} 🌊\n"


async def reply(transport: ConnectionsTransport, connection_id: str, tokens: int) -> None:
    live = LiveRun(
        owner=ANNA,
        run=a_run(connection_id),
        claimed_by="claim-1",
        log=FakeLog(at_once=True),
        transport=transport,
        spill=Spill(store=FakePayloads(), blobs=FakeBlobs(), clock=lambda: NOW),  # type: ignore[arg-type]
        spill_until=NOW,
        pace=Pace(PER_WRITE),
    )
    live.feed.follow(connection_id, after=0)
    loop = asyncio.get_running_loop()
    began = loop.time()
    for number in range(tokens):
        live.emit([content_delta(token(connection_id, number))])
        await asyncio.sleep(began + number * TOKEN_EVERY_S - loop.time())
    await live.settle()
    await live.feed.delivered()


async def run(
    api_url: str, dynamodb_url: str, table: str, rate: str, seconds: str, *shares: str
) -> None:
    client = SignedClient(region=REGION, credentials=CREDENTIALS, endpoint_url=dynamodb_url)
    api = ConnectionsApi(url=api_url, region=REGION, credentials=CREDENTIALS)
    budget = PostBudget(DynamoPostSlots(client, table), per_second=float(rate))
    replies = []
    for share in shares:
        tenant, _, runs = share.partition(":")
        transport = ConnectionsTransport(api, on_gone=_gone, slot=budget.share_of(tenant))
        replies += [
            partial(reply, transport, f"{tenant}-{os.getpid()}-{number}")
            for number in range(int(runs))
        ]
    say("ready")
    await asyncio.to_thread(sys.stdin.readline)
    tokens = round(float(seconds) / TOKEN_EVERY_S)
    await asyncio.gather(*(each(tokens) for each in replies))
    say("done")
    await api.aclose()
    await client.aclose()


def say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


async def _gone(connection_id: str) -> None:
    raise AssertionError(connection_id)


if __name__ == "__main__":
    asyncio.run(run(*sys.argv[1:]))

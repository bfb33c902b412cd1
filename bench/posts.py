"""Part (d): what a reply costs on AWS, in posts and in write units of DynamoDB.

The functions' own code (`gateway.hosts.aws`) accepts, generates and posts over an engine that counts units
as DynamoDB does, and a server that takes 30 ms for each post. A model says 500 tokens in 5 seconds.
"""

import asyncio
import secrets
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from bench.report import Verdict, median, table, verdicts
from gateway.aws_settings import AwsSettings
from gateway.bootstrap.aws import AwsBackend, make_reply_job
from gateway.bootstrap.door import make_admission, make_door_verifier, open_door
from gateway.bootstrap.handlers import make_gateway, make_recovery
from gateway.hosts.aws.invocation import Process
from gateway.hosts.aws.invoker import Invoker, run_of
from gateway.settings import read_settings
from storage.blobs.files import open_file_blobs
from storage.dynamodb.client import ConditionFailedError, DynamoClient
from storage.dynamodb.signed_client import SignedClient
from storage.dynamodb.tables import create_tables
from storage.records import Connection, Owner
from streaming.models.chat_model import ModelRequest
from streaming.parts import FieldDelta, FieldDone, FieldValue, Finished, Part, Usage
from tests.engines.connections_api import CREDENTIALS, REGION, ConnectionsApi, connections_api
from tests.engines.processes import dynoxide

TOKENS = 500
TOKENS_PER_SECOND = 100
POST_S = 0.03
BUDGET = 1_000.0
PROSE = "The rain stopped a little before noon, so we walked down to the harbour and counted "
WORDS = PROSE.split()

# On demand in us-east-1, for a million: https://aws.amazon.com/dynamodb/pricing/on-demand/ and
# https://aws.amazon.com/api-gateway/pricing/.
WRITE_UNITS_DOLLARS = 0.625
READ_UNITS_DOLLARS = 0.125
POSTS_DOLLARS = 1.0


Row = tuple[str, ...]


def token(number: int) -> str:
    return f"{WORDS[number % len(WORDS)]} "


class SteadyModel:
    """Says 500 tokens of 5 characters on average, one each hundredth of a second."""

    name = "steady"

    def __init__(self) -> None:
        self.began_at = 0.0

    async def stream(self, request: ModelRequest) -> AsyncGenerator[list[Part], None]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        self.began_at = time.time()
        for number in range(TOKENS):
            yield [FieldDelta("content", token(number))]
            await asyncio.sleep(max(0.0, began + (number + 1) / TOKENS_PER_SECOND - loop.time()))
        yield [
            FieldDone("content"),
            FieldValue("emotion", "happy"),
            FieldValue("category", "story"),
        ]
        yield [FieldValue("memory", None), Usage(400, TOKENS, 400 + TOKENS), Finished("stop")]

    async def aclose(self) -> None:
        """Nothing is open."""


class CountingClient:
    """A client that adds up what each call consumes.

    Attributes:
        write_units, read_units: with those of indexes and of conditions that failed.
        writes, reads: calls.
    """

    def __init__(self, client: DynamoClient) -> None:
        self._client = client
        self.write_units = self.read_units = 0.0
        self.writes = self.reads = 0

    async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        try:
            answer = await self._client.call(
                operation, {**request, "ReturnConsumedCapacity": "INDEXES"}
            )
        except ConditionFailedError:
            self.writes += 1
            self.write_units += 1.0
            raise
        consumed = answer.pop("ConsumedCapacity", [])
        units = sum(
            each["CapacityUnits"]
            for each in (consumed if isinstance(consumed, list) else [consumed])
        )
        if operation in {"GetItem", "Query", "BatchGetItem", "TransactGetItems"}:
            self.reads += 1
            self.read_units += units
        else:
            self.writes += 1
            self.write_units += units
        return answer


@dataclass
class Invocations(Invoker):
    """Keeps what `reply` is to be invoked with."""

    asked: list[bytes] = field(default_factory=list)

    async def invoke(self, payload: bytes) -> None:
        self.asked.append(payload)


class Minutes:
    """A Lambda context with much time left."""

    def get_remaining_time_in_millis(self) -> int:
        return 900_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one turn took, from `send` to `done`.

    Attributes:
        posts: of frames, `accepted` included.
        first_tokens: how many tokens the first frame with text held.
        first_s: from the model's first token until its frame came to API Gateway.
        accept_units: of the write units, those of `message`.
    """

    posts: int
    first_tokens: float
    first_s: float
    writes: int
    write_units: float
    reads: int
    read_units: float
    accept_units: float

    @property
    def dollars(self) -> float:
        """Of a million such turns; Lambda, S3 and the model apart."""
        return (
            self.posts * POSTS_DOLLARS
            + self.write_units * WRITE_UNITS_DOLLARS
            + self.read_units * READ_UNITS_DOLLARS
        )


class Turn:
    """One turn in processes of its own: `message`, then `reply`."""

    def __init__(self, url: str, api: ConnectionsApi, folder: Path, *, budget: float) -> None:
        self._api = api
        self._folder = folder
        name = f"bench-{secrets.token_hex(4)}"
        self._settings = AwsSettings(
            region=REGION,
            credentials=CREDENTIALS,
            data_table=f"{name}-data",
            door_table=f"{name}-door",
            bucket="none",
            connections_url=api.url,
            posts_per_second=budget,
        )
        self._signed = SignedClient(region=REGION, credentials=CREDENTIALS, endpoint_url=url)
        self._client = CountingClient(self._signed)
        self._invocations = Invocations()
        self._model = SteadyModel()
        self._connection_id = f"{name}="

    async def run(self) -> Cost:
        settings, client = self._settings, self._client
        await create_tables(client, data=settings.data_table, door=settings.door_table)
        process = await self._process()
        client.writes = client.reads = 0
        client.write_units = client.read_units = 0.0
        await self._message(process)
        accepted = client.write_units
        await self._reply(process)
        await self._signed.aclose()
        return self._cost(accepted)

    async def _process(self) -> Process:
        door = open_door(self._settings, client=self._client, clock=time.time)
        verifier = make_door_verifier(self._settings, door=door, clock=time.time)
        backend = AwsBackend(
            aws=self._settings,
            settings=read_settings(environ={}),
            client=self._client,
            door=door,
            blobs=await open_file_blobs(self._folder),
            verifier=verifier,
            admission=make_admission(self._settings, door=door, verifier=verifier, clock=time.time),
            clock=time.time,
        )
        return Process(backend, invoker=self._invocations)

    async def _message(self, process: Process) -> None:
        now = time.time()
        connection = Connection(
            connection_id=self._connection_id,
            owner=Owner(tenant_id="acme", user_id="anna"),
            issuer="bench",
            auth_expires_at=now + 3_600,
            opened_at=now,
            expires_at=now + 7_200,
        )
        command = {"type": "send", "id": "s1", "content": "Tell me about the harbour."}
        async with process.begin(Minutes(), tenant_id="acme") as here:
            gateway = make_gateway(
                here.on,
                starter=here.starter,
                recovery=make_recovery(here.on, starter=here.starter),
                new_reader=here.on.finder.reader,
            )
            await gateway.message(connection, orjson.dumps(command).decode())

    async def _reply(self, process: Process) -> None:
        owner, run_id = run_of(orjson.loads(self._invocations.asked[0]))
        async with process.begin(Minutes(), tenant_id=owner.tenant_id) as here:
            job = make_reply_job(here.on, model=self._model, starter=here.starter)
            await job.run(owner, run_id, deadline=here.deadline)

    def _cost(self, accepted: float) -> Cost:
        requests = [
            each for each in self._api.requests if each.connection_id == self._connection_id
        ]
        assert {each.status for each in requests} == {200}
        events: list[dict[str, Any]] = []
        first = None
        for request in requests:
            frame = orjson.loads(request.frame)
            texts = [each for each in frame.get("events", ()) if each["type"] == "content.delta"]
            events += frame.get("events", ())
            if texts and first is None:
                first = request.at, "".join(each["text"] for each in texts)
        text = "".join(each["text"] for each in events if each["type"] == "content.delta")
        assert first is not None
        assert text == "".join(map(token, range(TOKENS)))
        assert (events[-1]["type"], events[-1]["saved"]) == ("done", True)
        return Cost(
            posts=len(requests),
            first_tokens=len(first[1].split()),
            first_s=first[0] - self._model.began_at,
            writes=self._client.writes,
            write_units=self._client.write_units,
            reads=self._client.reads,
            read_units=self._client.read_units,
            accept_units=accepted,
        )


async def _turns(url: str, api: ConnectionsApi, count: int, budget: float) -> list[Cost]:
    with tempfile.TemporaryDirectory(prefix="makoto-bench-") as folder:
        turns = [Turn(url, api, Path(folder), budget=budget) for _ in range(count)]
        return [await turn.run() for turn in turns]


def _row(label: str, costs: list[list[Cost]], read: Callable[[Cost], float], digits: int) -> Row:
    cells = [median(map(read, each)) for each in costs]
    return (label, *("-" if cell is None else f"{cell:,.{digits}f}" for cell in cells))


def run(*, quick: bool) -> None:
    """Measure and print part (d).

    Args:
        quick: one turn of each kind instead of three.
    """
    count = 1 if quick else 3
    print("== Posts and writes of a reply on AWS ==")
    print(
        f"{TOKENS} tokens at {TOKENS_PER_SECOND} a second, one reader, {POST_S * 1000:.0f} ms per post; "
        f"dynoxide counts the units;\n{count} turn(s) of each kind, medians."
    )
    with ExitStack() as stack:
        engine, api = stack.enter_context(dynoxide()), stack.enter_context(connections_api())
        api.delay_s = POST_S
        plain = asyncio.run(_turns(engine.url, api, count, 0.0))
        shared = asyncio.run(_turns(engine.url, api, count, BUDGET))
    both = [plain, shared]
    rows = [
        _row("posts", both, lambda one: one.posts, 0),
        _row("tokens in the first frame with text", both, lambda one: one.first_tokens, 0),
        _row("first token to its post, ms", both, lambda one: one.first_s * 1e3, 1),
        _row("DynamoDB write units", both, lambda one: one.write_units, 0),
        _row("  of these to accept", both, lambda one: one.accept_units, 0),
        _row("DynamoDB writes", both, lambda one: one.writes, 0),
        _row("DynamoDB read units", both, lambda one: one.read_units, 1),
        _row("dollars for a million, posts and DynamoDB", both, lambda one: one.dollars, 0),
    ]
    table(("", "no post budget", f"budget of {BUDGET:,.0f}/s"), rows)
    verdicts(
        [
            Verdict(
                what="posts, times one per token",
                target=1 / 6,
                measured=_over(median(one.posts for one in plain), TOKENS),
            ),
            Verdict(
                what="tokens in the first frame with text",
                target=1,
                measured=median(one.first_tokens for one in plain),
            ),
            Verdict(
                what="DynamoDB write units per reply",
                target=110,
                measured=median(one.write_units for one in plain),
            ),
        ]
    )


def _over(value: float | None, by: float) -> float | None:
    return None if value is None else value / by

"""Part (c): cold starts of the Lambda functions beside one that imports everything at once.

Each measurement is a new process: from its start, through Amazon's own runtime client and the handler's
imports, to the answer of its first invocation. Lambda gives a process a whole CPU until it asks for that
("init"), and the function's share of one from then on. The functions, and what stands around them, are
those of the tests (`tests/gateway/hosts/aws/functions.py`).
"""

import asyncio
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from bench import process
from bench.process import Cores, choose_cores, pinned
from bench.report import Verdict, median, table, verdicts, version
from bench.systems import start_provider
from storage.signed_http import SignedEndpoint
from tests.engines.connections_api import CREDENTIALS, REGION
from tests.engines.processes import dynoxide, moto_server
from tests.engines.runtime_api import lambda_function
from tests.gateway.hosts.aws.functions import (
    Functions,
    connect_event,
    disconnect_event,
    failure_event,
    http_event,
    message_event,
    new_connection_id,
    running_functions,
)

ROUNDS = 9
QUICK_ROUNDS = 3
EAGER = "eager"
HANDLERS = ("connect", "disconnect", "message", "reply", "seal", "http")
TARGETS = {"connect": 0.25, "disconnect": 0.25, "message": 0.6, "reply": 1.0}
FIRST_CALLS = {
    EAGER: "checks a token, puts an item",
    "connect": "checks a token, puts an item",
    "disconnect": "deletes an item",
    "message": "accepts a send, invokes reply, posts",
    "reply": "gets its key, a reply of 8 chunks at once",
    "seal": "finds a run ended",
    "http": "sells a ticket",
}


class Start(NamedTuple):
    """A cold start, in milliseconds.

    Attributes:
        init: until the process asked for its first event.
        event: from then until its answer.
    """

    init: float
    event: float


Starts = dict[str, list[Start]]


class Round:
    """One cold start of each, in the order in which a chat needs them."""

    def __init__(self, functions: Functions, cores: Cores, folder: Path) -> None:
        self._functions = functions
        self._cores = cores
        self._folder = folder
        self._connection = new_connection_id()

    def run(self) -> dict[str, Start]:
        connection, asked = self._connection, self._functions.lambdas.asked
        token = self._functions.token()
        found = {
            EAGER: self._cold("bench.eager_handler.handler", {"token": token}),
            "connect": self._ours("connect", connect_event(connection, token=token)),
            "message": self._ours("message", message_event(connection, _send())),
        }
        payload = orjson.loads(asked.pop())
        found["reply"] = self._ours("provider_reply", payload)
        assert self._functions.last(connection)["events"][-1]["reason"] == "stop"
        found["seal"] = self._ours("seal", failure_event(payload))
        found["http"] = self._ours("http", http_event(token=token))
        found["disconnect"] = self._ours("disconnect", disconnect_event(connection))
        return found

    def _ours(self, name: str, event: object) -> Start:
        return self._cold(f"gateway.hosts.aws.{name}.handler", event)

    def _cold(self, handler: str, event: object) -> Start:
        with lambda_function(handler, self._functions.environ, logs=self._folder) as function:
            began = time.perf_counter()
            with pinned(self._cores.server):
                function.start().wait_ready()
            ready = time.perf_counter()
            answer = function.invoke(event)
            answered = time.perf_counter()
        _check(handler, answer, self._folder)
        return Start((ready - began) * 1e3, (answered - ready) * 1e3)


def run(*, quick: bool) -> None:
    """Measure and print the table."""
    folder = Path(tempfile.mkdtemp(prefix="makoto-bench-"))
    try:
        starts = _rounds(QUICK_ROUNDS if quick else ROUNDS, folder)
    finally:
        shutil.rmtree(folder)
    packages = ("awslambdaric", "aiobotocore", "openai", "pydantic", "python-jose")
    print(f"Cold start: init and first invocation ({', '.join(map(version, packages))})")
    print()
    medians = {name: median(map(sum, found)) or 0.0 for name, found in starts.items()}
    table(
        ("function", "first call", "init ms", "event ms", "median ms", "least ms", "of eager"),
        (
            (
                name,
                FIRST_CALLS[name],
                f"{median(start.init for start in found):.0f}",
                f"{median(start.event for start in found):.0f}",
                f"{medians[name]:.0f}",
                f"{min(map(sum, found)):.0f}",
                f"{medians[name] / medians[EAGER]:.2f}",
            )
            for name, found in starts.items()
        ),
    )
    verdicts(
        Verdict(
            what=f"{name}: cold start of the eager one's",
            target=target,
            measured=medians[name] / medians[EAGER],
        )
        for name, target in TARGETS.items()
    )


def _rounds(rounds: int, folder: Path) -> Starts:
    cores = choose_cores()
    starts: Starts = {name: [] for name in (EAGER, *HANDLERS)}
    provider = start_provider(cores.others)
    try:
        with (
            pinned(cores.others),
            dynoxide() as dynamodb,
            moto_server() as s3,  # and the secret's store
            running_functions(dynamodb, s3, folder) as functions,
        ):
            functions.environ |= {
                "AWS_ENDPOINT_URL_DYNAMODB": dynamodb.url,  # without the proxies before them
                "AWS_ENDPOINT_URL_S3": s3.url,
                "AWS_ENDPOINT_URL_SECRETS_MANAGER": s3.url,
                "MAKOTO_MODEL_SECRET": asyncio.run(_keep_key(s3.url)),
                "OPENAI_BASE_URL": f"http://127.0.0.1:{provider.port}/v1",
            }
            Round(functions, cores, folder).run()  # files come into the cache, keys into the store
            for _ in range(rounds):
                for name, taken in Round(functions, cores, folder).run().items():
                    starts[name].append(taken)
    finally:
        provider.stop()
    return starts


async def _keep_key(url: str) -> str:
    """Keep a provider's key where deployments keep it; return what MAKOTO_MODEL_SECRET is."""
    endpoint = SignedEndpoint(
        service="secretsmanager",
        region=REGION,
        credentials=CREDENTIALS,
        connect_timeout_s=5.0,
        read_timeout_s=5.0,
        url=url,
    )
    headers = {
        "Content-Type": "application/x-amz-json-1.1",
        "X-Amz-Target": "secretsmanager.CreateSecret",
    }
    with closing(endpoint):
        made = await endpoint.ask(
            headers, orjson.dumps({"Name": "bench", "SecretString": "sk-bench"})
        )
    arn: str = orjson.loads(made.body)["ARN"]
    return arn


def _send() -> str:
    return orjson.dumps(
        {"type": "send", "id": f"bench-{time.time_ns()}", "content": "chunks=8 every=0"}
    ).decode()


_ANSWERS: dict[str, Callable[[Any], bool]] = {
    "provider_reply": lambda answer: answer is None,
    "seal": lambda answer: answer == {"batchItemFailures": []},
}


def _check(handler: str, answer: Any, folder: Path) -> None:
    is_right = _ANSWERS.get(handler.split(".")[-2], lambda answer: answer["statusCode"] == 200)
    if not is_right(answer):
        said = (folder / f"{handler}.log").read_text()
        raise process.NotStartedError(f"{handler} answered {answer}: {said[-2000:]}")

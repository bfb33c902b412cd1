"""Every fault of a provider, on every host: typed, bounded, kept as far as it came, told to nobody."""

import asyncio
import io
import itertools
import logging
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from pathlib import Path
from typing import Any, Protocol

import pytest
import pytest_asyncio

from gateway.telemetry import JsonFormatter
from gateway.turns.outcome import Outcome
from streaming.models.errors import TimeoutPhase
from tests.engines.processes import Engine
from tests.engines.runtime_api import LambdaFunction
from tests.gateway.hosts.aws.functions import Functions, running_functions
from tests.gateway.hosts.client import Client, Frame, text_of
from tests.gateway.hosts.local_host import LocalHost, local_host
from tests.gateway.hosts.provider_faults import FAULTS, LEAKS, REPLY, SHORT_S, TEXT, Fault
from tests.streaming.models.openai_endpoint import OpenAIEndpoint, answer, openai_endpoint

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEY = "sk-test-UPSTREAM"

START_S = 60.0
"""How long an invocation may take: 20 s before, an answer would be interrupted, and it has to start."""

CLOSED_S = 1.0
"""How soon behind the end of an answer its request to the provider is closed."""


class Chat(Protocol):
    """One connection, and what its host has logged since it was opened."""

    @property
    def frames(self) -> list[Frame]:
        """Every frame that came, in order."""

    async def exchange(self, content: str, **fields: Any) -> tuple[Frame, list[Frame]]:
        """Send a message and wait for the whole answer; return `accepted` and the events."""

    async def history(self, session_id: str) -> list[Frame]:
        """Return the messages of a session, oldest first."""

    def logged(self) -> str:
        """Return the host's log lines."""


class Hosts(ABC):
    """Hosts of one kind before the same provider, one for each deadline that may be short."""

    def __init__(self, endpoint: OpenAIEndpoint) -> None:
        self.endpoint = endpoint
        self._warm: set[TimeoutPhase | None] = set()

    @asynccontextmanager
    async def chat(self, short: TimeoutPhase | None) -> AsyncIterator[Chat]:
        """Connect to the one with that deadline; it has a kept connection to the provider."""
        if short not in self._warm:
            async with self.connect(short) as chat:
                await answers_well(chat, self.endpoint)
            self._warm.add(short)
        async with self.connect(short) as chat:
            yield chat

    @abstractmethod
    def connect(self, short: TimeoutPhase | None) -> AbstractAsyncContextManager[Chat]:
        """Connect to the one with that deadline, made if there is none yet."""


def deadlines(short: TimeoutPhase | None) -> dict[str, Any]:
    """Return the settings of a host with one short deadline."""
    names = {"first_token": "first_token_s", "between_chunks": "between_chunks_s"}
    settings = {"first_token_s": 20.0, "between_chunks_s": 20.0, "reply_s": 20.0}
    return settings if short is None else settings | {names.get(short, "reply_s"): SHORT_S}


# The local host: a server, a WebSocket client


class LocalChat:
    def __init__(self, client: Client, log: io.StringIO) -> None:
        self.exchange, self.history, self.logged = client.exchange, client.history, log.getvalue
        self.frames = client.frames


class LocalHosts(Hosts):
    """Servers in this process."""

    def __init__(self, endpoint: OpenAIEndpoint, folder: Path, stack: AsyncExitStack) -> None:
        super().__init__(endpoint)
        self._folder, self._stack = folder, stack
        self._made: dict[TimeoutPhase | None, LocalHost] = {}

    @asynccontextmanager
    async def connect(self, short: TimeoutPhase | None) -> AsyncIterator[LocalChat]:
        if short not in self._made:
            self._made[short] = await self._stack.enter_async_context(
                local_host(
                    self._folder / str(short),
                    openai_api_key=KEY,
                    openai_base_url=self.endpoint.base_url,
                    **deadlines(short),
                )
            )
        async with self._made[short].client() as client:
            with log_lines() as log:
                yield LocalChat(client, log)


@contextmanager
def log_lines() -> Iterator[io.StringIO]:
    """Write what a server would log at its lowest level."""
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    handler.setFormatter(JsonFormatter())
    handler.addFilter(lambda record: not record.name.startswith(("websockets.client", "aiohttp")))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield log
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


# AWS: the functions, in Amazon's runtime client


class AwsChat:
    """Does what API Gateway and Lambda would do, in a thread."""

    def __init__(self, functions: Functions, reply: LambdaFunction) -> None:
        self._functions, self._reply = functions, reply
        self._connection = functions.connect()
        self._logged_before = {path: path.stat().st_size for path in self._logs()}

    @property
    def frames(self) -> list[Frame]:
        return self._functions.frames(self._connection)

    async def exchange(self, content: str, **fields: Any) -> tuple[Frame, list[Frame]]:
        return await asyncio.to_thread(self._exchange, content, fields)

    async def history(self, session_id: str) -> list[Frame]:
        page = await asyncio.to_thread(self._ask, "history", session_id=session_id)
        assert "next" not in page
        items: list[Frame] = page["items"][::-1]
        return items

    def logged(self) -> str:
        return "".join(
            path.read_bytes()[self._logged_before.get(path, 0) :].decode() for path in self._logs()
        )

    def _exchange(self, content: str, fields: dict[str, Any]) -> tuple[Frame, list[Frame]]:
        accepted = self._ask("send", content=content, **fields)
        assert accepted["type"] == "accepted", accepted
        self._reply.invoke(self._functions.lambdas.asked.pop(), timeout_s=START_S)
        events: list[Frame] = []
        for frame in self.frames:
            if frame["type"] == "events" and frame["run_id"] == accepted["run_id"]:
                assert frame["first_seq"] == len(events) + 1
                events += frame["events"]
        return accepted, events

    def _ask(self, kind: str, **fields: Any) -> Frame:
        command_id = uuid.uuid4().hex
        self._functions.command(self._connection, type=kind, id=command_id, **fields)
        (said,) = (frame for frame in self.frames if frame.get("id") == command_id)
        return said

    def _logs(self) -> Iterator[Path]:
        return self._functions.logs.rglob("*.log")


class AwsHosts(Hosts):
    """One deployment, whose `reply` differs."""

    def __init__(self, endpoint: OpenAIEndpoint, functions: Functions) -> None:
        super().__init__(endpoint)
        self._functions = functions
        self._replies: dict[TimeoutPhase | None, LambdaFunction] = {}

    @asynccontextmanager
    async def connect(self, short: TimeoutPhase | None) -> AsyncIterator[AwsChat]:
        if short not in self._replies:
            settings = {f"MAKOTO_{name.upper()}": str(s) for name, s in deadlines(short).items()}
            self._replies[short] = self._functions.another("reply", **settings)
        yield await asyncio.to_thread(AwsChat, self._functions, self._replies[short])


# What they have in common


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def endpoint() -> AsyncIterator[OpenAIEndpoint]:
    async with openai_endpoint() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def local(
    endpoint: OpenAIEndpoint, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[LocalHosts]:
    async with AsyncExitStack() as stack:
        yield LocalHosts(endpoint, tmp_path_factory.mktemp("local"), stack)


@pytest.fixture(scope="module")
def aws(
    endpoint: OpenAIEndpoint,
    dynoxide: Engine,
    moto_server: Engine,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[AwsHosts]:
    with running_functions(
        dynoxide,
        moto_server,
        tmp_path_factory.mktemp("aws"),
        MAKOTO_LOG_LEVEL="debug",
        OPENAI_API_KEY=KEY,
        OPENAI_BASE_URL=endpoint.base_url,
    ) as functions:
        yield AwsHosts(endpoint, functions)


@pytest.fixture(
    params=[
        pytest.param(kind, marks=pytest.mark.xdist_group(f"provider faults, {kind}"))
        for kind in ("local", "aws")
    ]
)
def hosts(request: pytest.FixtureRequest) -> Hosts:
    found: Hosts = request.getfixturevalue(request.param)
    return found


async def answers_well(chat: Chat, endpoint: OpenAIEndpoint, **fields: Any) -> None:
    """See a whole answer; its connection to the provider is kept, and the next one takes it."""
    endpoint.will(answer(REPLY))
    _, events = await chat.exchange("Hello", **fields)
    assert events[-1]["reason"] == "stop"
    assert text_of(events) == TEXT


def waits(endpoint: OpenAIEndpoint) -> list[float]:
    """Return the seconds between each request and the next."""
    return [after.at - before.at for before, after in itertools.pairwise(endpoint.requests)]


def assert_ends_as(events: Sequence[Frame], fault: Fault) -> None:
    """Check what the client was told."""
    assert events[0]["type"] == "started"
    kinds = [event["type"] for event in events]
    assert kinds.count("done") == 1
    done = events[-1]
    assert (done["reason"], done["saved"]) == (fault.reason, True)
    error = done.get("error", {})
    assert error.get("code") == fault.code
    if fault.code is not None:
        assert error["retryable"] == fault.retryable
        assert error.get("retry_after_ms") == fault.retry_after_ms
        assert error.get("phase") == fault.deadline
    if fault.text:
        assert kinds[-2] == "usage"  # counted, or estimated where the provider did not get so far
    if Outcome(reason=fault.reason).whole:
        assert {"content.done", "emotion", "category"} <= set(kinds)
    said = {event["type"]: event.get("value") for event in events}
    assert fault.values.items() <= said.items()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
async def test_an_answer_ends_as_it_must_and_the_next_one_is_whole(
    hosts: Hosts, endpoint: OpenAIEndpoint, fault: Fault
) -> None:
    async with hosts.chat(fault.deadline) as chat:
        endpoint.will(*fault.provider)
        endpoint.requests.clear()
        accepted, events = await chat.exchange("Hi")

        assert_ends_as(events, fault)
        async with asyncio.timeout(CLOSED_S):
            await endpoint.closed()
        assert len(endpoint.requests) == fault.requests
        assert min(waits(endpoint), default=fault.waits_s) >= fault.waits_s
        session_id = accepted["session_id"]
        stored = await chat.history(session_id)
        assert [(message["role"], message.get("end")) for message in stored] == [
            ("user", None),
            *([("assistant", fault.reason)] if fault.text else []),
        ]
        assert text_of(events) == fault.text
        assert fault.text in {"", stored[-1]["content"]}

        await answers_well(chat, endpoint, session_id=session_id)
        log = chat.logged()
        assert log.count('"run ended"') == 2
        assert not [word for word in LEAKS if word in log or word in str(chat.frames)]

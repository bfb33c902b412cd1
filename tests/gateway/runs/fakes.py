"""What a run is surrounded by, under the control of the test."""

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import orjson

from gateway.frames.spill import Spill
from gateway.runs.live_run import LiveRun
from gateway.runs.transport import GoneError
from gateway.wire.events import Done, content_delta
from storage.blobs.blob_store import SignedDownload
from storage.errors import (
    BlobMissingError,
    LogSlotTakenError,
    StorageError,
    StorageUnavailableError,
)
from storage.records import BlobRef, Connection, LogEntry, Owner, Payload, Run
from storage.repositories import Acknowledge

ANNA = Owner(tenant_id="acme", user_id="anna")
BEN = Owner(tenant_id="acme", user_id="ben")
NOW = 1_000_000.0

ENDED = [Done(reason="stop", message_id="reply-of-run-1", saved=True).encode()]
"""How the run ends."""


def at(connection_id: str, **changes: Any) -> Connection:
    """Return the record of an open connection of Anna."""
    fields: dict[str, Any] = {
        "owner": ANNA,
        "issuer": "issuer",
        "auth_expires_at": NOW + 3_600,
        "opened_at": NOW,
        "expires_at": NOW + 7_200,
    }
    return Connection(connection_id=connection_id, **{**fields, **changes})


def a_run(run_id: str = "run-1", **changes: Any) -> Run:
    fields: dict[str, Any] = {
        "run_id": run_id,
        "send_id": f"send-of-{run_id}",
        "kind": "send",
        "request_hash": "a" * 64,
        "session_id": "session-1",
        "message_id": f"question-of-{run_id}",
        "reply_id": f"reply-of-{run_id}",
        "created_at": NOW,
        "log_until": NOW + 86_400,
    }
    return Run(**{**fields, **changes})


@dataclass
class FakeTransport:
    """Keeps what was posted to each connection; connections may be full or gone."""

    frames: defaultdict[str, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    full: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    closed: list[tuple[str, int, str]] = field(default_factory=list)
    waiting: dict[str, asyncio.Future[None]] = field(default_factory=dict)

    def post(self, connection_id: str, frame: bytes) -> asyncio.Future[None] | None:
        if connection_id in self.gone:
            raise GoneError
        assert connection_id not in self.waiting, "a second frame in flight"
        self.frames[connection_id].append(frame)
        if connection_id not in self.full:
            return None
        future = self.waiting[connection_id] = asyncio.get_running_loop().create_future()
        return future

    async def close(self, connection_id: str, code: int, reason: str) -> None:
        self.closed.append((connection_id, code, reason))

    def drain(self, connection_id: str, error: Exception | None = None) -> None:
        """Let the frame in flight arrive, or fail."""
        future = self.waiting.pop(connection_id, None)
        if future is None:
            return
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)

    def leave(self, connection_id: str) -> None:
        """Close a connection."""
        self.gone.add(connection_id)
        self.drain(connection_id, GoneError())

    def answers(self, connection_id: str) -> list[dict[str, Any]]:
        return [orjson.loads(frame) for frame in self.frames[connection_id]]


@dataclass
class FakeLog:
    """A log whose appends stay pending until the test lets them be answered.

    It keeps the slot rules of `RunLog`; `refusing` answers that nothing can be kept, `lost` keeps an
    entry and says that it could not, `ahead` holds what another writer has put into the next slot.
    """

    kept: list[LogEntry] = field(default_factory=list)
    refusing: bool = False
    lost: bool = False
    at_once: bool = False
    pending: list[tuple[LogEntry, Acknowledge]] = field(default_factory=list)
    attempts: int = 0

    def append(self, entry: LogEntry, *, claimed_by: str, acknowledge: Acknowledge) -> None:
        assert claimed_by == "claim-1"
        assert entry.last - entry.first < 64
        self.attempts += 1
        self.pending.append((entry, acknowledge))
        if self.at_once and len(self.pending) == 1:
            asyncio.get_running_loop().call_soon(self.answer)

    async def read(self, run_id: str, *, after: int) -> Sequence[LogEntry]:
        return [entry for entry in self.kept if entry.run_id == run_id and entry.last > after]

    def answer(self) -> None:
        """Answer all appends that are pending now, in their order."""
        pending, self.pending = self.pending, []
        answers = [self._keep(entry) for entry, _ in pending]
        for (_, acknowledge), answer in zip(pending, answers, strict=True):
            acknowledge(answer)

    def take_slot(self) -> None:
        """Let another writer fill the next slot."""
        first = self._next
        self.kept.append(LogEntry(run_id="run-1", first=first, last=first, body=b'{"type":"done"}'))

    @property
    def _next(self) -> int:
        return self.kept[-1].last + 1 if self.kept else 1

    def _keep(self, entry: LogEntry) -> StorageError | None:
        if entry in self.kept:
            return None
        if self.refusing or entry.first > self._next:
            return StorageUnavailableError("refusing")
        if entry.first < self._next:
            return LogSlotTakenError("taken")
        self.kept.append(entry)
        return StorageUnavailableError("lost") if self.lost else None


@dataclass
class FakeBlobs:
    """Blobs in a dictionary, that can be made to fail or to wait."""

    bodies: dict[str, bytes] = field(default_factory=dict)
    failing: bool = False
    gate: asyncio.Event | None = None

    async def put(self, key: str, body: bytes, *, passing: bool = False) -> BlobRef:
        if self.gate is not None:
            await self.gate.wait()
        if self.failing:
            raise StorageUnavailableError("no room")
        self.bodies[key] = body
        return BlobRef(key=key, bytes=len(body), sha256=hashlib.sha256(body).hexdigest())

    async def get(self, key: str) -> bytes:
        if key not in self.bodies:
            raise BlobMissingError
        return self.bodies[key]

    async def delete(self, key: str) -> None:
        self.bodies.pop(key, None)

    def sign_download(self, owner: Owner, ref: BlobRef, *, now: float) -> SignedDownload:
        return SignedDownload(url=f"/blobs/{ref.key}", expires_at=now + 300)


class FakePayloads:
    """Stands for a store of which only the payload rows are needed."""

    def __init__(self) -> None:
        self.rows: dict[str, Payload] = {}

    def of(self, owner: Owner) -> Any:
        return SimpleNamespace(payloads=self)

    async def reserve(self, payload: Payload) -> None:
        self.rows[payload.payload_id] = payload


class Surroundings:
    """A live run with a log, a transport and a blob store that obey the test."""

    def __init__(self, *, at_once: bool = False) -> None:
        self.log = FakeLog(at_once=at_once)
        self.transport = FakeTransport()
        self.blobs = FakeBlobs()
        self.payloads = FakePayloads()
        self.spill = Spill(
            store=self.payloads,  # type: ignore[arg-type] # only `of(...).payloads` is used
            blobs=self.blobs,  # type: ignore[arg-type] # uploads are not used
            clock=lambda: NOW,
        )
        self.live = self.make(a_run())

    def make(self, run: Run, owner: Owner = ANNA) -> LiveRun:
        return LiveRun(
            owner=owner,
            run=run,
            claimed_by="claim-1",
            log=self.log,
            transport=self.transport,
            spill=self.spill,
            spill_until=NOW + 1_000,
        )

    def events(self, connection_id: str) -> list[tuple[int, dict[str, Any]]]:
        """What a client has of the run: every event it was sent, with its number, in order of arrival."""
        return [pair for frame in self.transport.answers(connection_id) for pair in self._of(frame)]

    def _of(self, frame: dict[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
        if frame["type"] == "payload":
            frame = orjson.loads(self.blobs.bodies[frame["url"].removeprefix("/blobs/")])
        assert frame["type"] == "events"
        assert frame["last_seq"] == frame["first_seq"] + len(frame["events"]) - 1
        yield from enumerate(frame["events"], frame["first_seq"])


def text_of(events: Sequence[tuple[int, dict[str, Any]]]) -> str:
    return "".join(event["text"] for _, event in events if event["type"] == "content.delta")


def deltas(*texts: str) -> list[bytes]:
    """Encoded deltas of these texts."""
    return [content_delta(text) for text in texts]


def numbers(around: Surroundings, connection: str = "c1") -> list[int]:
    """The numbers of the events that a connection got."""
    return [number for number, _ in around.events(connection)]


def follow(around: Surroundings, connection: str = "c1", after: int = 0) -> None:
    """Make a connection a reader."""
    around.live.feed.follow(connection, after=after)

"""The connections of a world: each hears, stalls, breaks or stays silent as the test says."""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import orjson

from gateway.runs.transport import GoneError
from tests.gateway.runs.fakes import FakeBlobs
from tests.promises.history import Happening, Heard


@dataclass(eq=False)
class Wire:
    """One connection.

    Attributes:
        full: a post waits until `Wires.drain`, and its frame is heard only then.
        deaf: posts succeed and nobody hears them: the client is gone and nobody knows.
        cut: the connection is closed.
    """

    name: str
    user: str
    full: bool = False
    deaf: bool = False
    cut: bool = False
    in_flight: list[tuple[bytes, asyncio.Future[None]]] = field(default_factory=list)


class Wires:
    """Where the frames of all processes arrive, and are noted.

    Args:
        happenings: what is heard goes there.
        blobs: where spilled frames lie.
        clock: Unix time in seconds.
    """

    def __init__(
        self, happenings: list[Happening], blobs: FakeBlobs, clock: Callable[[], float]
    ) -> None:
        self.open: dict[str, Wire] = {}
        self.applied: defaultdict[tuple[str, str], int] = defaultdict(int)
        """The last number that a user's device has of a run."""
        self._happenings = happenings
        self._blobs = blobs
        self._clock = clock

    def add(self, wire: Wire) -> None:
        self.open[wire.name] = wire

    def cut(self, wire: Wire) -> None:
        """Break a connection, with what is in flight on it."""
        wire.cut = True
        self.open.pop(wire.name, None)
        for _, waiting in wire.in_flight:
            if not waiting.done():
                waiting.set_exception(GoneError())
                waiting.exception()
        wire.in_flight.clear()

    def drain(self, wire: Wire) -> None:
        """Let what is in flight arrive."""
        in_flight, wire.in_flight = wire.in_flight, []
        for frame, waiting in in_flight:
            self._hear(wire, frame)
            if not waiting.done():
                waiting.set_result(None)

    def post(self, connection_id: str, frame: bytes) -> asyncio.Future[None] | None:
        wire = self.open.get(connection_id)
        if wire is None:
            raise GoneError
        if wire.full:
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            wire.in_flight.append((frame, waiting))
            return waiting
        self._hear(wire, frame)
        return None

    def _hear(self, wire: Wire, frame: bytes) -> None:
        if wire.deaf:
            return
        heard = orjson.loads(frame)
        if heard["type"] == "payload":
            heard = orjson.loads(self._blobs.bodies[heard["url"].removeprefix("/blobs/")])
        self._happenings.append(
            Heard(at=self._clock(), user=wire.user, connection=wire.name, frame=heard)
        )
        if heard["type"] == "events":
            here = wire.user, heard["run_id"]
            if heard["first_seq"] <= self.applied[here] + 1:
                self.applied[here] = max(self.applied[here], heard["last_seq"])


class MortalTransport:
    """A `Transport` of one process, that posts nothing once the process is dead."""

    def __init__(self, wires: Wires) -> None:
        self.dead = False
        self._wires = wires

    def post(self, connection_id: str, frame: bytes) -> asyncio.Future[None] | None:
        if self.dead:
            raise GoneError
        return self._wires.post(connection_id, frame)

    async def close(self, connection_id: str, code: int, reason: str) -> None:
        wire = self._wires.open.get(connection_id)
        if wire is not None:
            self._wires.cut(wire)

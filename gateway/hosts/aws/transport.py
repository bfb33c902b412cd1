"""Frames through API Gateway: the `Transport` of the AWS host."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from gateway.hosts.aws.connections_api import Answer, ConnectionsApi
from gateway.runs.transport import GoneError, UndeliveredError
from storage.errors import StorageError

ATTEMPTS: Final = 7
"""How often a frame is posted before faults (no answer, 403, 5xx) end it: for two or three seconds."""

GIVE_UP_S: Final = 20.0
"""For how long a frame is tried: a client that hears nothing for 15 s asks to resume anyway."""

FIRST_GAP_S: Final = 0.1
LONGEST_GAP_S: Final = 3.2
"""After 429: the account posts too often, or this client does not read."""

FAULT_PAUSE_S: Final = 0.1
"""Before the second repeat after a fault, doubling. The first comes at once, on a new connection."""

CLOSE_ATTEMPTS: Final = 3

_HOPELESS: Final = (400, 404, 410, 413)
"""No repeat would change these. The last cannot be: no frame is above 131,072 bytes."""

log = logging.getLogger(__name__)


class UnreachableError(UndeliveredError):
    """A frame was posted again and again, and nothing says that it arrived. Its client will ask to resume."""


class FrameRefusedError(UndeliveredError):
    """The API calls a frame too large or malformed: our own fault."""


@dataclass(slots=True)
class _Line:
    """The way to one connection: a request at a time, in the order in which they were asked for.

    Attributes:
        turn: who has it.
        users: how many have it or wait for it.
        gap_s: least time between two posts; grows with each 429, shrinks with each success.
    """

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0
    gap_s: float = 0.0


class ConnectionsTransport:
    """Posts frames over the @connections API. Cheap to make; `settle` is the last step of a handler.

    A frame whose fate is unknown is posted again: clients drop what they have by its number. The order of
    posts on the way is not guaranteed by API Gateway, so each connection has one at a time; while it
    waits, its readers collect what comes, and say it in one frame.

    Args:
        api: stays open for as long as this is used.
        on_gone: told once of each connection that is found closed, to remove its row.
        slot: awaited before each attempt: returns when the post may leave (see `post_budget`).
        chance: a random number between 0 and 1.
        pause: sleeps so many seconds.
    """

    def __init__(
        self,
        api: ConnectionsApi,
        *,
        on_gone: Callable[[str], Awaitable[None]],
        slot: Callable[[], Awaitable[None]] | None = None,
        chance: Callable[[], float] = random.random,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._api = api
        self._on_gone = on_gone
        self._slot = slot
        self._chance = chance
        self._pause = pause
        self._lines: dict[str, _Line] = {}
        self._gone: set[str] = set()
        self._under_way: set[asyncio.Task[None]] = set()
        self._over = False

    def post(self, connection_id: str, frame: bytes) -> "asyncio.Task[None]":
        """See `Transport.post`. The post is under way when this returns; cancelling it may come too late.

        The task raises `GoneError` for a connection that is gone, `UndeliveredError` for a frame that does
        not get through within 20 seconds (and the time it waits for posts before it); this is logged, and
        the connection stays.
        """
        if self._over:
            raise UndeliveredError
        if connection_id in self._gone:
            raise GoneError
        return self._start(
            self._in_turn(connection_id, lambda line: self._post(line, connection_id, frame))
        )

    async def close(self, connection_id: str, code: int, reason: str) -> None:
        """See `Transport.close`. After what was posted before; code and reason do not get through.

        Whoever closes posts an `error` that is `fatal` first: DeleteConnection takes no code.
        """
        if connection_id not in self._gone:
            with suppress(GoneError):
                await self._start(
                    self._in_turn(connection_id, lambda _: self._close(connection_id))
                )

    async def settle(self, *, within_s: float) -> None:
        """Wait until nothing is under way, readers that go on included; then cancel what still is.

        Nothing is posted after that: a Lambda function is frozen when its handler returns, and what was
        left would be posted in the middle of a later invocation, or never.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self._under_way:
                    await asyncio.wait(self._under_way)
        self._over = True
        while self._under_way:
            log.warning("posts given up", extra={"posts": len(self._under_way)})
            for task in self._under_way:
                task.cancel()
            await asyncio.wait(self._under_way)

    # One request after the other

    def _start(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._take_note)
        return task

    def _take_note(self, task: "asyncio.Task[None]") -> None:
        """Ask for its error, lest asyncio log it as one that nobody asked for: a reader may have left."""
        self._under_way.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, GoneError):
            log.error("posting broke", exc_info=error)

    async def _in_turn(self, connection_id: str, work: Callable[[_Line], Awaitable[None]]) -> None:
        line = self._lines.setdefault(connection_id, _Line())
        line.users += 1
        try:
            async with line.turn:
                if connection_id in self._gone:
                    raise GoneError
                await work(line)
        finally:
            line.users -= 1
            if not line.users and not line.gap_s:
                self._lines.pop(connection_id, None)

    async def _post(self, line: _Line, connection_id: str, frame: bytes) -> None:
        loop = asyncio.get_running_loop()
        spent, faults = 0.0, 0
        while True:
            if self._slot is not None:
                await self._slot()
            began = loop.time()
            answer = await self._api.post(connection_id, frame, fresh=faults > 0)
            if answer.status == HTTPStatus.OK:
                break
            if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
                line.gap_s = min(max(2 * line.gap_s, FIRST_GAP_S), LONGEST_GAP_S)
                pause = line.gap_s
            else:
                faults += 1
                pause = _pause_after(faults)
            if answer.status in _HOPELESS or faults == ATTEMPTS or spent >= GIVE_UP_S:
                raise self._failure(connection_id, frame, answer)
            await self._pause(self._spread(pause))
            spent += loop.time() - began
        await self._keep_the_gap(line)

    def _failure(self, connection_id: str, frame: bytes, answer: Answer) -> GoneError:
        if answer.status == HTTPStatus.GONE:
            self._found_gone(connection_id)
            return GoneError()
        log.error(
            "a frame could not be posted",
            extra={"connection_id": connection_id, "bytes": len(frame), "answer": _said(answer)},
        )
        if answer.status in _HOPELESS:
            return FrameRefusedError(_said(answer))
        return UnreachableError(_said(answer))

    async def _keep_the_gap(self, line: _Line) -> None:
        """Wait after a post and not before the next, whose frame is made by then: it holds all that came."""
        if not line.gap_s:
            return
        line.gap_s = line.gap_s / 2 if line.gap_s > FIRST_GAP_S else 0.0
        await self._pause(self._spread(line.gap_s))

    async def _close(self, connection_id: str) -> None:
        for faults in range(CLOSE_ATTEMPTS):
            answer = await self._api.delete(connection_id, fresh=faults > 0)
            if answer.status in (HTTPStatus.OK, HTTPStatus.NO_CONTENT):
                self._gone.add(connection_id)
                return
            if answer.status == HTTPStatus.GONE:
                self._found_gone(connection_id)
                return
            await self._pause(self._spread(FIRST_GAP_S * 2**faults))
        log.warning(
            "a connection was not closed",
            extra={"connection_id": connection_id, "answer": _said(answer)},
        )

    # What answers mean

    def _found_gone(self, connection_id: str) -> None:
        if connection_id not in self._gone:
            self._gone.add(connection_id)
            self._start(self._tell_gone(connection_id))

    async def _tell_gone(self, connection_id: str) -> None:
        try:
            await self._on_gone(connection_id)
        except StorageError:  # its row expires by itself
            log.warning("a closed connection stays known", exc_info=True)

    def _spread(self, seconds: float) -> float:
        """Return between half of it and all, so that those who failed together do not come back together."""
        return seconds * (1 + self._chance()) / 2


def _pause_after(faults: int) -> float:
    return FAULT_PAUSE_S * 2 ** (faults - 2) if faults > 1 else 0.0


def _said(answer: Answer) -> str:
    return f"{answer.status} {answer.code}".strip()

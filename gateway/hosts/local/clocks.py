"""Ending sockets whose time is over: one sweep over all of them a second, no timer for each."""

import asyncio
import logging
from collections.abc import Callable

from gateway.hosts.local.limits import HostLimits
from gateway.hosts.local.sockets import OpenSocket, Sockets, close
from gateway.identity.principal import still_holds
from gateway.runs.transport import GoneError
from gateway.wire.answers import Answer, GoAway, error_answer, milliseconds
from gateway.wire.errors import AuthExpiredError, AuthRequiredError, CloseCode, WireError

log = logging.getLogger(__name__)


class Clocks:
    """Looks at every open socket each `sweep_s`. Runs until cancelled.

    How old a socket is says the loop's clock, which no one sets; whether its token still is good, the time
    of day.

    Args:
        sockets: the open ones.
        limits: how long what may last.
        clock: Unix time in seconds.
    """

    def __init__(self, *, sockets: Sockets, limits: HostLimits, clock: Callable[[], float]) -> None:
        self._sockets = sockets
        self._limits = limits
        self._clock = clock
        self._notice_s = min(limits.goaway_s, limits.lifetime_s / 8)
        self._closing: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            await asyncio.sleep(self._limits.sweep_s)
            self.sweep()

    def sweep(self) -> None:
        """End what is over, warn what soon will be."""
        now, ticks = self._clock(), asyncio.get_running_loop().time()
        for socket in self._sockets:
            self._look_at(socket, now, ticks)

    def _look_at(self, socket: OpenSocket, now: float, ticks: float) -> None:
        limits, connection = self._limits, socket.connection
        age_s = ticks - socket.opened_at
        if age_s >= limits.lifetime_s:
            self._end(socket, CloseCode.AGE, "lifetime is over")
        elif not socket.identified and age_s >= limits.identify_s:
            error = AuthExpiredError() if connection.auth_expires_at else AuthRequiredError()
            self._end(socket, CloseCode.AUTH, "not identified", error)
        elif socket.identified and not still_holds(connection.auth_expires_at, now=now):
            self._end(socket, CloseCode.AUTH, "token has expired", AuthExpiredError())
        elif ticks - socket.heard_at >= limits.idle_s:
            self._end(socket, CloseCode.IDLE, "idle")
        elif not socket.told_to_go and age_s >= limits.lifetime_s - self._notice_s:
            socket.told_to_go = True
            self._post(
                socket,
                GoAway(reason="max_age", deadline=milliseconds(connection.expires_at)),
            )

    def _end(
        self, socket: OpenSocket, code: CloseCode, reason: str, error: WireError | None = None
    ) -> None:
        if error is not None:
            self._post(socket, error_answer(error, fatal=True))
        connection_id = socket.connection.connection_id
        self._sockets.remove(connection_id)  # nothing more is posted; its handler cleans up
        task = asyncio.create_task(close(socket.ws, code, reason))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        log.info("socket ended", extra={"connection_id": connection_id, "why": reason})

    def _post(self, socket: OpenSocket, answer: Answer) -> None:
        try:
            self._sockets.post(socket.connection.connection_id, answer.encode())
        except GoneError:
            return

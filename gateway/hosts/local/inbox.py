"""The frames of one connection, handed out in their order; some may overtake one that takes long."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

LONG_S = 0.05
"""A frame takes long when the next one is not asked for within so many seconds."""

AHEAD_MAX = 8
"""How many frames are read ahead, and how many overtake at a time; the rest TCP holds back."""

AHEAD_CHARACTERS = 65_536
"""No more frames are read ahead once those that were have so many characters."""


class Inbox:
    """Hands out the frames of a connection in their order, and reads ahead while one takes long.

    Of the frames that are read ahead, those that may overtake are carried out at once, each in a task of its
    own: they wait neither for the frame that takes long nor for each other. The others wait for `next`. While
    no frame takes long none is read ahead, and none costs a task.

    A fault in what has overtaken ends the connection; `next` or `aclose` raises it.

    Args:
        ws: where the frames come from.
        overtakes: whether a frame may overtake others.
        carry_out: carries out one that does.
    """

    __slots__ = (
        "_ahead",
        "_carry_out",
        "_fault",
        "_long",
        "_overtakes",
        "_overtaking",
        "_reading",
        "_ws",
    )

    def __init__(
        self,
        ws: ServerConnection,
        *,
        overtakes: Callable[[str | bytes], bool],
        carry_out: Callable[[str | bytes], Coroutine[None, None, None]],
    ) -> None:
        self._ws = ws
        self._overtakes = overtakes
        self._carry_out = carry_out
        self._ahead: list[str | bytes] = []
        self._long: asyncio.TimerHandle | None = None
        self._reading: asyncio.Task[None] | None = None
        self._overtaking: set[asyncio.Task[None]] = set()
        self._fault: BaseException | None = None

    async def next(self) -> str | bytes:
        """Wait for the next frame; the one before it is carried out.

        Raises:
            ConnectionClosed: all that came before the end was handed out.
        """
        if self._long is not None:
            await self._stop_reading()
        if self._fault is not None:
            raise self._fault
        frame = self._ahead.pop(0) if self._ahead else await self._ws.recv()
        self._long = asyncio.get_running_loop().call_later(LONG_S, self._read_on)
        return frame

    async def aclose(self) -> None:
        """Read no more, and wait for what has overtaken."""
        await self._stop_reading()
        if self._overtaking:
            await asyncio.wait(self._overtaking)
        if self._fault is not None:
            raise self._fault

    async def _stop_reading(self) -> None:
        if self._long is not None:
            self._long.cancel()
            self._long = None
        if self._reading is not None:
            reading, self._reading = self._reading, None
            reading.cancel()  # loses no frame
            await asyncio.wait({reading})
            if not reading.cancelled():
                self._fault = self._fault or reading.exception()

    def _read_on(self) -> None:
        self._reading = asyncio.create_task(self._read_ahead())

    async def _read_ahead(self) -> None:
        with suppress(ConnectionClosed):  # `next` comes to it
            while len(self._ahead) < AHEAD_MAX and sum(map(len, self._ahead)) < AHEAD_CHARACTERS:
                frame = await self._ws.recv()
                if not self._overtakes(frame):
                    self._ahead.append(frame)
                    continue
                task = asyncio.create_task(self._carry_out(frame))
                self._overtaking.add(task)
                task.add_done_callback(self._has_overtaken)
                if len(self._overtaking) >= AHEAD_MAX:
                    await asyncio.wait(self._overtaking, return_when=asyncio.FIRST_COMPLETED)

    def _has_overtaken(self, task: asyncio.Task[None]) -> None:
        self._overtaking.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            self._fault = self._fault or fault
            self._ws.transport.abort()  # `next` may be waiting for a frame

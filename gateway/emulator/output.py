"""What worker processes print, line by line."""

import asyncio
from collections.abc import Callable
from typing import IO, Final

LINE_BYTES: Final = 262_144
"""A longer line is cut there, as CloudWatch Logs cuts it."""

Output = Callable[[str, str], None]
"""Gets the name of a function and a line that one of its processes printed, without its end."""


class Lines(asyncio.Protocol):
    """Passes a pipe on, line by line, until its end.

    Args:
        name: of the function.
        output: gets the lines.
    """

    def __init__(self, name: str, output: Output) -> None:
        self._name = name
        self._output = output
        self._rest = b""
        self.ended = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        """Pass on the whole lines."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._pass_on(line)
        if len(self._rest) >= LINE_BYTES:
            self._pass_on(self._rest)
            self._rest = b""

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass on what has no end of line."""
        if self._rest:
            self._pass_on(self._rest)
        self.ended.set()

    def _pass_on(self, line: bytes) -> None:
        self._output(self._name, line.decode(errors="replace").rstrip("\r"))


async def pass_on(
    pipe: IO[bytes], name: str, output: Output
) -> tuple[asyncio.ReadTransport, Lines]:
    """Pass on the lines of a pipe, which the transport closes at its end."""
    loop = asyncio.get_running_loop()
    return await loop.connect_read_pipe(lambda: Lines(name, output), pipe)

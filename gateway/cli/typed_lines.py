"""Lines as somebody types them, without blocking the event loop or its end."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from contextlib import suppress

CHUNK = 65_536


async def typed_lines(descriptor: int) -> AsyncIterator[str]:
    """Yield the lines of a file, without the space around them, to its end.

    They are read by a thread that nobody waits for, straight from the descriptor: a read that waits for a
    keyboard cannot be cancelled, and one in a buffer of Python's would hold up the interpreter's end.

    Args:
        descriptor: open for reading; not closed here. Bytes that are not UTF-8 become U+FFFD.
    """
    loop = asyncio.get_running_loop()
    chunks: asyncio.Queue[bytes] = asyncio.Queue()

    def read() -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody listens any more
            while data := _read(descriptor):
                loop.call_soon_threadsafe(chunks.put_nowait, data)
            loop.call_soon_threadsafe(chunks.put_nowait, b"")

    threading.Thread(target=read, name="typed", daemon=True).start()
    rest = b""
    while data := await chunks.get():
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield _text(line)
    if rest:
        yield _text(rest)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, CHUNK)
    except OSError:  # such as the end of a terminal
        return b""


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace").strip()

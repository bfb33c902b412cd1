"""Where frames leave."""

from collections.abc import Awaitable
from typing import Protocol


class GoneError(Exception):
    """The connection is no more, or takes no frame any more. Control flow, not a failure."""


class UndeliveredError(GoneError):
    """One frame did not get through, though the connection may be open: its client will ask to resume."""


class Transport(Protocol):
    """Posts frames to connections: PostToConnection on AWS, the socket itself on the local host."""

    def post(self, connection_id: str, frame: bytes) -> Awaitable[None] | None:
        """Send one text frame of at most 131,072 bytes.

        Returns:
            `None` if the next frame may follow at once; else await it before the next (the socket is
            full, or the post is still under way). It may raise `GoneError`.

        Raises:
            GoneError: the connection is closed, for good unless it is an `UndeliveredError`.
        """
        ...

    async def close(self, connection_id: str, code: int, reason: str) -> None:
        """Close the connection; harmless when it is closed already."""
        ...

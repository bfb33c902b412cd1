"""uvicorn's HTTP protocol with bounds for request heads, which uvicorn itself does not have."""

import asyncio
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 65_536
"""Four times what the largest token takes; give or take one read of the transport's."""


class BoundedHttp(HttpToolsProtocol):
    """Cuts off a connection whose next request head does not end within `head_s` and `HEAD_BYTES`."""

    head_s: ClassVar[float] = 10.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_deadline: asyncio.TimerHandle | None = None
        self._head_size: int | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn
        """Start the clock of the first head."""
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._head_arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what comes of a head."""
        super().data_received(data)
        if self._head_size is not None:
            self._head_size += len(data)
            if self._head_size > HEAD_BYTES:
                self.transport.abort()

    def on_message_begin(self) -> None:
        """Start the clock of a head, unless it runs already, and the count."""
        super().on_message_begin()
        self._head_size = 0
        self._expect_head()

    def on_headers_complete(self) -> None:
        """Stop clock and count."""
        self._head_arrived()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Start the clock of the next head.

        uvicorn's own clock for that stops at any byte, also of a body that nobody waits for.
        """
        super().on_response_complete()
        if self.timeout_keep_alive_task is not None:
            self._expect_head()

    def _expect_head(self) -> None:
        if self._head_deadline is None:
            self._head_deadline = self.loop.call_later(self.head_s, self._too_late)

    def _head_arrived(self) -> None:
        self._head_size = None
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None

    def _too_late(self) -> None:
        self._head_deadline = None
        self.transport.abort()


def bounded_http(head_s: float) -> type[BoundedHttp]:
    """Return the protocol class with that deadline, in seconds."""
    return type("BoundedHttp", (BoundedHttp,), {"head_s": head_s})

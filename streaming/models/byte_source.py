"""Where the bytes of one reply come from."""

from typing import Protocol

__all__ = ["ByteSource"]


class ByteSource(Protocol):
    """The body of one upstream response.

    Whoever opened it must call `aclose`, whatever happened.
    """

    async def read(self) -> bytes:
        """Wait for bytes and return all that have arrived; b"" at the end, and ever after.

        Cancelling is safe: nothing that arrived is lost, but the caller is expected to close.

        Raises:
            ModelUnavailableError: The connection broke.
            ModelProtocolError: What came is not HTTP.
        """

    async def aclose(self) -> None:
        """End the response, at once. Safe to call twice.

        One that came to its end may leave its connection to the next; any other is cut.
        """

"""What a chat model is to its callers, and what one turn asks of it."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from streaming.parts import Part

__all__ = [
    "DEFAULT_DEADLINES",
    "ChatMessage",
    "ChatModel",
    "Deadlines",
    "Function",
    "ModelRequest",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatMessage:
    """One message of the prompt."""

    role: Literal["system", "user", "assistant"]
    content: str
    """Text without lone surrogates (they cannot be encoded)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """The one function a model must call: its arguments are the reply."""

    name: str
    description: str
    """What the function is for, in words for the model."""
    parameters: Mapping[str, object]
    """JSON Schema of the arguments, an object schema."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """What one turn asks of a model."""

    messages: tuple[ChatMessage, ...]
    """The whole prompt, oldest first; at least one message."""
    function: Function
    """The reply function. The model is made to call it; one that answers in plain text is read too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """How long one reply may take, in seconds, each above zero."""

    first_token: float = 30.0
    """From the call until the first part: connecting, headers, retries and their waits included."""
    between_chunks: float = 30.0
    """The longest wait for one more event once the reply has begun. A comment line (a keep-alive) is
    not an event, or a provider that hangs behind a proxy would never be noticed. The time the caller
    takes between two parts does not count."""
    total: float = 300.0
    """From the call until the last part, the caller's own time included."""


DEFAULT_DEADLINES: Final = Deadlines()


class ChatModel(Protocol):
    """A model that answers one request as a stream of parts.

    Made once and shared: any number of replies may stream at a time, all on one event loop. It opens
    what it needs at the first request and keeps it open; the owner must call `aclose` in the end.
    """

    @property
    def name(self) -> str:
        """Which model this is, for logs and usage records."""

    def stream(self, request: ModelRequest) -> AsyncGenerator[list[Part], None]:
        """Answer `request`.

        Yields, for every read from upstream that brought something, the parts it brought: a list
        that is never empty. The last part of the last list is `Finished`.

        Cancelling the task that waits for the next list, or ``aclose()`` on the generator, closes
        the upstream request at once. Whoever stops early must do one of the two
        (`contextlib.aclosing`).

        Raises:
            ModelError: There is no reply, or the rest of it will not come. Parts that were yielded
                before stay valid.
        """

    async def aclose(self) -> None:
        """Close the connections kept open. Replies still streaming break; safe to call twice."""

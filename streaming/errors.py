"""What can be wrong with what a provider sent.

::

    ParseError               the bytes, a chunk or the arguments are not what they should be
    ├── EventTooLargeError   one server-sent event is longer than the limit
    └── UpstreamError        the provider reported an error inside a stream that began well

All are the provider's or the model's fault, never the caller's. None carries text of the reply
or of the provider in its message, so each may be logged.
"""

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

from streaming.parts import Part

ParseErrorCode: TypeAlias = Literal[
    "syntax",  # not JSON: a wrong character, escape, number or literal
    "not_an_object",  # the text is something else than one JSON object
    "bom",  # a byte order mark before the object
    "code_fence",  # Markdown around the object
    "duplicate_key",  # a top-level name came twice
    "not_finite",  # NaN, Infinity or a number beyond the range of a float
    "trailing_text",  # more than white space after the object
    "truncated",  # the text ended inside the object, or before it began
    "too_deep",  # nested deeper than the limit
    "too_large",  # longer than the limit
    "encoding",  # bytes that are not UTF-8
    "upstream",  # the provider reported an error, see UpstreamError
]


class ParseError(ValueError):
    """What the provider sent cannot be parsed, from this place on.

    Whoever raised it stays failed: each later `feed` and `close` raises the same code again,
    with nothing decoded.

    Attributes:
        code: What is wrong; stable, and the whole text of the error.
        parts: What the same call decoded before the error, to be handled as if it had been
            returned.
    """

    def __init__(self, code: ParseErrorCode, parts: Sequence[Part] = ()) -> None:
        super().__init__(code)
        self.code: Final = code
        self.parts: Final = tuple(parts)

    def carrying(self, parts: Sequence[Part]) -> "ParseError":
        """The same error with other parts."""
        return ParseError(self.code, parts)


class EventTooLargeError(ParseError):
    """One event of the stream is longer than the limit.

    Attributes:
        events: The data of the events that the same call decoded before it.
    """

    def __init__(self, events: Sequence[bytes] = ()) -> None:
        super().__init__("too_large")
        self.events: Final = tuple(events)


class UpstreamError(ParseError):
    """The provider reported an error in the stream itself, after it had answered 200.

    Attributes:
        kind: The provider's machine-readable word (`rate_limit_exceeded`, ...); empty when it
            sent none that looks like one. Its message is dropped: keys leak through it.
        status: The HTTP status the provider named; 0 when it named none.
    """

    def __init__(self, kind: str, status: int, parts: Sequence[Part] = ()) -> None:
        super().__init__("upstream", parts)
        self.kind: Final = kind
        self.status: Final = status

    def carrying(self, parts: Sequence[Part]) -> "UpstreamError":
        """The same error with other parts."""
        return UpstreamError(self.kind, self.status, parts)

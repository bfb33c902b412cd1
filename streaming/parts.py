"""What a streaming reply is made of.

The parser turns what a provider sends into these parts, in the order in which they become known.
Match on them and end with `typing.assert_never`: `Part` lists them all.

Parts are values: compare them, keep them; nothing can change one. Several are built for every fragment
of a reply, so they are `msgspec` structs: building one costs 45 to 55 ns, a frozen dataclass 270.
"""

from typing import TypeAlias

from msgspec import Struct

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
"""A decoded JSON value; integers outside 64 bits are floats, strings hold no lone surrogates."""


class FieldDelta(Struct, frozen=True, gc=False):
    """Text to append to a streamed string field.

    Attributes:
        name: The field's name.
        text: Unescaped text; never empty, never half of a character.
        call: Which call of the reply, numbered from 0 in the order in which they began.
    """

    name: str
    text: str
    call: int = 0


class FieldDone(Struct, frozen=True):
    """A streamed string field is complete; no more `FieldDelta` of this name and call follows.

    Attributes:
        name: The field's name.
        call: Which call of the reply, numbered from 0.
    """

    name: str
    call: int = 0


class FieldValue(Struct, frozen=True):
    """A field that is not streamed, or a streamed one that is not a string, with its whole value.

    Attributes:
        name: The field's name.
        value: The decoded value.
        call: Which call of the reply, numbered from 0.
    """

    name: str
    value: JsonValue
    call: int = 0


class CallStarted(Struct, frozen=True):
    """A function call began; it precedes every other part of its call.

    It comes again with the same number when a provider sends the name late or in pieces; the
    last one counts.

    Attributes:
        call: Which call of the reply, numbered from 0, whatever index the provider gave it.
        id: The provider's id of the call; empty when it sent none by now.
        name: The function's name; empty when the provider sent none by now.
    """

    call: int
    id: str
    name: str


class ArgumentsDelta(Struct, frozen=True):
    """Text to append to the arguments of a call that is not parsed field by field.

    Attributes:
        call: Which call of the reply, numbered from 0.
        text: A piece of the arguments' JSON text as the provider sent it; never empty.
    """

    call: int
    text: str


class TextDelta(Struct, frozen=True):
    """Text to append to the plain content of the reply, beside or instead of a call.

    Attributes:
        text: Never empty, never half of a character.
    """

    text: str


class RefusalDelta(Struct, frozen=True):
    """Text to append to the model's refusal to answer.

    Attributes:
        text: Never empty, never half of a character.
    """

    text: str


class Usage(Struct, frozen=True):
    """What the provider counted; when several come, the last one counts.

    Attributes:
        prompt_tokens: Tokens of the request.
        completion_tokens: Tokens of the reply, reasoning included.
        total_tokens: Both together.
        cached_tokens: Those of `prompt_tokens` that were read from the provider's cache.
        reasoning_tokens: Those of `completion_tokens` that are not shown.
    """

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0


class Finished(Struct, frozen=True):
    """The provider said why the model stopped; usage, even a late delta, may still follow.

    A reply whose stream ended without this part was cut.

    Attributes:
        reason: The provider's word: `stop`, `length`, `tool_calls`, `content_filter`, ...
    """

    reason: str


FieldPart: TypeAlias = FieldDelta | FieldDone | FieldValue
"""What the arguments of one call are made of."""

Part: TypeAlias = (
    FieldPart | CallStarted | ArgumentsDelta | TextDelta | RefusalDelta | Usage | Finished
)
"""Everything a reply is made of."""

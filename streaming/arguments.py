"""The arguments of one function call, field by field, while the model is still writing them."""

import re
from collections.abc import Iterable
from enum import IntEnum, auto
from typing import Final

from streaming.errors import ParseError, ParseErrorCode
from streaming.json_scanner import NestedEnd, NestedScanner, ScalarScanner, StringScanner
from streaming.parts import (
    ArgumentsDelta,
    FieldDelta,
    FieldDone,
    FieldPart,
    FieldValue,
    JsonValue,
)
from streaming.surrogates import HalfJoiner

MAX_CHARS: Final = 16 * 1024 * 1024
"""How many characters the arguments of a call may have, if nothing else is said."""

_WHITE_SPACE: Final = re.compile(r"[ \t\n\r]*+")


class _Place(IntEnum):
    """Where in the object the next character that is not white space stands."""

    BEFORE = auto()  # of the opening brace
    FIRST_NAME = auto()  # or the closing brace
    NAME = auto()
    COLON = auto()
    VALUE = auto()
    COMMA = auto()  # or the closing brace
    AFTER = auto()  # the closing brace


_NEXT: Final = {
    (_Place.BEFORE, "{"): _Place.FIRST_NAME,
    (_Place.FIRST_NAME, '"'): _Place.COLON,
    (_Place.FIRST_NAME, "}"): _Place.AFTER,
    (_Place.NAME, '"'): _Place.COLON,
    (_Place.COLON, ":"): _Place.VALUE,
    (_Place.COMMA, ","): _Place.NAME,
    (_Place.COMMA, "}"): _Place.AFTER,
}
"""The object's grammar (RFC 8259, section 4): the place after a sign in a place.

A scanner reads the name that a quote begins, and the value, which any sign may begin.
"""

_WRONG_START: Final[dict[str, ParseErrorCode]] = {"\ufeff": "bom", "`": "code_fence"}


class ArgumentsParser:
    r"""Parses one JSON object from the fragments of its text, as a model sends arguments.

    The text of a streamed field leaves in the very call in which its characters arrive; only an
    escape or a surrogate pair that is cut apart waits for its rest. Each other field leaves when
    its value is complete, a literal with its last letter, a number with what follows it. One
    fragment gives at most one `FieldDelta` of a field. No streamed text is kept.

    White space around the object, any order, number and nesting of fields are accepted. The
    rest is a `ParseError`, by its code:

    * `syntax`: not JSON, found where it stands, inside values that are not streamed at their end
    * `not_an_object`, `bom`, `code_fence`: the first character begins something else
    * `duplicate_key`: a second top-level field of a name, as soon as the name is complete
    * `not_finite`: `NaN`, `Infinity`, `1e999`
    * `trailing_text`: more than white space after the object
    * `too_deep`, `too_large`: beyond the limits
    * `truncated`: `close` came inside the object, or before it

    After an error the parser stays failed. Call `close` when the text has ended.

    Args:
        streamed: Names of the top-level fields whose text is wanted as it arrives.
        call: The number that each part carries.
        max_chars: How many characters the text may have.
        max_depth: How deep it may nest, the object itself included: 1 to 1000.
    """

    __slots__ = (
        "_call",
        "_error",
        "_left",
        "_max_depth",
        "_name",
        "_names",
        "_place",
        "_plain",
        "_streamed",
        "_string",
        "_value",
    )

    def __init__(
        self,
        streamed: Iterable[str] = ("content",),
        *,
        call: int = 0,
        max_chars: int = MAX_CHARS,
        max_depth: int = 512,
    ) -> None:
        self._streamed = frozenset(streamed)
        self._call = call
        self._left = max_chars
        self._max_depth = max_depth
        self._place = _Place.BEFORE
        self._names: set[str] = set()
        self._name = ""
        self._string: StringScanner | None = None  # of the streamed field under way
        self._value: NestedScanner | ScalarScanner | None = None  # of the name or value under way
        self._plain: str | None = None  # the streamed field, when nothing of it is held back
        self._error: ParseErrorCode | None = None

    @property
    def complete(self) -> bool:
        """The object's closing brace was read."""
        return self._place is _Place.AFTER

    def feed(self, fragment: str) -> list[FieldPart]:
        """Take the next piece of the text.

        Returns:
            The parts that became known, in the order of the text; possibly none.

        Raises:
            ParseError: The text is not what it should be; the model's fault.
        """
        name = self._plain
        if (
            name is not None
            and fragment.isprintable()
            and '"' not in fragment
            and "\\" not in fragment
            and 0 < len(fragment) <= self._left
        ):
            # Nearly every fragment is plain text inside a streamed string.
            self._left -= len(fragment)
            return [FieldDelta(name, fragment, self._call)]
        if self._error is not None:
            raise ParseError(self._error)
        parts: list[FieldPart] = []
        try:
            self._scan(fragment, parts)
        except ParseError as error:
            self._fail(error.code)
            raise error.carrying(parts) from error
        return parts

    def close(self) -> list[FieldPart]:
        """Say that the text has ended.

        Returns:
            Nothing: whatever a complete object holds has left before.

        Raises:
            ParseError: `truncated`, or the code of the error that came before.
        """
        if self._error is None and not self.complete:
            self._fail("truncated")
        if self._error is not None:
            raise ParseError(self._error)
        return []

    def _fail(self, code: ParseErrorCode) -> None:
        self._error = code
        self._plain = self._string = self._value = None

    def _scan(self, fragment: str, parts: list[FieldPart]) -> None:
        text = fragment[: self._left]
        self._left -= len(fragment)
        if self._string is not None:
            text = self._string.cut + text
        start = 0
        while start < len(text):
            if self._string is not None:
                start = self._stream(self._string, text, start, parts)
            elif self._value is not None:
                start = self._collect(self._value, text, start, parts)
            else:
                start = self._step(text, start)
        if self._left < 0:
            raise ParseError("too_large")

    def _stream(self, string: StringScanner, text: str, start: int, parts: list[FieldPart]) -> int:
        """Take text of the streamed field under way."""
        plain, stop = string.feed(text, start)
        if plain:
            parts.append(FieldDelta(self._name, plain, self._call))
        if string.done:
            parts.append(FieldDone(self._name, self._call))
            self._string = None
            self._plain = None
        elif string.cut or string.joiner.half:
            self._plain = None
        else:
            self._plain = self._name
        return stop

    def _collect(
        self,
        value: NestedScanner | ScalarScanner,
        text: str,
        start: int,
        parts: list[FieldPart],
    ) -> int:
        """Take text of the name or value under way."""
        stop = value.feed(text, start)
        if value.done:
            self._value = None
            if self._place is _Place.COLON:
                self._begin_field(value.value())
            else:
                parts.append(FieldValue(self._name, value.value(), self._call))
        return stop

    def _begin_field(self, name: JsonValue) -> None:
        assert isinstance(name, str)  # what begins with a quote and decodes is a string
        if name in self._names:
            raise ParseError("duplicate_key")
        self._names.add(name)
        self._name = name

    def _step(self, text: str, start: int) -> int:
        """Go past white space and one sign of the object itself, or begin a name or a value."""
        match = _WHITE_SPACE.match(text, start)
        assert match  # it matches nothing, too
        start = match.end()
        if start == len(text):
            return start
        sign = text[start]
        if self._place is _Place.VALUE:
            self._place = _Place.COMMA
            return self._begin_value(sign, start)
        place = _NEXT.get((self._place, sign))
        if place is None:
            raise ParseError(self._what_is_wrong(sign))
        self._place = place
        if place is _Place.COLON:
            self._value = NestedScanner(max_depth=0)
            return start
        return start + 1

    def _begin_value(self, sign: str, start: int) -> int:
        if sign == '"' and self._name in self._streamed:
            self._string = StringScanner()
            return start + 1
        if sign in '"{[':
            self._value = NestedScanner(self._max_depth - 1)
        else:
            self._value = ScalarScanner()
        return start

    def _what_is_wrong(self, sign: str) -> ParseErrorCode:
        if self._place is _Place.AFTER:
            return "trailing_text"
        if self._place is not _Place.BEFORE:
            return "syntax"
        return _WRONG_START.get(sign, "not_an_object")


class RawArguments:
    """Passes the arguments of one function call on as text, with their parser's verbs.

    Args:
        call: The number that each part carries.
        max_chars: How many characters the text may have.
    """

    __slots__ = ("_call", "_end", "_joiner", "_left")

    def __init__(self, *, call: int = 0, max_chars: int = MAX_CHARS) -> None:
        self._call = call
        self._left = max_chars
        self._joiner = HalfJoiner()
        self._end = NestedEnd(max_depth=max_chars)  # nothing is decoded: any depth will do

    @property
    def complete(self) -> bool:
        """The end of the object was seen."""
        return self._end.done

    def feed(self, fragment: str) -> list[ArgumentsDelta]:
        """Take the next piece of the text; returns it, but for half of a character at its end.

        Raises:
            ParseError: `too_large`, with the characters that just fitted.
        """
        taken = fragment[: self._left]
        self._left -= len(fragment)
        self._end.feed(taken, 0)
        text = self._joiner.feed(taken)
        parts = [ArgumentsDelta(self._call, text)] if text else []
        if self._left < 0:
            self._left = 0
            raise ParseError("too_large", parts)
        return parts

    def close(self) -> list[ArgumentsDelta]:
        """Say that the text has ended; returns what was held back. An unfinished text is passed."""
        rest = self._joiner.close()
        return [ArgumentsDelta(self._call, rest)] if rest else []

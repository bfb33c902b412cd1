"""Push scanners over JSON text that arrives in fragments; each looks at a character once.

A scanner is made where a JSON value begins and fed until it is `done`::

    StringScanner   a string whose text is wanted as it arrives
    NestedScanner   an object, an array or a string that is wanted whole
    ScalarScanner   a number or a literal

`feed(text, start)` takes what belongs to the value and leaves the rest to whoever comes next.
The two that collect only find where their value ends; `json_values.decode` judges it, once, when
it is complete.
"""

import re
from json.decoder import scanstring  # type: ignore[attr-defined]  # typeshed leaves it out
from typing import Final

from streaming.errors import ParseError
from streaming.json_values import decode
from streaming.parts import JsonValue
from streaming.surrogates import HalfJoiner

_STRING_TEXT: Final = re.compile(
    r"""
    [^"\\\x00-\x1f]*+ (?: \\ (?: u[0-9a-fA-F]{4} | ["\\/bfnrt] ) [^"\\\x00-\x1f]*+ )*+
    ( \\ (?: u[0-9a-fA-F]{0,3}+ )?+ \Z )?+  # an escape cut by the end of the text
    """,
    re.VERBOSE,
)
_IN_STRING: Final = re.compile(r'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_BETWEEN_BRACKETS: Final = re.compile(r'[^"\[\]{}]*+')
_SCALAR: Final = re.compile(r"[^,} \t\n\r]*+")
_LITERAL: Final = re.compile(r"true|false|null")
_LONGEST_LITERAL: Final = 5


class StringScanner:
    """Unescapes a string as it arrives. Made after the opening quote.

    Attributes:
        done: The closing quote was read.
        cut: The escape that the last text ended in, up to five characters: to be put before the
            next text.
        joiner: Holds the half of a character that the last text ended in.
    """

    __slots__ = ("cut", "done", "joiner")

    def __init__(self) -> None:
        self.done = False
        self.cut = ""
        self.joiner = HalfJoiner()

    def feed(self, text: str, start: int) -> tuple[str, int]:
        """Take the string's characters in `text` from `start` on.

        Returns:
            The unescaped text, and where it stopped: after the closing quote when `done`, at the
            end of `text`, or before what is wrong, so that the text before it is not lost.

        Raises:
            ParseError: `syntax`, a control character or an unknown escape at `start` itself.
        """
        match = _STRING_TEXT.match(text, start)
        assert match  # it matches nothing, too
        stop = match.end()
        self.cut = cut = match[1] or ""
        plain = text[start : stop - len(cut)]
        if "\\" in plain:
            plain = scanstring(plain + '"', 0)[0]
        if self.joiner.half or not plain.isprintable():
            plain = self.joiner.feed(plain)
        if stop == len(text):
            return plain, stop
        if text[stop] == '"':
            self.done = True
            return plain + self.joiner.close(), stop + 1
        if stop == start:
            raise ParseError("syntax")
        return plain, stop


class NestedEnd:
    """Finds the end of one object, array or string. Made where it begins.

    White space may come before it. Brackets are counted, not matched.

    Args:
        max_depth: How many brackets may be open at once.

    Attributes:
        done: The end was found.
    """

    __slots__ = ("_after_backslash", "_depth", "_in_string", "_max_depth", "done")

    def __init__(self, max_depth: int) -> None:
        self.done = False
        self._max_depth = max_depth
        self._depth = 0
        self._in_string = False
        self._after_backslash = False

    def feed(self, text: str, start: int) -> int:
        """Look for the end in `text` from `start` on.

        Returns:
            The place after the end when `done`, else the end of `text`.

        Raises:
            ParseError: `too_deep`.
        """
        while start < len(text) and not self.done:
            start = self._skip_string(text, start) if self._in_string else self._skip(text, start)
        return start

    def _skip(self, text: str, start: int) -> int:
        """Go past the next bracket or quote outside strings."""
        start = _end_of(_BETWEEN_BRACKETS, text, start)
        if start == len(text):
            return start
        match text[start]:
            case '"':
                self._in_string = True
            case "{" | "[":
                self._depth += 1
                if self._depth > self._max_depth:
                    raise ParseError("too_deep")
            case _:
                self._depth -= 1
                self.done = self._depth <= 0
        return start + 1

    def _skip_string(self, text: str, start: int) -> int:
        """Go past the closing quote, or to the end of `text`."""
        if self._after_backslash:
            self._after_backslash = False
            start += 1
        start = _end_of(_IN_STRING, text, start)
        if start == len(text):
            return start
        if text[start] == '"':
            self._in_string = False
            self.done = self._depth == 0
        else:
            self._after_backslash = True
        return start + 1


class NestedScanner:
    """Collects one object, array or string. Made where it begins.

    Args:
        max_depth: How many brackets may be open at once.
    """

    __slots__ = ("_end", "_pieces")

    def __init__(self, max_depth: int) -> None:
        self._end = NestedEnd(max_depth)
        self._pieces: list[str] = []

    @property
    def done(self) -> bool:
        """The value is complete: `value` may be called."""
        return self._end.done

    def feed(self, text: str, start: int) -> int:
        """Take the value's characters in `text` from `start` on; returns where they stopped.

        Raises:
            ParseError: `too_deep`.
        """
        stop = self._end.feed(text, start)
        self._pieces.append(text[start:stop])
        return stop

    def value(self) -> JsonValue:
        """Decode the value.

        Raises:
            ParseError: `syntax` or `not_finite`.
        """
        return decode("".join(self._pieces))


class ScalarScanner:
    """Collects one number or literal. Made where it begins.

    A literal ends with its last letter, anything else at white space, a comma or a brace.

    Attributes:
        done: The value is complete: `value` may be called.
    """

    __slots__ = ("_length", "_pieces", "done")

    def __init__(self) -> None:
        self.done = False
        self._pieces: list[str] = []
        self._length = 0

    def feed(self, text: str, start: int) -> int:
        """Take the value's characters in `text` from `start` on; returns where they stopped."""
        stop = _end_of(_SCALAR, text, start)
        self._pieces.append(text[start:stop])
        self.done = stop < len(text)
        if self._length < _LONGEST_LITERAL:
            stop -= self._leave_after_literal()
        self._length += stop - start
        return stop

    def _leave_after_literal(self) -> int:
        """End at a literal, if one is complete; returns how many characters come after it."""
        text = "".join(self._pieces)
        literal = _LITERAL.match(text)
        if literal is None:
            return 0
        self.done = True
        self._pieces = [literal.group()]
        return len(text) - literal.end()

    def value(self) -> JsonValue:
        """Decode the value.

        Raises:
            ParseError: `syntax` or `not_finite`.
        """
        return decode("".join(self._pieces))


def _end_of(pattern: re.Pattern[str], text: str, start: int) -> int:
    """Where a pattern that also matches nothing stops."""
    match = pattern.match(text, start)
    assert match
    return match.end()

"""Halves of characters: UTF-16 surrogates that a provider cut apart.

A server that cuts its text by UTF-16 units sends an emoji as two escapes in two chunks. Joined
again they are the character. A half that stays alone becomes U+FFFD, because a lone surrogate is
no Unicode text: UTF-8, orjson and SQLite all refuse it.
"""

import re
from typing import Final

_REPLACEMENT: Final = "\ufffd"
_HALVES: Final = re.compile(r"([\ud800-\udbff])([\udc00-\udfff])|[\ud800-\udfff]")
_ESCAPES: Final = re.compile(
    r"""
    (?P<good> \\ (?: [^u] | u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2} ) )
    | \\ u[dD][89a-fA-F][0-9a-fA-F]{2}
    """,
    re.VERBOSE,
)


def mend(text: str) -> str:
    """Join neighbouring halves in `text`; replace each lone one by U+FFFD."""
    return text if text.isprintable() else _HALVES.sub(_whole, text)


def _whole(halves: re.Match[str]) -> str:
    high, low = halves.groups()
    if not low:
        return _REPLACEMENT
    return chr(0x10000 + ((ord(high) & 0x3FF) << 10) + (ord(low) & 0x3FF))


def mend_escapes(text: str) -> str:
    """Replace each escape of a lone half in a JSON text by that of U+FFFD."""
    return _ESCAPES.sub(lambda escape: escape["good"] or r"\ufffd", text)


class HalfJoiner:
    """Mends one text that comes in pieces; holds back nothing but a high half at the end.

    Call `close` at the end of the text: what it may hold is still owed.

    Attributes:
        half: The half held back, or nothing.
    """

    __slots__ = ("half",)

    def __init__(self) -> None:
        self.half = ""

    def feed(self, text: str) -> str:
        """Take the next piece; returns what is known of it, possibly nothing."""
        if not self.half and text.isprintable():
            return text
        text = self.half + text
        self.half = ""
        if "\ud800" <= text[-1:] <= "\udbff":
            self.half = text[-1]
            text = text[:-1]
        return mend(text)

    def close(self) -> str:
        """End the text; returns U+FFFD for a half that stayed alone, else nothing."""
        rest = _REPLACEMENT if self.half else ""
        self.half = ""
        return rest

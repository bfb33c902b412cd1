"""Decoding JSON text that is complete.

orjson decodes. Where it refuses, the standard library is asked: it takes the one thing that
providers do send and orjson does not, escapes of lone surrogates, and it tells what is wrong.
Numbers are orjson's either way: integers outside 64 bits are floats, nothing is infinite.
"""

import json
from typing import Final, NoReturn

import orjson

from streaming.errors import ParseError, ParseErrorCode
from streaming.parts import JsonValue
from streaming.surrogates import mend, mend_escapes

MAX_DEPTH: Final = 1024
"""How deep a value may be nested: orjson's limit. The standard library's depends on the version of Python."""


def decode(text: str) -> JsonValue:
    """Decode the text of one value, nested at most `MAX_DEPTH` deep; lone surrogates become U+FFFD.

    Raises:
        ParseError: `syntax` or `not_finite`.
    """
    try:
        value: JsonValue = orjson.loads(text)
    except orjson.JSONDecodeError:
        return _decode_mended(mend_escapes(mend(text)))
    return value


def _decode_mended(text: str) -> JsonValue:
    try:
        value: JsonValue = orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        raise ParseError(_what_is_wrong(text)) from exc
    return value


def _what_is_wrong(text: str) -> ParseErrorCode:
    try:
        _decode_with_halves(text)
    except ParseError as error:
        return error.code
    return "syntax"


def decode_bytes(data: bytes) -> JsonValue:
    """Decode one value; halves of characters stay, because their other half may follow.

    Raises:
        ParseError: `syntax`, `not_finite`, `encoding` or `too_deep`.
    """
    try:
        value: JsonValue = orjson.loads(data)
    except orjson.JSONDecodeError:
        return _decode_with_halves(_text(data))
    return value


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as exc:
        raise ParseError("encoding") from exc


def _decode_with_halves(text: str) -> JsonValue:
    try:
        value: JsonValue = json.loads(  # noqa: TID251  # the fallback of which the ban speaks
            text, parse_int=_number, parse_float=_number, parse_constant=_refuse_constant
        )
    except ParseError:
        raise
    except RecursionError as exc:
        raise ParseError("too_deep") from exc
    except ValueError as exc:
        raise ParseError("syntax") from exc
    if _is_too_deep(value):
        raise ParseError("too_deep")
    return value


def _is_too_deep(value: JsonValue) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return False
    return True


def _inside(value: JsonValue) -> list[JsonValue]:
    """Return what is directly in a value and may hold more."""
    values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [inner for inner in values if isinstance(inner, dict | list)]


def _number(text: str) -> int | float:
    try:
        number: int | float = orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        raise ParseError("not_finite") from exc
    return number


def _refuse_constant(name: str) -> NoReturn:
    raise ParseError("not_finite")

import sys

import orjson
import pytest

from streaming.errors import ParseError
from streaming.json_values import MAX_DEPTH, decode, decode_bytes

WRONG = [
    ("", "syntax"),
    ("{", "syntax"),
    ("[1,]", "syntax"),
    ("{'a':1}", "syntax"),
    ('"\t"', "syntax"),
    ("1 2", "syntax"),
    ("01", "syntax"),
    ("NaN", "not_finite"),
    ("[-Infinity]", "not_finite"),
    ("1e400", "not_finite"),
    ('{"a":' + "9" * 10_000 + "}", "not_finite"),
    ("\ufeff1", "syntax"),
]


@pytest.mark.parametrize(("text", "code"), WRONG, ids=[text[:12] for text, _ in WRONG])
def test_what_is_wrong_has_a_code(text: str, code: str) -> None:
    for read in (lambda: decode(text), lambda: decode_bytes(text.encode())):
        with pytest.raises(ParseError) as caught:
            read()
        assert caught.value.code == code


def test_bytes_that_are_not_utf_8_have_a_code() -> None:
    with pytest.raises(ParseError, match="encoding"):
        decode_bytes(b'"\xff"')


def test_a_value_holds_no_lone_half() -> None:
    text = r'["\ud83d", {"\ude42": "\ud83d\ude42 \\ud83d"}, 1.0, null]'
    assert decode(text) == ["\ufffd", {"\ufffd": "🙂 \\ud83d"}, 1.0, None]


def test_a_chunk_keeps_halves() -> None:
    assert decode_bytes(rb'{"a": ["\ud83d", "\ud83d\ude42"]}') == {"a": ["\ud83d", "🙂"]}


def test_numbers_are_the_same_beside_a_half() -> None:
    numbers = rb"[1, 1.0, -0.0, 18446744073709551616, 1e-400]"
    with_half = numbers[:-1] + rb', "\ud83d"]'
    expected = orjson.loads(numbers)
    for value in (decode_bytes(with_half), decode(with_half.decode())):
        assert isinstance(value, list)
        assert repr(value[:-1]) == repr(expected)


def test_nesting_beyond_the_stack_is_too_deep() -> None:
    depth = sys.getrecursionlimit() * 100
    with pytest.raises(ParseError, match="too_deep"):
        decode_bytes(b"[" * depth + b"]" * depth)


@pytest.mark.parametrize("half", [b"", rb'"\ud83d"'], ids=["orjson", "the standard library"])
def test_what_is_too_deep_does_not_depend_on_who_decodes(half: bytes) -> None:
    """The standard library alone takes less than `MAX_DEPTH` in Python 3.11, and more in 3.13."""
    with pytest.raises(ParseError, match="too_deep"):
        decode_bytes(b"[" * (MAX_DEPTH + 1) + half + b"]" * (MAX_DEPTH + 1))
    if not half or sys.version_info >= (3, 12):
        assert decode_bytes(b"[" * MAX_DEPTH + half + b"]" * MAX_DEPTH)


def test_a_value_with_halves_may_nest_as_deep_as_one_without() -> None:
    assert decode("[" * 1000 + r'"\ud83d"' + "]" * 1000)

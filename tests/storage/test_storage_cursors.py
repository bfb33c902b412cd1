import base64

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import cursors
from storage.errors import InvalidCursorError

NUMBER = st.floats(allow_nan=False, allow_infinity=False) | st.integers(0, 2**53)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@given(NUMBER, TEXT, st.lists(st.text(max_size=20), max_size=3))
def test_a_cursor_gives_its_position_back(number: float, text: str, scope: list[str]) -> None:
    cursor = cursors.encode((number, text), *scope)

    assert cursors.decode(cursor, (type(number), str), *scope) == (number, text)
    assert cursor.replace("-", "").replace("_", "").isalnum()


@given(st.integers(0, 60), st.characters(codec="ascii"))
def test_an_altered_cursor_is_refused(at: int, character: str) -> None:
    cursor = cursors.encode((12.5, "session-1"), "sessions", "acme", "anna")
    at %= len(cursor)
    altered = cursor[:at] + character + cursor[at + 1 :]
    if altered == cursor:
        return

    with pytest.raises(InvalidCursorError):
        cursors.decode(altered, (float, str), "sessions", "acme", "anna")


@pytest.mark.parametrize(
    "scope",
    [(), ("sessions",), ("sessions", "acmean", "na"), ("memories", "acme", "anna")],
    ids=str,
)
def test_a_cursor_of_another_list_is_refused(scope: tuple[str, ...]) -> None:
    cursor = cursors.encode((1.0, "a"), "sessions", "acme", "anna")

    with pytest.raises(InvalidCursorError):
        cursors.decode(cursor, (float, str), *scope)


def forged(payload: bytes) -> str:
    """A cursor as somebody makes it who has read the source."""
    raw = cursors._check(payload, ("list",)) + payload
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"[]",
        b"[1,2,3]",
        b"[1]",
        b'{"a":1}',
        b'[true,"a"]',
        b'["1","a"]',
        b'[1.5,"a"]',
        b"[1,2]",
        b"[1,null]",
        orjson.dumps([2**63, "a"]),
        orjson.dumps([-(2**62), "a"]),
        b"[" * 100,
        b'[1,"\\ud83d"]',
        b"\xff\xff",
    ],
)
def test_a_forged_cursor_of_another_shape_is_refused(payload: bytes) -> None:
    with pytest.raises(InvalidCursorError):
        cursors.decode(forged(payload), (int, str), "list")


@pytest.mark.parametrize("cursor", ["", "=", "====", "a", "日本", "\ud83d", "A" * 513, "a b", "\n"])
def test_what_is_no_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidCursorError):
        cursors.decode(cursor, (int, str), "list")


def test_a_cursor_has_one_spelling() -> None:
    cursor = cursors.encode((1, "ab"), "list")
    assert len(cursor) % 4 in (2, 3), "the last character has bits to spare"
    respelled = cursor[:-1] + chr(ord(cursor[-1]) + 1)
    padding = "=" * (-len(cursor) % 4)
    assert base64.urlsafe_b64decode(respelled + padding) == base64.urlsafe_b64decode(
        cursor + padding
    )

    with pytest.raises(InvalidCursorError):
        cursors.decode(respelled, (int, str), "list")

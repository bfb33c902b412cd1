import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.surrogates import HalfJoiner, mend, mend_escapes

HALVES = st.text(st.sampled_from("a🙂\ud83d\ud83e\ude42\ude00\udbff\udfff\ud800\udc00"))


@pytest.mark.parametrize(
    ("text", "mended"),
    [
        ("", ""),
        ("plain 日本 🙂\n\u3000", "plain 日本 🙂\n\u3000"),
        ("\ud83d\ude42", "🙂"),
        ("\ud800\udc00\udbff\udfff", "\U00010000\U0010ffff"),
        ("a\ud83d", "a\ufffd"),
        ("\ude42\ud83d", "\ufffd\ufffd"),
        ("\ud83d\ud83d\ude42\ude42", "\ufffd🙂\ufffd"),
    ],
    ids=ascii,
)
def test_halves_are_joined_and_lone_ones_replaced(text: str, mended: str) -> None:
    assert mend(text) == mended


@settings(max_examples=200, deadline=None)
@given(HALVES)
def test_mending_is_what_utf_16_makes_of_it(text: str) -> None:
    utf_16 = text.encode("utf-16-le", "surrogatepass")
    assert mend(text) == utf_16.decode("utf-16-le", "replace")


@settings(max_examples=200, deadline=None)
@given(st.lists(HALVES, max_size=8))
def test_a_joiner_gives_the_same_for_any_cut(pieces: list[str]) -> None:
    joiner = HalfJoiner()
    given_out = [joiner.feed(piece) for piece in pieces]
    assert "".join(given_out) + joiner.close() == mend("".join(pieces))
    for piece in given_out:
        piece.encode()


def test_a_joiner_holds_back_nothing_but_a_high_half_at_the_end() -> None:
    joiner = HalfJoiner()
    assert joiner.feed("ab\ud83d") == "ab"
    assert joiner.feed("") == ""
    assert joiner.feed("\ude42c\ude42") == "🙂c\ufffd"
    assert joiner.close() == ""
    assert joiner.feed("\ud83d") == ""
    assert joiner.close() == "\ufffd"
    assert joiner.close() == ""


@settings(max_examples=200, deadline=None)
@given(HALVES)
def test_mended_escapes_decode_to_mended_text(text: str) -> None:
    written = json.dumps(f"\\{text}\\\\ud83d")
    assert json.loads(mend_escapes(written)) == mend(f"\\{text}\\\\ud83d")

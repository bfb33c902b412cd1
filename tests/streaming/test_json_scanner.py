import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.errors import ParseError
from streaming.json_scanner import NestedEnd, NestedScanner, ScalarScanner, StringScanner


def test_a_string_stops_after_its_closing_quote() -> None:
    string = StringScanner()
    assert string.feed('ab", "next"', 0) == ("ab", 3)
    assert string.done


def test_a_string_stops_before_what_is_wrong_and_raises_there() -> None:
    string = StringScanner()
    assert string.feed("ab\ncd", 0) == ("ab", 2)
    with pytest.raises(ParseError, match="syntax"):
        string.feed("ab\ncd", 2)


def test_a_string_hands_back_a_cut_escape() -> None:
    string = StringScanner()
    assert string.feed(r"ab\u30", 0) == ("ab", 6)
    assert string.cut == r"\u30"
    assert string.feed(string.cut + "42", 0) == ("あ", 6)
    assert string.cut == ""


def test_a_backslash_before_the_end_is_no_cut_escape_when_it_is_escaped() -> None:
    string = StringScanner()
    assert string.feed(r"ab\\", 0) == ("ab\\", 4)
    assert string.cut == ""


@pytest.mark.parametrize(
    "text", ['"a\\"]"', "[]", '{"a":["}"]}', '[{"\\\\":"\\\\\\""},[[]]]', '""']
)
def test_the_end_of_a_value_is_found_wherever_it_is_cut(text: str) -> None:
    for place in range(len(text) + 1):
        end = NestedEnd(max_depth=9)
        assert end.feed(text[:place], 0) == place
        assert end.done == (place == len(text))
        if not end.done:
            assert end.feed(text[place:] + ']}"', 0) == len(text) - place
        assert end.done


def test_white_space_may_come_before_the_end_is_looked_for() -> None:
    assert NestedEnd(max_depth=1).feed(" \n{} ", 0) == 4


def test_nesting_is_limited() -> None:
    with pytest.raises(ParseError, match="too_deep"):
        NestedEnd(max_depth=2).feed("[[[", 0)
    with pytest.raises(ParseError, match="too_deep"):
        NestedScanner(max_depth=0).feed("[", 0)


@pytest.mark.parametrize(
    ("fragments", "stop", "value"),
    [
        (["true"], 4, True),
        (["truex"], 4, True),
        (["t", "ru", "e,"], 1, True),
        (["n", "ullnull"], 3, None),
        (["12,"], 2, 12),
        (["1", "2", "}"], 0, 12),
        (["-1.5e+", "3 "], 1, -1500.0),
    ],
    ids=str,
)
def test_a_scalar_ends_with_its_literal_or_before_what_follows(
    fragments: list[str], stop: int, value: object
) -> None:
    scalar = ScalarScanner()
    for fragment in fragments[:-1]:
        assert scalar.feed(fragment, 0) == len(fragment)
        assert not scalar.done
    assert scalar.feed(fragments[-1], 0) == stop
    assert scalar.done
    assert scalar.value() == value


def test_a_scanner_starts_where_it_is_told() -> None:
    nested, scalar, string = NestedScanner(max_depth=1), ScalarScanner(), StringScanner()
    assert nested.feed('xx["a"]', 2) == 7
    assert nested.value() == ["a"]
    assert scalar.feed("xx1 ", 2) == 3
    assert scalar.value() == 1
    assert string.feed('xxa"', 2) == ("a", 4)


@settings(max_examples=200, deadline=None)
@given(st.text(), st.lists(st.integers(0, 200), max_size=6), st.booleans())
def test_a_string_is_unescaped_whatever_the_cuts(
    text: str, places: list[int], ascii_only: bool
) -> None:
    written = json.dumps(text, ensure_ascii=ascii_only)[1:]
    string = StringScanner()
    edges = sorted({0, len(written), *(place for place in places if place < len(written))})
    result = ""
    for start, end in itertools.pairwise(edges):
        piece = string.cut + written[start:end]
        plain, stop = string.feed(piece, 0)
        assert stop == len(piece)
        result += plain
    assert string.done
    assert result == text

import itertools
import json
import math
import tracemalloc
from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streaming.arguments import ArgumentsParser, RawArguments
from streaming.errors import ParseError
from streaming.parts import (
    ArgumentsDelta,
    FieldDelta,
    FieldDone,
    FieldValue,
    Part,
)

STREAMED = ("content", "title")


class Outcome:
    """What a text came to, however it was cut."""

    def __init__(self, fragments: Sequence[str], **limits: int) -> None:
        parser = ArgumentsParser(STREAMED, **limits)
        self.parts: list[Part] = []
        self.code = ""
        try:
            for fragment in fragments:
                self.parts += parser.feed(fragment)
            self.parts += parser.close()
        except ParseError as error:
            self.parts += error.parts
            self.code = error.code
        self.fields = fields_of(self.parts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Outcome) and vars(self) | {"parts": 0} == vars(other) | {
            "parts": 0
        }

    def __repr__(self) -> str:
        return f"{self.fields} {self.code}"


def fields_of(parts: Sequence[Part]) -> list[tuple[str, object, str]]:
    """Each field once, with its text or value and whether it is complete."""
    fields: dict[str, tuple[object, str]] = {}
    for part in parts:
        match part:
            case FieldDelta(name, text):
                assert text
                before, state = fields.get(name, ("", "open"))
                assert state == "open"
                fields[name] = (f"{before}{text}", "open")
            case FieldDone(name):
                text, state = fields.get(name, ("", "open"))
                assert state == "open"
                fields[name] = (text, "done")
            case FieldValue(name, value):
                assert name not in fields
                fields[name] = (value, "value")
            case _:
                pytest.fail(f"{part} is no part of arguments")
    # compared as text: 1, 1.0 and True are different values
    return [(name, repr(value), state) for name, (value, state) in fields.items()]


def whole(text: str) -> dict[str, Any]:
    """The object that the parts of a valid text make up."""
    parser = ArgumentsParser(STREAMED)
    parts = [*parser.feed(text), *parser.close()]
    result: dict[str, Any] = {}
    for part in parts:
        match part:
            case FieldDelta(name, piece):
                result[name] = result.get(name, "") + piece
            case FieldDone(name):
                result.setdefault(name, "")
            case FieldValue(name, value):
                result[name] = value
    return result


def cut(text: str, places: Sequence[int]) -> list[str]:
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(edges)]


# Text leaves when it arrives


def test_text_leaves_in_the_call_in_which_it_arrives() -> None:
    parser = ArgumentsParser()
    assert parser.feed('{"content":"He') == [FieldDelta("content", "He")]
    assert parser.feed("l") == [FieldDelta("content", "l")]
    assert parser.feed("lo ") == [FieldDelta("content", "lo ")]
    assert parser.feed("") == []
    assert parser.feed('世界"') == [FieldDelta("content", "世界"), FieldDone("content")]
    assert parser.feed("}") == []
    assert parser.close() == []


def test_a_fragment_gives_one_delta_of_a_field_however_many_escapes_it_has() -> None:
    parser = ArgumentsParser()
    assert parser.feed(r'{"content":"a\nb\"c\\d\u00e9\ud83d\ude42e') == [
        FieldDelta("content", 'a\nb"c\\dé🙂e')
    ]


def test_a_whole_object_in_one_fragment_gives_all_its_parts_in_order() -> None:
    parser = ArgumentsParser(STREAMED)
    text = ' {"emotion": "joy", "content": "Hi", "n": 1, "title": "", "memory": {"content": "x"}}\n'
    assert parser.feed(text) == [
        FieldValue("emotion", "joy"),
        FieldDelta("content", "Hi"),
        FieldDone("content"),
        FieldValue("n", 1),
        FieldDone("title"),
        FieldValue("memory", {"content": "x"}),
    ]
    assert parser.complete


@pytest.mark.parametrize(
    ("escape", "character"),
    [
        (r"\n", "\n"),
        (r"\"", '"'),
        (r"\\", "\\"),
        (r"\/", "/"),
        (r"\b", "\b"),
        (r"\f", "\f"),
        (r"\r", "\r"),
        (r"\t", "\t"),
        (r"\u0041", "A"),
        (r"\u3042", "あ"),
        (r"\uD83D\uDE42", "🙂"),
        (r"\u0000", "\0"),
        (r"\\u0041", "\\u0041"),
    ],
)
def test_an_escape_cut_anywhere_waits_for_its_rest_and_nothing_else_does(
    escape: str, character: str
) -> None:
    for place in range(1, len(escape)):
        parser = ArgumentsParser()
        before = parser.feed('{"content":"x' + escape[:place])
        after = parser.feed(escape[place:] + "y")
        text = "".join(part.text for part in before + after if isinstance(part, FieldDelta))
        assert text == f"x{character}y"
        assert before[0] == FieldDelta("content", "x") or escape.startswith("\\\\")
        assert len(before) == len(after) == 1


def test_after_a_cut_escape_the_next_fragment_leaves_at_once() -> None:
    parser = ArgumentsParser()
    parser.feed('{"content":"')
    assert parser.feed("a\\") == [FieldDelta("content", "a")]
    assert parser.feed("u30") == []
    assert parser.feed("42b") == [FieldDelta("content", "あb")]
    assert parser.feed("c") == [FieldDelta("content", "c")]


@pytest.mark.parametrize(
    "text",
    [
        "a b\u3000c",
        "👨\u200d👩\u200d👧",
        "\u2028",
        "\x7f\x80",
        "\ue000",
        "e\u0301",
        "\u202e",
        "\ufeff",
    ],
    ids=ascii,
)
def test_characters_that_do_not_print_pass_unchanged(text: str) -> None:
    parser = ArgumentsParser()
    parser.feed('{"content":"')
    assert parser.feed(text) == [FieldDelta("content", text)]
    assert parser.feed("z") == [FieldDelta("content", "z")]


# Other fields leave when they are complete


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("false", False),
        ("null", None),
        ('"joy"', "joy"),
        ('"日本\\u3042"', "日本あ"),
        ('""', ""),
        ("[]", []),
        ("{}", {}),
        ('[1, {"a": [true, null]}, "]}\\"]"]', [1, {"a": [True, None]}, ']}"]']),
        ('{"content": {"content": "\\\\"}}', {"content": {"content": "\\"}}),
    ],
)
def test_a_value_leaves_with_its_last_character(text: str, value: object) -> None:
    parser = ArgumentsParser()
    parser.feed('{"a": ')
    for character in text[:-1]:
        assert parser.feed(character) == []
    assert parser.feed(text[-1]) == [FieldValue("a", value)]
    assert type(whole(f'{{"a":{text}}}')["a"]) is type(value)


@pytest.mark.parametrize("delimiter", [" ", "\n", ",", "}"])
@pytest.mark.parametrize(
    ("text", "value"), [("0", 0), ("-12", -12), ("1.5", 1.5), ("-2E+3", -2000.0), ("1e-400", 0.0)]
)
def test_a_number_leaves_with_what_follows_it(text: str, value: float, delimiter: str) -> None:
    parser = ArgumentsParser()
    assert parser.feed('{"a":' + text[:1]) == []
    assert parser.feed(text[1:]) == []
    assert parser.feed(delimiter) == [FieldValue("a", value)]


@pytest.mark.parametrize("text", ["1", "true", "null", "[1]", '{"content": "x"}'])
def test_a_streamed_field_that_is_no_string_comes_as_a_value(text: str) -> None:
    assert Outcome([f'{{"content": {text}}}']).fields == [
        ("content", repr(json.loads(text)), "value")
    ]


def test_an_integer_outside_64_bits_is_a_float() -> None:
    assert whole('{"a": 18446744073709551615, "b": 18446744073709551616}') == {
        "a": 2**64 - 1,
        "b": 2.0**64,
    }
    assert isinstance(whole('{"b": 18446744073709551616}')["b"], float)


@pytest.mark.parametrize(
    "text",
    [
        '{"title":"t","content":"c"}',
        '{"content":"c","title":"t"}',
        ' \t\r\n{ \t\r\n"content" \t\r\n: \t\r\n"c" \t\r\n, \t\r\n"n" \t\r\n: \t\r\n1 \t\r\n} \t\r\n',
        '{"c\\u006fntent":"c"}',
        '{"":"empty"," content":1,"内容":"x"}',
        '{"content":"", "memory":{"content":"m","content2":[{"content":"n"}]}}',
        "{}",
        "{" + ",".join(f'"field{n}":{n}' for n in range(300)) + "}",
        '{"content":' + json.dumps("日本語🙂\n" * 500) + "}",
    ],
    ids=lambda text: text[:30],
)
def test_any_order_nesting_and_white_space_is_read(text: str) -> None:
    assert whole(text) == json.loads(text)
    assert Outcome(list(text)) == Outcome([text])


def test_each_part_carries_the_number_of_its_call() -> None:
    parts = ArgumentsParser(call=3).feed('{"content":"a","b":1}')
    assert parts == [FieldDelta("content", "a", 3), FieldDone("content", 3), FieldValue("b", 1, 3)]


# Halves of characters


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (r"a\ud83db", "a\ufffdb"),
        (r"a\ude42b", "a\ufffdb"),
        (r"a\ud83d", "a\ufffd"),
        (r"\ude42\ud83d", "\ufffd\ufffd"),
        (r"\ud83d\ud83d\ude42", "\ufffd🙂"),
        (r"\ud83d\n", "\ufffd\n"),
        (r"\ud83d\u0041", "\ufffdA"),
        (r"\ud83d\ude42\ude42", "🙂\ufffd"),
        ("\ud83d\ude42", "🙂"),
        ("a\ud83db", "a\ufffdb"),
        ("\ud83d", "\ufffd"),
        ("\\ud83d\ude42", "🙂"),
        ("\ud83d\\ude42", "🙂"),
    ],
    ids=ascii,
)
def test_halves_are_joined_across_fragments_and_lone_ones_replaced(written: str, text: str) -> None:
    streamed = '{"content":"' + written + '"}'
    for fragments in ([streamed], list(streamed), *(cut(streamed, [n]) for n in range(30))):
        assert Outcome(fragments).fields == [("content", repr(text), "done")]


@pytest.mark.parametrize(
    "text",
    [r'{"a": "x\ud83dy"}', r'{"a": ["\ude42", {"\ud83d": 1}]}', r'{"\ud83d": 1}', '{"a":"\ud83d"}'],
    ids=ascii,
)
def test_no_value_or_name_holds_a_lone_half(text: str) -> None:
    value = whole(text)
    assert "\ufffd" in orjson.dumps(value).decode()


def test_an_escaped_backslash_before_u_is_no_escape_of_a_half() -> None:
    assert whole(r'{"a": "\\ud83d \ud83d \\\ud83d \ud83d\ude42"}') == {
        "a": "\\ud83d \ufffd \\\ufffd 🙂"
    }


# Errors

DEEP = '{"a":' + "[" * 511 + "]" * 511 + "}"

ERRORS = {
    "a wrong literal": ('{"a": nul }', "syntax", []),
    "a literal in capitals": ('{"a": True}', "syntax", []),
    "a literal with a tail": ('{"a": truex}', "syntax", [FieldValue("a", True)]),
    "no value": ('{"a":}', "syntax", []),
    "no colon": ('{"a" 1}', "syntax", []),
    "no comma": ('{"a":"b" "c":1}', "syntax", [FieldValue("a", "b")]),
    "a trailing comma": ('{"a":1,}', "syntax", [FieldValue("a", 1)]),
    "a leading comma": ('{,"a":1}', "syntax", []),
    "a name without quotes": ("{a:1}", "syntax", []),
    "single quotes": ("{'a':1}", "syntax", []),
    "a comment": ('{/**/"a":1}', "syntax", []),
    "an unknown escape": (r'{"content":"ab\x41"}', "syntax", [FieldDelta("content", "ab")]),
    "a wrong unicode escape": (r'{"content":"\u12G4"}', "syntax", []),
    "a raw line end in text": ('{"content":"a\nb"}', "syntax", [FieldDelta("content", "a")]),
    "a raw line end in a value": ('{"a":"a\nb"}', "syntax", []),
    "a raw line end in a name": ('{"a\nb":1}', "syntax", []),
    "a NUL in text": ('{"content":"a\0"}', "syntax", [FieldDelta("content", "a")]),
    "a leading zero": ('{"a": 01}', "syntax", []),
    "a leading plus": ('{"a": +1}', "syntax", []),
    "a number without digits": ('{"a": 1.}', "syntax", []),
    "two numbers": ('{"a": 1-2}', "syntax", []),
    "brackets that do not match": ('{"a": [1}, "b": 2}', "syntax", []),
    "wrong inside a value": ('{"content":"x","a":{"b" 1}}', "syntax", "x"),
    "white space of Unicode": ('{"content":\u3000"x"}', "syntax", []),
    "NaN": ('{"a": NaN}', "not_finite", []),
    "NaN in a value": ('{"a": [NaN]}', "not_finite", []),
    "Infinity": ('{"a": Infinity }', "not_finite", []),
    "minus Infinity": ('{"a": -Infinity,', "not_finite", []),
    "a number beyond a float": ('{"a": 1e400}', "not_finite", []),
    "an integer beyond a float": ('{"a": [' + "9" * 5000 + "]}", "not_finite", []),
    "a byte order mark": ('\ufeff{"a":1}', "bom", []),
    "a code fence": ('```json\n{"a":1}\n```', "code_fence", []),
    "a code fence after white space": ('\n`{"a":1}`', "code_fence", []),
    "an array": ("[1]", "not_an_object", []),
    "a string": ('"content"', "not_an_object", []),
    "a number": ("1", "not_an_object", []),
    "prose": ('Sure! {"a":1}', "not_an_object", []),
    "text after the object": ('{"a":1} done', "trailing_text", [FieldValue("a", 1)]),
    "a closing fence": ('{"content":"x"}\n```', "trailing_text", "x"),
    "a second object": ("{}{}", "trailing_text", []),
    "a closing brace too many": ('{"a":1}}', "trailing_text", [FieldValue("a", 1)]),
    "nothing": ("", "truncated", []),
    "white space": (" \n", "truncated", []),
    "an open object": ("{", "truncated", []),
    "an open name": ('{"a', "truncated", []),
    "an open value": ('{"a":[1', "truncated", []),
    "an open number": ('{"a":1', "truncated", []),
    "an open text": ('{"content":"ab', "truncated", [FieldDelta("content", "ab")]),
    "a cut escape": ('{"content":"ab\\u30', "truncated", [FieldDelta("content", "ab")]),
    "a cut pair": ('{"content":"ab\\ud83d', "truncated", [FieldDelta("content", "ab")]),
    "no closing brace": ('{"content":"x"', "truncated", "x"),
    "a second content": ('{"content":"x","content":"y"}', "duplicate_key", "x"),
    "a second name, escaped": ('{"content":"x","c\\u006fntent":1}', "duplicate_key", "x"),
    "a second value": ('{"a":1,"a":1}', "duplicate_key", [FieldValue("a", 1)]),
    "one level too many": (DEEP.replace("[]", "[[]]"), "too_deep", []),
    "nesting without end": ('{"a":' + '[{"b":' * 100_000, "too_deep", []),
}


@pytest.mark.parametrize(("text", "code", "parts"), ERRORS.values(), ids=ERRORS)
def test_what_is_wrong_has_a_code_and_the_parts_before_it(
    text: str, code: str, parts: list[Part] | str
) -> None:
    if isinstance(parts, str):
        parts = [FieldDelta("content", parts), FieldDone("content")]
    outcome = Outcome([text])
    assert outcome.code == code
    assert outcome.parts == parts


@pytest.mark.parametrize(("text", "code", "parts"), ERRORS.values(), ids=ERRORS)
def test_what_is_wrong_does_not_depend_on_the_cuts(text: str, code: str, parts: object) -> None:
    text = text[:2000] if code == "too_deep" else text
    assert Outcome(list(text)) == Outcome([text])


def test_an_error_carries_the_parts_of_its_own_fragment_only() -> None:
    parser = ArgumentsParser()
    parser.feed('{"content":"a')
    with pytest.raises(ParseError) as caught:
        parser.feed('b","x":1 oops')
    assert caught.value.code == "syntax"
    assert caught.value.parts == (
        FieldDelta("content", "b"),
        FieldDone("content"),
        FieldValue("x", 1),
    )


@pytest.mark.parametrize("text", ['{"content":"a\n', '{"content":"a","content"', "oops"])
def test_a_parser_that_failed_stays_failed(text: str) -> None:
    parser = ArgumentsParser()
    with pytest.raises(ParseError) as first:
        parser.feed(text)
    for again in (lambda: parser.feed("plain"), lambda: parser.feed(""), parser.close):
        with pytest.raises(ParseError) as caught:
            again()
        assert caught.value.code == first.value.code
        assert caught.value.parts == ()
    assert not parser.complete


def test_a_truncated_text_cannot_be_continued() -> None:
    parser = ArgumentsParser()
    parser.feed('{"content":"a')
    for again in (parser.close, lambda: parser.feed("b")):
        with pytest.raises(ParseError, match="truncated"):
            again()


def test_the_error_says_nothing_but_its_code() -> None:
    with pytest.raises(ParseError) as caught:
        ArgumentsParser().feed('{"content":"private","key": sk-12345 }')
    assert str(caught.value) == "syntax"
    assert "private" not in repr(caught.value)


def test_the_deepest_value_allowed_is_read() -> None:
    assert whole(DEEP) == json.loads(DEEP)
    assert Outcome(['{"a":[[]]}'], max_depth=2).code == "too_deep"
    assert Outcome(['{"a":[[]]}'], max_depth=3).code == ""


def test_the_deepest_value_allowed_may_hold_lone_halves() -> None:
    text = '{"a":' + "[" * 511 + r'"\ud83d"' + "]" * 511 + "}"
    assert Outcome([text]).code == ""


def test_brackets_in_text_are_no_nesting() -> None:
    assert Outcome(['{"a":"[[[[", "content":"{{{{", "b":["[[[["]}'], max_depth=2).code == ""


def test_a_text_that_is_too_large_is_parsed_up_to_the_limit() -> None:
    text = '{"content":"0123456789"}'
    assert Outcome([text], max_chars=len(text)).code == ""
    for fragments in ([text], list(text), [text[:14], text[14:]]):
        outcome = Outcome(fragments, max_chars=len(text) - 1)
        assert outcome.code == "too_large"
        assert outcome.fields == [("content", repr("0123456789"), "done")]
        outcome = Outcome(fragments, max_chars=15)
        assert outcome.code == "too_large"
        assert outcome.fields == [("content", repr("012"), "open")]


def test_white_space_without_end_is_too_large() -> None:
    parser = ArgumentsParser(max_chars=1000)
    with pytest.raises(ParseError, match="too_large"):  # noqa: PT012  # the last of many calls
        for _ in range(101):
            parser.feed(" " * 10)


def test_no_streamed_text_is_kept() -> None:
    parser = ArgumentsParser()
    parser.feed('{"content":"')
    tracemalloc.start()
    try:
        for _ in range(1000):
            parser.feed("plain text, " * 50)
            parser.feed("escaped\\n" * 50)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 10_000


# Any cut of any text

texts = st.text(
    st.sampled_from('abc"\\/\n{}[]:,日本🙂\u3000\u200d\ufeff\ud83d\ude42\0') | st.characters()
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
)
values = st.recursive(
    scalars | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)
names = st.sampled_from(["content", "title", "emotion"]) | texts
objects = st.dictionaries(names, values, max_size=5)
places = st.lists(st.integers(0, 10_000), max_size=20)
structure = ['{"content":"', '"content"', '"b":', '"', '","', '":', *"{}[]:, \n`a\0\ufeff"]
scalar_pieces = ["true", "nul", "NaN", "-", "0", "1", "e9", "."]
characters = ["\\", "\\u", "\\n", r"\ud83d", r"\ude42", "\ud83d", "\ude42", "🙂", "あ"]
signs = st.sampled_from([*structure, *scalar_pieces, *characters])
broken = st.lists(signs, max_size=25).map("".join)


def is_sound(value: object) -> bool:
    try:
        orjson.dumps(value)
    except (TypeError, orjson.JSONEncodeError):
        return False
    return True


@settings(max_examples=300, deadline=None)
@given(value=objects.filter(is_sound), ascii_only=st.booleans(), indent=st.none() | st.just(2))
def test_a_valid_object_gives_what_the_standard_library_gives(
    value: dict[str, Any], ascii_only: bool, indent: int | None
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    result = whole(text)
    assert repr(result) == repr(json.loads(text))


@settings(max_examples=300, deadline=None)
@given(value=objects, ascii_only=st.booleans(), places=places)
def test_any_cut_of_a_valid_object_gives_the_same(
    value: dict[str, Any], ascii_only: bool, places: list[int]
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert Outcome(cut(text, places)) == Outcome([text]) == Outcome(list(text))


@settings(max_examples=300, deadline=None)
@given(text=broken | texts, places=places, limit=st.none() | st.integers(0, 40))
@example(text='{"a":truex', places=[9], limit=None)
@example(text='{"content":"\ud83d\\', places=[13], limit=None)
@example(text='{"a":"\\', places=[7], limit=None)
def test_any_cut_of_any_text_gives_the_same_fields_and_the_same_code(
    text: str, places: list[int], limit: int | None
) -> None:
    limits = {} if limit is None else {"max_chars": limit}
    whole_text = Outcome([text], **limits)
    assert Outcome(cut(text, places), **limits) == whole_text
    assert Outcome(list(text), **limits) == whole_text


def refuse(constant: str) -> float:
    raise ValueError(constant)


def finite(text: str) -> float:
    if math.isinf(number := float(text)):
        raise ValueError(text)
    return number


@settings(max_examples=300, deadline=None)
@given(text=broken)
@example(text='{"a":[1,{"b":1,"b":2}]}')
@example(text='{"content":"","b":1e999}')
def test_what_is_accepted_is_what_the_standard_library_accepts(text: str) -> None:
    try:
        value = json.loads(text, parse_constant=refuse, parse_float=finite)
        acceptable = isinstance(value, dict)
    except ValueError:
        acceptable = False
    assert Outcome([text]).code in {"", "duplicate_key"} if acceptable else Outcome([text]).code


@settings(max_examples=300, deadline=None)
@given(text=broken | texts, places=places)
def test_parts_of_a_fragment_never_repeat_a_delta_of_a_field(text: str, places: list[int]) -> None:
    parser = ArgumentsParser(STREAMED)
    for fragment in cut(text, places):
        try:
            parts = parser.feed(fragment)
        except ParseError:
            break
        deltas = [part.name for part in parts if isinstance(part, FieldDelta)]
        assert len(deltas) == len(set(deltas))


# Arguments that are passed on


def test_raw_arguments_leave_as_they_arrive() -> None:
    raw = RawArguments(call=2)
    assert raw.feed('{"city": ') == [ArgumentsDelta(2, '{"city": ')]
    assert not raw.complete
    assert raw.feed('"}\\"東京"') == [ArgumentsDelta(2, '"}\\"東京"')]
    assert raw.feed("") == []
    assert raw.feed("}") == [ArgumentsDelta(2, "}")]
    assert raw.complete
    assert raw.close() == []


def test_halves_in_raw_arguments_are_joined_or_replaced() -> None:
    raw = RawArguments()
    assert raw.feed('{"a":"\ud83d') == [ArgumentsDelta(0, '{"a":"')]
    assert raw.feed("\ude42\ud83d") == [ArgumentsDelta(0, "🙂")]
    assert raw.close() == [ArgumentsDelta(0, "\ufffd")]


def test_raw_arguments_that_are_too_large_are_passed_up_to_the_limit() -> None:
    raw = RawArguments(max_chars=5)
    assert raw.feed("[[[") == [ArgumentsDelta(0, "[[[")]
    with pytest.raises(ParseError, match="too_large") as caught:
        raw.feed("[[[")
    assert caught.value.parts == (ArgumentsDelta(0, "[["),)
    with pytest.raises(ParseError, match="too_large") as caught:
        raw.feed("[[[")
    assert caught.value.parts == ()


def test_raw_arguments_may_just_fit_the_limit() -> None:
    raw = RawArguments(max_chars=5)
    assert raw.feed("[[[]]") == [ArgumentsDelta(0, "[[[]]")]
    assert raw.feed("") == []
    with pytest.raises(ParseError, match="too_large"):
        raw.feed("]")

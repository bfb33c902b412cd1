import itertools
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streaming.errors import EventTooLargeError, ParseError
from streaming.sse import DONE, EventReader


def read(*reads: bytes, max_bytes: int = 1 << 20) -> list[bytes]:
    reader = EventReader(max_bytes)
    events = [event for data in reads for event in reader.feed(data)]
    return events + reader.close()


def outcome(reads: list[bytes], max_bytes: int) -> tuple[list[bytes], bool]:
    """Events of the whole stream and whether it failed, whatever the cuts."""
    reader = EventReader(max_bytes)
    events: list[bytes] = []
    try:
        for data in reads:
            events += reader.feed(data)
        events += reader.close()
    except EventTooLargeError as error:
        return events + list(error.events), True
    return events, False


def reference(stream: bytes) -> list[bytes]:
    """The standard's algorithm, line by line over the whole stream, as plainly as it is written."""
    stream = stream.removeprefix(b"\xef\xbb\xbf")
    events, buffer = [], None
    for line in [*re.split(rb"\r\n|\r|\n", stream)[:-1], b""]:
        if line == b"":
            if buffer is not None:
                events.append(buffer[:-1])
            buffer = None
        elif line == b"data":
            buffer = (buffer or b"") + b"\n"
        elif line.startswith(b"data: "):
            buffer = (buffer or b"") + line[6:] + b"\n"
        elif line.startswith(b"data:"):
            buffer = (buffer or b"") + line[5:] + b"\n"
    return events


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


CASES = {
    "one event": (b"data: {}\n\n", [b"{}"]),
    "several events in one read": (b"data: 1\n\ndata: 2\n\ndata: 3\n\n", [b"1", b"2", b"3"]),
    "the end mark": (b"data: 1\n\ndata: [DONE]\n\n", [b"1", DONE]),
    "CRLF": (b"data: 1\r\n\r\ndata: 2\r\n\r\n", [b"1", b"2"]),
    "CR": (b"data: 1\r\rdata: 2\r\r", [b"1", b"2"]),
    "mixed line ends": (b"data: 1\r\n\ndata: 2\r\r\ndata: 3\n\r", [b"1", b"2", b"3"]),
    "no space after the colon": (b"data:1\n\n", [b"1"]),
    "only one space is dropped": (b"data:  1\n\n", [b" 1"]),
    "a colon in the data": (b"data: a: b\n\n", [b"a: b"]),
    "several data lines": (b"data: a\ndata:\ndata: b\n\n", [b"a\n\nb"]),
    "several data lines that end with CRLF": (b"data: a\r\ndata: b\r\n\r\n", [b"a\nb"]),
    "empty data": (b"data:\n\n", [b""]),
    "empty data with its space": (b"data: \n\n", [b""]),
    "data without a colon": (b"data\n\n", [b""]),
    "a byte order mark": (b"\xef\xbb\xbfdata: 1\n\n", [b"1"]),
    "only the first mark is dropped": (b"\xef\xbb\xbf\xef\xbb\xbfdata: 1\n\n", []),
    "a mark later in the stream": (b"data: 1\n\n\xef\xbb\xbfdata: 2\n\n", [b"1"]),
    "a comment": (b": keep-alive\n\ndata: 1\n\n", [b"1"]),
    "a comment inside an event": (b"data: 1\n: x\ndata: 2\n\n", [b"1\n2"]),
    "other fields": (b"event: error\nid: 7\nretry: 1\ndata: 1\n\n", [b"1"]),
    "an unknown field": (b"database: 1\nDATA: 2\n data: 3\ndata : 4\n\n", []),
    "blank lines between events": (b"\n\ndata: 1\n\n\n\n\ndata: 2\n\n", [b"1", b"2"]),
    "blank lines after an empty event": (b"data: \n\n\n\n", [b""]),
    "an event after one blank line more": (b"data: 1\n\n\ndata: 2\n\n", [b"1", b"2"]),
    "Japanese": ("data: こんにちは🙂\n\n".encode(), ["こんにちは🙂".encode()]),
    "bytes that are not UTF-8": (b"data: \xff\xfe\n\n", [b"\xff\xfe"]),
    "a NUL": (b"data: \x00\n\n", [b"\x00"]),
    "line ends of Unicode are text": (
        "data: a\u2028b\x85\x0bc\n\n".encode(),
        ["a\u2028b\x85\x0bc".encode()],
    ),
    "nothing": (b"", []),
}


@pytest.mark.parametrize(("stream", "events"), CASES.values(), ids=CASES)
def test_a_stream_gives_the_data_of_its_events(stream: bytes, events: list[bytes]) -> None:
    assert read(stream) == events


@pytest.mark.parametrize(("stream", "events"), CASES.values(), ids=CASES)
def test_a_stream_cut_at_every_byte_gives_the_same_events(
    stream: bytes, events: list[bytes]
) -> None:
    assert read(*(bytes([byte]) for byte in stream)) == events


@pytest.mark.parametrize(("stream", "events"), CASES.values(), ids=CASES)
def test_a_stream_cut_once_anywhere_gives_the_same_events(
    stream: bytes, events: list[bytes]
) -> None:
    for place in range(len(stream) + 1):
        assert read(stream[:place], b"", stream[place:]) == events


def test_an_event_leaves_with_the_read_that_ends_it() -> None:
    reader = EventReader()
    assert reader.feed(b"data: 1\n") == []
    assert reader.feed(b"\ndata: 2") == [b"1"]
    assert reader.feed(b"\r") == []
    assert reader.feed(b"\r") == [b"2"]
    assert reader.feed(b"\ndata: 3\n\n") == [b"3"]


def test_an_event_that_lacks_only_its_blank_line_is_given_out_at_the_end() -> None:
    reader = EventReader()
    assert reader.feed(b"data: 1\n\ndata: [DONE]\n") == [b"1"]
    assert reader.close() == [DONE]
    assert reader.close() == []


def test_a_line_that_never_ended_is_dropped_at_the_end() -> None:
    assert read(b'data: 1\n\ndata: {"cho') == [b"1"]


@pytest.mark.parametrize(
    "stream",
    [
        b"data: 1\n\ndata: 3456789\n\ndata: 2\n\n",
        b"data: 1\n\n: 34567890123",
        b"data: 1\n\n" + b"data: 34\n" * 5,
        b"data: 1\n\nx\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    ],
    ids=["line", "comment", "event of many lines", "unknown field"],
)
def test_what_exceeds_the_limit_is_an_error_that_carries_the_events_before_it(
    stream: bytes,
) -> None:
    reader = EventReader(max_bytes=12)
    with pytest.raises(EventTooLargeError) as caught:
        reader.feed(stream)
    assert caught.value.code == "too_large"
    assert caught.value.events == (b"1",)


def test_what_just_fits_the_limit_is_read() -> None:
    assert read(b"data: 123456\n\n" * 3, max_bytes=12) == [b"123456"] * 3
    lines = b"data: 12345\ndata:12345\n\n"
    assert read(lines, lines, max_bytes=12) == [b"12345\n12345"] * 2
    assert outcome([lines], max_bytes=11) == ([], True)


def test_many_events_in_one_read_may_exceed_the_limit_together() -> None:
    assert read(b"data: 1\n\n" * 50, max_bytes=12) == [b"1"] * 50


@pytest.mark.parametrize("stream", [b"data: 1234567\n\n", b"data: 12345\n" * 3])
def test_a_reader_that_failed_stays_failed(stream: bytes) -> None:
    reader = EventReader(max_bytes=12)
    for data in (stream, b"data: 1\n\n", b"\n", b""):
        with pytest.raises(EventTooLargeError) as caught:
            reader.feed(data)
        assert caught.value.events == ()
    with pytest.raises(ParseError):
        reader.close()


marks = [b"data", b"data:", b"data: ", b":", b" ", b"\n", b"\r", b"\r\n", b"\n\n", b"\xef\xbb\xbf"]
pieces = st.sampled_from([*marks, "日本🙂".encode(), b"{}", b"event: x", b"\xff"])
streams = st.lists(pieces, max_size=30).map(b"".join) | st.binary(max_size=60)


@settings(max_examples=300, deadline=None)
@given(stream=streams, places=st.lists(st.integers(0, 1000), max_size=12))
@example(stream=b"data: 1\r\n\r\n", places=[8, 10])
@example(stream=b"data: 1\n\ndata:\n\n", places=[])
def test_any_cut_of_any_stream_gives_what_the_standard_gives(
    stream: bytes, places: list[int]
) -> None:
    assert read(*cut(stream, places)) == reference(stream)


@settings(max_examples=300, deadline=None)
@given(stream=streams, places=st.lists(st.integers(0, 1000), max_size=12), limit=st.integers(1, 20))
def test_the_limit_does_not_depend_on_the_cuts(
    stream: bytes, places: list[int], limit: int
) -> None:
    assert outcome(cut(stream, places), limit) == outcome([stream], limit)

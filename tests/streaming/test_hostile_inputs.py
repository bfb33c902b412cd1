"""Nothing takes much longer for a text that was written to make it slow.

One event loop serves every user, so what one message or one provider can make it do must grow with the
size of the text and not with its square. Times are compared with those of a quarter of the text, never
with a limit: four times is what a linear reader takes, sixteen what a quadratic one does.
"""

from collections.abc import Callable
from itertools import pairwise
from time import thread_time
from typing import Any

import pytest

from gateway.turns.reply import ReplyShape, ReplyWriter
from streaming.arguments import RawArguments
from streaming.chunks import decode_chunk
from streaming.errors import ParseError
from streaming.json_values import decode
from streaming.models.chat_model import ChatMessage, Function, ModelRequest
from streaming.models.http_head import post_head
from streaming.models.scripted_reply import scripted_reply
from streaming.models.scripted_stream import scripted_stream
from streaming.models.scripted_words import read_wishes
from streaming.models.upstream_errors import error_of_body, retry_after_seconds
from streaming.parts import FieldDelta, FieldValue, TextDelta
from streaming.sse import EventReader
from streaming.surrogates import HalfJoiner, mend, mend_escapes
from streaming.tool_calls import ToolCallAccumulator

SIZES = (4_096, 16_384, 65_536, 262_144)
"""Characters: up to the longest message of a user. What is slow already fails before it takes minutes."""

PIECE = 64
"""Characters of a fragment."""

GROWTH = 9.0
"""How many times longer four times the text may take: between 4 (linear) and 16 (quadratic)."""

NOTHING_SECONDS = 0.02
"""What takes no longer than this is not slow, whatever it grew from."""

TRIES = 5

HOSTILE = {
    "letters": "a",
    "words": "word ",
    "spaces": " ",
    "line ends": "\n",
    "carriage returns": "\r",
    "blank lines": "\n \t",
    "quotes": '"',
    "backslashes": "\\",
    "escaped quotes": '\\"',
    "brackets": "[",
    "closed brackets": "[]",
    "braces": '{"a":',
    "commas": ",",
    "colons": ":",
    "full stops": ". ",
    "digits": "1",
    "cut escapes": "\\ud83d",
    "halves": "\ud83d",
    "kana": "あ",
    "pauses": "、",
    "sentences": "。",
    "particles": "と",
    "steering words": "remember ",
    "steering words, japanese": "覚えて",
    "almost steering words": "and  remembe please  fail",
    "data lines": "data: x\n",
    "mixed": 'and \n\n  [{"\\u と、"} remember。',
}


def read_message(text: str) -> None:
    for steered in (text, f"fail{text}x", f"remember{text}", f"and{text}", f"覚えて{text}"):
        read_wishes(steered)


def answer_message(text: str) -> None:
    text = mend(text)
    for message in (text, f"echo {text}", f"plain emoji recall echo {text}"):
        request = ModelRequest(
            messages=(
                ChatMessage(role="system", content=text),
                ChatMessage(role="user", content=text),
                ChatMessage(role="user", content=message),
            ),
            function=Function(
                name="reply", description="", parameters={"properties": {"content": {}}}
            ),
        )
        wishes = read_wishes(message)
        scripted_stream(request, scripted_reply(request, wishes), wishes)


def read_events(text: str) -> None:
    data = text.encode(errors="replace")
    for begun in (data, b"data: " + data + b"\n\n"):
        reader = EventReader()
        reader.feed(begun)
        reader.close()


def read_events_in_pieces(text: str) -> None:
    data = text.encode(errors="replace")
    reader = EventReader()
    for start in range(0, len(data), PIECE):
        reader.feed(data[start : start + PIECE])


def decode_text(text: str) -> None:
    data = text.encode(errors="replace")
    for part in (text, f'"{text}"', f'{{"a":"{text}"}}', f"[{text}"):
        takes(decode, part)
    for part in (data, b'{"a":"' + data + b'"}'):
        takes(decode_chunk, part)
        error_of_body(part)


def mend_text(text: str) -> None:
    mend(text)
    mend_escapes(text)
    joiner = HalfJoiner()
    for start in range(0, len(text), PIECE):
        joiner.feed(text[start : start + PIECE])


def read_arguments(text: str, *, piece: int) -> None:
    for begun in ("", '{"content":"', '{"memory":"', '{"a":['):
        whole = begun + text
        calls = ToolCallAccumulator(functions={"reply"})
        calls.feed(a_call(name="reply"))
        for start in range(0, len(whole), piece):
            if not takes(calls.feed, a_call(arguments=whole[start : start + piece])):
                break


def read_foreign_arguments(text: str) -> None:
    raw = RawArguments()
    for start in range(0, len(text), PIECE):
        raw.feed(text[start : start + PIECE])


def read_names(text: str) -> None:
    calls = ToolCallAccumulator(functions={"reply"})
    for start in range(0, len(text), PIECE):
        if not takes(calls.feed, a_call(name=text[start : start + PIECE])):
            break


def read_calls(text: str) -> None:
    calls = ToolCallAccumulator(functions={"reply"})
    for start in range(0, len(text), PIECE):
        call = a_call(index=start, id=str(start), name="f", arguments=text[start : start + PIECE])
        if not takes(calls.feed, call):
            break


def read_texts(text: str) -> None:
    calls = ToolCallAccumulator()
    for start in range(0, len(text), PIECE):
        delta = {"content": text[start : start + PIECE], "refusal": text[start : start + PIECE]}
        calls.feed({"choices": [{"delta": delta}]})


def read_head(text: str) -> None:
    retry_after_seconds({"retry-after": text, "retry-after-ms": text}, now=0.0)
    takes(lambda url: post_head(url, []), f"https://h/{mend(text)}")


def write_reply(text: str) -> None:
    text = mend(text)
    writer = ReplyWriter(
        ReplyShape(emotions=("calm",), categories=("chat",)), new_memory_id=lambda: "m"
    )
    for start in range(0, len(text), PIECE):
        part = text[start : start + PIECE]
        writer.read([FieldDelta("content", part), TextDelta(part)])
    writer.read([FieldValue("memory", text), FieldValue("emotion", text)])
    writer.close()
    assert writer.draft.content


def a_call(
    *, index: int = 0, name: str | None = None, arguments: str | None = None, **more: object
) -> dict[str, object]:
    call = {"index": index, "function": {"name": name, "arguments": arguments}, **more}
    return {"choices": [{"delta": {"tool_calls": [call]}}]}


def takes(read: Callable[[Any], object], given: object) -> bool:
    """Whether it took what it was given: a refusal is an answer, too."""
    try:
        read(given)
    except (ParseError, ValueError):
        return False
    return True


READERS: dict[str, Callable[[str], object]] = {
    "a user's message": read_message,
    "the scripted answer": answer_message,
    "events": read_events,
    "events in pieces": read_events_in_pieces,
    "json": decode_text,
    "halves of characters": mend_text,
    "arguments": lambda text: read_arguments(text, piece=len(text) + 99),
    "arguments in pieces": lambda text: read_arguments(text, piece=PIECE),
    "arguments of another function": read_foreign_arguments,
    "names": read_names,
    "calls": read_calls,
    "texts": read_texts,
    "headers": read_head,
    "the reply": write_reply,
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_no_text_is_slow(read: Callable[[str], object]) -> None:
    for name, unit in HOSTILE.items():
        texts = [unit * (size // len(unit)) for size in SIZES]
        for quarter, text in pairwise(texts):
            assert grows_little(read, quarter, text), (name, len(text))


def grows_little(read: Callable[[str], object], quarter: str, text: str) -> bool:
    """Whether the fastest of some tries is not that of a quadratic reader; others use the machine."""
    whole = seconds(read, text)
    if whole <= NOTHING_SECONDS:
        return True
    before = seconds(read, quarter)
    for _ in range(TRIES):
        if whole <= GROWTH * before:
            return True
        whole = min(whole, seconds(read, text))
        before = max(before, seconds(read, quarter))
    return False


def seconds(read: Callable[[str], object], text: str) -> float:
    began = thread_time()
    read(text)
    return thread_time() - began

"""The parsers that are compared, each behind one `feed`.

A contender is given the fragments one by one and has to return the text that is new in `content`
after each of them: that is what a chat shows. What a contender needs beyond the fragment (the
openai SDK is fed chunk objects) is made before the clock starts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import ijson  # type: ignore[import-untyped]  # ships no types
import jiter
import orjson
import partial_json_parser  # type: ignore[import-untyped]  # ships no types
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk
from streaming_json_parser import StreamingJsonParser

from bench import openai_wire
from streaming.arguments import ArgumentsParser
from streaming.parts import FieldDelta

Feed = Callable[..., object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One way to read the arguments while they arrive.

    Attributes:
        name: the head of its column.
        start: makes a parser for one document and returns its `feed`.
        prepare: turns the fragments into what `feed` takes.
        text: reads the new text from what `feed` returned.
        distributions: what its code was installed from.
    """

    name: str
    start: Callable[[], Feed]
    prepare: Callable[[Sequence[str]], Sequence[object]] = list
    text: Callable[[object], str] = str
    distributions: tuple[str, ...] = ()


def _makoto() -> Feed:
    return ArgumentsParser(streamed=("content",)).feed


def _text_of_parts(parts: object) -> str:
    assert isinstance(parts, list)
    return "".join(part.text for part in parts if isinstance(part, FieldDelta))


def _reparse(parse: Callable[[str], object]) -> Feed:
    """Parse all that has come after every fragment: the usual way with a partial parser."""
    buffer = ""
    shown = 0

    def feed(fragment: str) -> str:
        nonlocal buffer, shown
        buffer += fragment
        value = parse(buffer)
        content = value.get("content", "") if isinstance(value, dict) else ""
        new = content[shown:]
        shown = len(content)
        return new

    return feed


def _parse_jiter(text: str) -> object:
    return jiter.from_json(text.encode(), partial_mode="trailing-strings")


def _parse_partial_json(text: str) -> object:
    return partial_json_parser.loads(text)


def _ijson() -> Feed:
    found = ijson.sendable_list()
    events = ijson.kvitems_coro(found, "")

    def feed(fragment: str) -> str:
        events.send(fragment.encode())
        if not found:
            return ""
        new = "".join(value for key, value in found if key == "content")
        del found[:]
        return new

    return feed


def _streaming_json_parser() -> Feed:
    parser = StreamingJsonParser()
    shown = 0

    def feed(fragment: str) -> str:
        nonlocal shown
        value = parser.feed(fragment).value
        content = value.get("content", "") if isinstance(value, dict) else ""
        new = content[shown:]
        shown = len(content)
        return new

    return feed


def _sdk_chunks(fragments: Sequence[str]) -> list[ChatCompletionChunk]:
    # The cost of building them from SSE lines is left out, in the SDK's favour.
    lines = [openai_wire.call_started(), *map(openai_wire.arguments_fragment, fragments)]
    return [ChatCompletionChunk.model_validate_json(line) for line in lines]


def _sdk_state() -> Feed:
    # A strict tool makes the state parse the arguments; without one it only collects their text.
    state: ChatCompletionStreamState[None] = ChatCompletionStreamState(
        input_tools=[openai_wire.TOOL]
    )
    shown = 0

    def feed(chunk: ChatCompletionChunk) -> str:
        nonlocal shown
        new = ""
        for event in state.handle_chunk(chunk):
            if event.type == "tool_calls.function.arguments.delta":
                parsed = event.parsed_arguments
                content = parsed.get("content", "") if isinstance(parsed, dict) else ""
                new, shown = content[shown:], len(content)
        return new

    return feed


def _sse_data(fragments: Sequence[str]) -> list[bytes]:
    # Lines cost the same wherever they stand: so many are enough, and a megabyte in pieces of
    # four characters would make 90 MB of them.
    return [openai_wire.arguments_fragment(piece).encode() for piece in fragments[:20_000]]


MAKOTO = Contender(name="makoto", start=_makoto, text=_text_of_parts)
PEERS = (
    Contender(
        name="jiter",
        start=partial(_reparse, _parse_jiter),
        distributions=("jiter",),
    ),
    Contender(
        name="partial-json-parser",
        start=partial(_reparse, _parse_partial_json),
        distributions=("partial-json-parser",),
    ),
    Contender(name="ijson", start=_ijson, distributions=("ijson",)),
    Contender(
        name="streaming-json-parser",
        start=_streaming_json_parser,
        distributions=("streaming-json-parser",),
    ),
    Contender(name="openai SDK", start=_sdk_state, prepare=_sdk_chunks, distributions=("openai",)),
)
ORJSON_LINE = Contender(
    name="orjson.loads(line)",
    start=lambda: orjson.loads,
    prepare=_sse_data,
    distributions=("orjson",),
)

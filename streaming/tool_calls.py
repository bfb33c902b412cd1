"""A provider's chunks to parts: text, refusal, function calls, usage, the reason of the end.

The chunks are those of OpenAI's streaming chat completions, as OpenAI, Azure and the many servers
that imitate them send them. They disagree about how a call is told from the next and about what
a delta holds; the rules here survive all of them, and a test is named after each habit.
"""

import json
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Final, NoReturn

from streaming.arguments import MAX_CHARS, ArgumentsParser, RawArguments
from streaming.chunks import read_error, read_usage
from streaming.errors import ParseError
from streaming.parts import CallStarted, Finished, Part, RefusalDelta, TextDelta, Usage
from streaming.surrogates import HalfJoiner, mend

MAX_CALLS: Final = 128
"""How many calls a reply may begin: as many as OpenAI takes functions in a request."""

_NAME_CHARS: Final = 256
"""How much of a function's name is kept, however many pieces of it come; providers allow 64."""

_PLACEHOLDER: Final = "{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rules:
    """How the arguments of calls are read; see `ToolCallAccumulator`."""

    streamed: frozenset[str]
    functions: frozenset[str] | None
    max_chars: int
    max_depth: int

    def reader(self, name: str, call: int) -> ArgumentsParser | RawArguments:
        if self.functions is not None and name not in self.functions:
            return RawArguments(call=call, max_chars=self.max_chars)
        return ArgumentsParser(
            self.streamed, call=call, max_chars=self.max_chars, max_depth=self.max_depth
        )


class _Call:
    """One function call of the reply.

    Attributes:
        number: Its number in the reply; none until a name or arguments came.
        arguments: Their reader; none while fragments wait, because the name that chooses it is
            missing or because the first may be a placeholder.
    """

    __slots__ = ("_rules", "_waiting", "arguments", "id", "name", "number")

    def __init__(self, rules: _Rules) -> None:
        self.number: int | None = None
        self.id = ""
        self.name = ""
        self.arguments: ArgumentsParser | RawArguments | None = None
        self._rules = rules
        self._waiting: list[str] = []

    def is_over(self, call_id: str, name: str, fragment: str) -> bool:
        """Whether a delta that is addressed like this call begins another one."""
        complete = self.arguments is not None and self.arguments.complete
        if call_id and call_id != self.id:
            return complete or bool(self.id and name)
        if call_id or not name or not fragment.strip():
            return False
        return complete or (self._may_be_placeholder() and name != self.name)

    def learn(self, call_id: str, name: str) -> bool:
        """Take id and name; whether that is worth telling.

        The first id stays. A name may come in pieces, and whole again with each delta.
        """
        news = bool(name) and name != self.name and len(self.name) < _NAME_CHARS
        if news:
            self.name = (self.name + name)[:_NAME_CHARS]
        if call_id and not self.id:
            self.id = call_id
            news = news or self.number is not None
        return news

    def feed(self, fragment: str) -> Sequence[Part]:
        if self.arguments is not None:
            return self.arguments.feed(fragment)
        self._wait(fragment)
        nameless = self._rules.functions is not None and not self.name
        too_early = not self._waiting or nameless or self._may_be_placeholder()
        return () if too_early else self.flush()

    def flush(self) -> Sequence[Part]:
        """Read what waits, whatever it may be waiting for."""
        if self.arguments is not None or self.number is None:
            return ()
        self.arguments = self._rules.reader(self.name, self.number)
        fragments = "".join(self._waiting)
        self._waiting.clear()
        return self.arguments.feed(fragments)

    def close(self) -> Sequence[Part]:
        return () if self.arguments is None else self.arguments.close()

    def _wait(self, fragment: str) -> None:
        if not fragment:
            return
        if self._may_be_placeholder() and fragment.lstrip().startswith("{"):
            self._waiting.clear()
        self._waiting.append(fragment)

    def _may_be_placeholder(self) -> bool:
        """A server that must send some arguments early sends `{}` before the real ones."""
        return len(self._waiting) == 1 and self._waiting[0].strip() == _PLACEHOLDER


class ToolCallAccumulator:
    """Parses one reply from its chunks; the first choice alone is followed.

    A delta belongs to the call of its `index` when that is an integer, else to that of its `id`,
    else to the call before. It begins a new call when it brings another id together with a name,
    or when the arguments were complete.

    Call `close` when the stream has ended, by its end mark or without: a finish reason is advice,
    and what follows it is read. A stream is whole if a `Finished` came and `close` did not raise.
    After an error the accumulator stays failed. A call whose arguments were cut by the length
    limit is such an error, `truncated`; the `Finished("length")` before it tells the cause.
    A reply beyond `max_chars` or `MAX_CALLS` is one, too, `too_large`, with the parts that just fitted.

    Args:
        streamed: Names of the top-level fields whose text is wanted as it arrives.
        functions: Names of the functions whose arguments are parsed field by field; those of
            others come as `ArgumentsDelta`. None: all are parsed. With names given, arguments
            wait for a name that is late.
        max_chars: How many characters the reply may have: its text, its refusal, and the ids and
            arguments of all its calls.
        max_depth: How deep they may nest: 1 to 1000.
    """

    def __init__(
        self,
        streamed: Iterable[str] = ("content",),
        *,
        functions: Set[str] | None = None,
        max_chars: int = MAX_CHARS,
        max_depth: int = 512,
    ) -> None:
        self._rules = _Rules(
            streamed=frozenset(streamed),
            functions=None if functions is None else frozenset(functions),
            max_chars=max_chars,
            max_depth=max_depth,
        )
        self._calls: list[_Call] = []  # in the order of their numbers
        self._by_index: dict[int, _Call] = {}
        self._by_id: dict[str, _Call] = {}
        self._current: _Call | None = None
        self._begun = 0
        self._left = max_chars
        self._content = HalfJoiner()
        self._refusal = HalfJoiner()
        self._usage: Usage | None = None
        self._reason = ""
        self._error: ParseError | None = None

    def feed(self, chunk: Mapping[str, object]) -> list[Part]:
        """Take the next chunk, as `chunks.decode_chunk` gives it.

        Returns:
            The parts that became known, in the order of the text; possibly none.

        Raises:
            UpstreamError: The chunk reports an error; the provider's fault.
            ParseError: The arguments of a call are not what they should be, or the reply is
                `too_large`; the model's fault.
        """
        if self._error is not None:
            raise self._error.carrying(())
        parts: list[Part] = []
        try:
            self._take(chunk, parts)
        except ParseError as error:
            self._fail(error, parts)
        if self._left < 0:
            self._fail(ParseError("too_large"), parts)
        return parts

    def close(self) -> list[Part]:
        """Say that the stream has ended.

        Returns:
            What was held back.

        Raises:
            ParseError: `truncated` if the arguments of a call are not complete; the code of the
                error that came before; or an error in what was held back.
        """
        if self._error is not None:
            raise self._error.carrying(())
        parts: list[Part] = []
        try:
            self._end_texts(parts)
            for call in self._calls:
                parts += call.flush()
                parts += call.close()
        except ParseError as error:
            self._fail(error, parts)
        return parts

    def _fail(self, error: ParseError, parts: list[Part]) -> NoReturn:
        self._error = error.carrying(())
        raise error.carrying((*parts, *error.parts)) from error

    def _take(self, chunk: Mapping[str, object], parts: list[Part]) -> None:
        if chunk.get("error"):
            raise read_error(chunk["error"])
        choices = chunk.get("choices")
        if isinstance(choices, list):
            for choice in choices:
                if isinstance(choice, dict) and not choice.get("index"):
                    self._take_choice(choice, parts)
        usage = chunk.get("usage")
        if usage and isinstance(usage, dict):
            self._take_usage(read_usage(usage), parts)

    def _take_usage(self, usage: Usage, parts: list[Part]) -> None:
        if usage != self._usage:
            self._usage = usage
            parts.append(usage)

    def _take_choice(self, choice: Mapping[str, object], parts: list[Part]) -> None:
        delta = choice.get("delta")
        if isinstance(delta, dict):
            self._take_delta(delta, parts)
        reason = choice.get("finish_reason")
        if reason and isinstance(reason, str) and reason != self._reason:
            self._reason = reason
            parts.append(Finished(mend(reason)))

    def _take_delta(self, delta: Mapping[str, object], parts: list[Part]) -> None:
        content = delta.get("content")
        if content and isinstance(content, str) and (text := self._feed(self._content, content)):
            parts.append(TextDelta(text))
        refusal = delta.get("refusal")
        if refusal and isinstance(refusal, str) and (text := self._feed(self._refusal, refusal)):
            parts.append(RefusalDelta(text))
        calls = delta.get("tool_calls")
        if isinstance(calls, list):
            for call in calls:
                if isinstance(call, dict):
                    self._take_call(call, call.get("function"), parts)
        function = delta.get("function_call")  # what tool_calls replaced: one call, no index
        if function:
            self._take_call({}, function, parts)

    def _take_call(self, delta: Mapping[str, object], function: object, parts: list[Part]) -> None:
        index = delta.get("index")
        call_id = _text(delta.get("id"))
        name = fragment = ""
        if isinstance(function, dict):
            name = _text(function.get("name"))
            fragment = _fragment(function.get("arguments"))
        call = self._address(index, call_id)
        if call is None or call_id or name:
            call = self._identify(call, call_id, name, fragment, parts)
            self._remember(call, index, call_id)
        self._current = call
        if fragment and call.number is None:
            self._announce(call, parts)
        self._left -= len(fragment)
        if self._left < 0:
            fragment = fragment[: self._left]
        parts += call.feed(fragment)

    def _identify(
        self, call: _Call | None, call_id: str, name: str, fragment: str, parts: list[Part]
    ) -> _Call:
        """The call that a delta with an id or a name belongs to: the one addressed, or a new one."""
        if call is None or call.is_over(call_id, name, fragment):
            if call is not None:
                parts += call.flush()
            self._begun += 1
            if self._begun > MAX_CALLS:
                raise ParseError("too_large")
            call = _Call(self._rules)
        if call.learn(call_id, name):
            self._announce(call, parts)
        return call

    def _address(self, index: object, call_id: str) -> _Call | None:
        if type(index) is int:
            return self._by_index.get(index)
        return self._by_id.get(call_id, self._current)

    def _remember(self, call: _Call, index: object, call_id: str) -> None:
        if type(index) is int:
            self._by_index[index] = call
        if call_id:
            if call_id not in self._by_id:
                self._left -= len(call_id)
            self._by_id[call_id] = call

    def _announce(self, call: _Call, parts: list[Part]) -> None:
        if call.number is None:
            call.number = len(self._calls)
            self._calls.append(call)
        parts.append(CallStarted(call.number, call.id, call.name))

    def _feed(self, joiner: HalfJoiner, text: str) -> str:
        """Count a text and join it, or what of it does not exceed the limit."""
        self._left -= len(text)
        return joiner.feed(text if self._left >= 0 else text[: self._left])

    def _end_texts(self, parts: list[Part]) -> None:
        if text := self._content.close():
            parts.append(TextDelta(text))
        if text := self._refusal.close():
            parts.append(RefusalDelta(text))


def _text(value: object) -> str:
    return mend(value) if value and isinstance(value, str) else ""


def _fragment(arguments: object) -> str:
    """The text of arguments, which some servers send decoded."""
    if isinstance(arguments, str):
        return arguments
    if arguments is None:
        return ""
    try:
        return json.dumps(arguments)
    except RecursionError as exc:
        raise ParseError("too_deep") from exc

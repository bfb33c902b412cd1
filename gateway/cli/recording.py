"""Recorded run logs: one JSON line an event, with its time, and a model that plays one again.

A line is `{"after_ms": N, "event": {...}}`: the event came N milliseconds after the one before.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import orjson
from pydantic import TypeAdapter, ValidationError

from gateway.cli.failure import CommandFailedError
from gateway.wire.events import (
    AnyEvent,
    Category,
    ContentDelta,
    ContentDone,
    Done,
    Emotion,
    MemoryNoted,
    Started,
    ToolCallDelta,
    UsageReported,
)
from streaming.models.chat_model import ModelRequest
from streaming.models.errors import ModelTimeoutError, ModelUnavailableError
from streaming.parts import (
    ArgumentsDelta,
    CallStarted,
    FieldDelta,
    FieldDone,
    FieldValue,
    Finished,
    Part,
    Usage,
)

_EVENT: TypeAdapter[AnyEvent] = TypeAdapter(AnyEvent)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedEvent:
    """An event and how many seconds it came after the one before."""

    after_s: float
    event: AnyEvent


class Recorder:
    """Writes the events of one run to a file as they come.

    Args:
        path: of the file; what is in it is replaced by each run.
        clock: seconds, never going back.

    Raises:
        CommandFailedError: the file cannot be written. Better now than after the answer.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float]) -> None:
        _check_writable(path)
        self._path = path
        self._clock = clock
        self._lines: list[bytes] = []
        self._latest = 0.0

    def add(self, event: dict[str, object]) -> None:
        """Note an event; at the terminal one the file is written.

        Raises:
            CommandFailedError: it cannot be written.
        """
        now = self._clock()
        waited = now - self._latest if self._lines else 0.0
        self._latest = now
        self._lines.append(orjson.dumps({"after_ms": round(waited * 1000), "event": event}))
        if event.get("type") == "done":
            self._write()

    def drop(self) -> None:
        """Forget what was noted of a run that cannot be recorded whole."""
        self._lines.clear()

    def _write(self) -> None:
        try:
            self._path.write_bytes(b"\n".join(self._lines) + b"\n")
        except OSError as exc:
            raise CommandFailedError(f"{self._path}: {exc.strerror}") from None
        self._lines.clear()


def _check_writable(path: Path) -> None:
    """Try to write a file, and leave things as they are: a recording is replaced by a whole one only."""
    try:
        was_there = path.exists()
        if not was_there or path.is_file():  # opening a pipe would wait for its reader
            path.open("ab").close()
        if not was_there:
            path.unlink()
    except OSError as exc:
        raise CommandFailedError(f"{path}: {exc.strerror}") from None


def read_recording(path: Path) -> list[RecordedEvent]:
    """Read a recording.

    Raises:
        CommandFailedError: the file cannot be read or is no recording; names the line.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as exc:
        raise CommandFailedError(f"{path}: {exc.strerror}") from None
    events = [_read_line(path, number, line) for number, line in enumerate(lines, 1)]
    if not events or not isinstance(events[-1].event, Done):
        raise CommandFailedError(f"{path}: does not end with `done`, so it is no whole recording")
    return events


def _read_line(path: Path, number: int, line: bytes) -> RecordedEvent:
    try:
        fields = orjson.loads(line)
        return RecordedEvent(
            after_s=max(0.0, float(fields["after_ms"])) / 1000,
            event=_EVENT.validate_python(fields["event"]),
        )
    except (orjson.JSONDecodeError, ValidationError, KeyError, TypeError, ValueError):
        raise CommandFailedError(f"{path}, line {number}: not a recorded event") from None


class RecordedModel:
    """Answers every request with the same recorded run. Implements `ChatModel`; holds nothing open.

    Args:
        recording: the events, the last one terminal.
        speed: how many times faster than recorded; 0 for no pauses.
        sleep: waits that many seconds.
    """

    name = "recorded"

    def __init__(
        self,
        recording: Iterable[RecordedEvent],
        *,
        speed: float = 1.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._recording = tuple(recording)
        self._speed = speed
        self._sleep = sleep

    async def stream(self, request: ModelRequest) -> AsyncGenerator[list[Part], None]:
        """See `ChatModel.stream`."""
        del request
        for recorded in self._recording:
            if self._speed and recorded.after_s:
                await self._sleep(recorded.after_s / self._speed)
            parts = parts_of(recorded.event)
            if parts:
                yield parts

    async def aclose(self) -> None:
        """See `ChatModel.aclose`."""


def parts_of(event: AnyEvent) -> list[Part]:
    """Return the parts that bring this event about.

    Raises:
        ModelError: the run ended early, as recorded.
    """
    match event:
        case ContentDelta(text=text):
            return [FieldDelta("content", text)]
        case ContentDone():
            return [FieldDone("content")]
        case Emotion(value=value) | Category(value=value) | MemoryNoted(value=value):
            return [FieldValue(event.type, value)]
        case UsageReported(estimated=True):
            return []
        case UsageReported(prompt_tokens=prompt, completion_tokens=completion):
            return [Usage(prompt, completion, prompt + completion)]
        case Done():
            return _end(event)
        case ToolCallDelta(call=call, name=name, arguments=arguments):
            began: list[Part] = [CallStarted(call, "", name)] if name else []
            return [*began, ArgumentsDelta(call, arguments)] if arguments else began
        case Started():
            return []  # the gateway makes its own, as it makes its own estimates


def _end(done: Done) -> list[Part]:
    match done.reason:
        case "stop":
            return [Finished("stop")]
        case "length":
            return [Finished("length")]
        case "filtered":
            return [Finished("content_filter")]
        case "timeout":
            phase = done.error.phase if done.error and done.error.phase else "total"
            raise ModelTimeoutError(phase)
        case "cancelled" | "interrupted" | "error":
            raise ModelUnavailableError(f"recorded as {done.reason}")

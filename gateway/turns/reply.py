"""The reply: what the model is made to fill in, and what its parts mean to the user.

The function's schema is generated from `Reply`, content first, so that the words stream before the
rest is decided.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, assert_never

from pydantic import BaseModel, ConfigDict, Field, create_model

from gateway.wire.events import (
    Category,
    ContentDone,
    Emotion,
    Event,
    MemoryNoted,
    ToolCallDelta,
    content_delta,
)
from streaming.models.chat_model import Function
from streaming.parts import (
    ArgumentsDelta,
    CallStarted,
    FieldDelta,
    FieldDone,
    FieldValue,
    Finished,
    Part,
    RefusalDelta,
    TextDelta,
    Usage,
)

FUNCTION_NAME = "reply"

MEMORY_BYTES_MAX = 4_096
"""A longer memory is cut, between code points: its event fits a frame even where no blob can be kept."""

NAME_CHARACTERS_MAX = 64
"""A longer name of a function is cut; providers allow no more."""

MERGED_CHARACTERS = 2_000
"""What one read brings is merged into deltas of about this length: 8 KB at most, whatever the script."""

log = logging.getLogger(__name__)


class Reply(BaseModel):
    """Answer the user."""

    model_config = ConfigDict(extra="forbid")

    content: Annotated[str, Field(description="What you say to the user, in their language.")]
    emotion: Annotated[str, Field(description="The emotion you say it with.")]
    category: Annotated[str, Field(description="What the exchange is about.")]
    memory: Annotated[
        str | None,
        Field(
            description="One lasting fact about the user worth remembering, as a short sentence; "
            "null if there is none."
        ),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyShape:
    """The values that a reply may take; the first of each is the default.

    Attributes:
        emotions: at least one.
        categories: at least one.
    """

    emotions: tuple[str, ...]
    categories: tuple[str, ...]

    def function(self) -> Function:
        """Return the function that a model is made to call, its schema generated from `Reply`."""
        narrowed = create_model(
            "Reply",
            __base__=Reply,
            emotion=_one_of(self.emotions, "emotion"),
            category=_one_of(self.categories, "category"),
        )
        schema = narrowed.model_json_schema()
        schema.pop("description", None)
        order = list(Reply.model_fields)
        schema["properties"] = {name: schema["properties"][name] for name in order}
        schema["required"] = order
        return Function(name=FUNCTION_NAME, description=Reply.__doc__ or "", parameters=schema)


def _one_of(values: tuple[str, ...], field: str) -> Any:
    description = Reply.model_fields[field].description
    return (Literal[values], Field(description=description))


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What is known of a reply, to be stored with its end; perhaps only a part of it.

    Attributes:
        memories: values by memory id.
    """

    content: str = ""
    emotion: str | None = None
    category: str | None = None
    memories: Mapping[str, str] = field(default_factory=dict)


class ReplyWriter:
    """Turns the parts of one reply into events, and gathers what will be stored. Pure but for logs.

    The first call of the reply function is the reply; a second one is ignored, never glued to it.
    Plain text is a valid reply; text before a call is kept apart from the call's by a blank line, text
    behind the end of its content is ignored.

    Args:
        shape: the allowed values.
        new_memory_id: makes the id of a memory.
    """

    def __init__(self, shape: ReplyShape, *, new_memory_id: Callable[[], str]) -> None:
        self._shape = shape
        self._new_memory_id = new_memory_id
        self._content: list[str] = []
        self._unsent: list[str] = []
        self._unsent_characters = 0
        self._source: int | Literal["text"] | None = None
        self._reply_call: int | None = None
        self._names: dict[int, str] = {}
        self._content_done = False
        self._emotion: str | None = None
        self._category: str | None = None
        self._memories: dict[str, str] = {}
        self._logged: set[str] = set()
        self.usage: Usage | None = None
        self.finish_reason: str | None = None

    @property
    def draft(self) -> Draft:
        """The reply so far."""
        return Draft(
            content="".join(self._content),
            emotion=self._emotion,
            category=self._category,
            memories=dict(self._memories),
        )

    def read(self, parts: Sequence[Part]) -> list[bytes]:
        """Return the events that these parts bring, encoded; text that stands together as one."""
        events: list[bytes] = []
        for part in parts:
            for event in self._meaning(part):
                self._flush(events)
                events.append(event.encode())
            if self._unsent_characters >= MERGED_CHARACTERS:
                self._flush(events)
        self._flush(events)
        return events

    def close(self) -> list[bytes]:
        """Return what a whole reply still owes: the end of its text and the defaults."""
        owed: list[Event] = []
        if not self._content_done:
            owed.append(ContentDone())
        if self._emotion is None:
            owed.extend(self._choose("emotion", None))
        if self._category is None:
            owed.extend(self._choose("category", None))
        self._content_done = True
        return [event.encode() for event in owed]

    def _flush(self, events: list[bytes]) -> None:
        if self._unsent:
            events.append(content_delta("".join(self._unsent)))
            self._unsent.clear()
            self._unsent_characters = 0

    def _meaning(self, part: Part) -> list[Event]:
        match part:
            case FieldDelta(name="content", text=text, call=call) if self._is_reply(call):
                self._say(text, call)
            case FieldDone(name="content", call=call) if self._is_reply(call):
                return self._said_all()
            case FieldValue(name=name, value=value, call=call) if self._is_reply(call):
                return self._field(name, value, call)
            case FieldDelta() | FieldDone() | FieldValue():
                pass
            case TextDelta(text=text) | RefusalDelta(text=text):
                self._say(text, "text")
            case CallStarted(call=call, name=name):
                self._call_started(call, name)
            case ArgumentsDelta(call=call, text=text):
                return [
                    ToolCallDelta(
                        call=call, name=self._names.pop(call, None) or None, arguments=text
                    )
                ]
            case Usage():
                self.usage = part
            case Finished(reason=reason):
                self.finish_reason = reason
            case _:
                assert_never(part)
        return []

    def _is_reply(self, call: int) -> bool:
        if self._reply_call is None:
            self._reply_call = call
        return self._reply_call == call

    def _call_started(self, call: int, name: str) -> None:
        self._names[call] = name[:NAME_CHARACTERS_MAX]
        if name == FUNCTION_NAME and self._reply_call not in {None, call}:
            log.warning("second reply call ignored", extra={"call": call})

    def _say(self, text: str, source: int | Literal["text"]) -> None:
        if self._source != source:
            if source == "text" and not text.strip():
                return
            self._source = source
            if self._content_done:
                self._log_once(logging.WARNING, "text behind the end of a reply ignored")
            elif self._content:
                text = f"\n\n{text}"
        if not self._content_done:
            self._content.append(text)
            self._unsent.append(text)
            self._unsent_characters += len(text)

    def _said_all(self) -> list[Event]:
        if not self._content:  # words may still come beside the call; `close` ends them
            return []
        self._content_done = True
        return [ContentDone()]

    def _field(self, name: str, value: object, call: int) -> list[Event]:
        match name:
            case "content":
                if value is not None:
                    self._say(value if isinstance(value, str) else _as_text(value), call)
                return self._said_all()
            case "emotion" | "category":
                return self._choose(name, value)
            case "memory":
                return self._remember(value)
        self._log_once(logging.INFO, "unknown field of a reply ignored")
        return []

    def _log_once(self, level: int, message: str) -> None:
        """Log what a model may do with every fragment, but not as often."""
        if message not in self._logged:
            self._logged.add(message)
            log.log(level, message)

    def _choose(self, name: Literal["emotion", "category"], value: object) -> list[Event]:
        allowed = self._shape.emotions if name == "emotion" else self._shape.categories
        chosen = value if isinstance(value, str) and value in allowed else allowed[0]
        if value is not None and chosen != value:
            log.warning("unknown value replaced by the default", extra={"field": name})
        if name == "emotion":
            self._emotion = chosen
            return [Emotion(value=chosen)]
        self._category = chosen
        return [Category(value=chosen)]

    def _remember(self, value: object) -> list[Event]:
        if not isinstance(value, str) or not value.strip():
            return []
        fact = value.strip().encode()[:MEMORY_BYTES_MAX].decode(errors="ignore")
        memory_id = self._new_memory_id()
        self._memories[memory_id] = fact
        return [MemoryNoted(memory_id=memory_id, value=fact)]


def _as_text(value: object) -> str:
    """Return the JSON of a value that should have been text. orjson nests no more than 254 deep."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

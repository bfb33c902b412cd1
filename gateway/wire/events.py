"""The events of a run, in past tense or as deltas: what its log holds, numbered from 1.

Content deltas are by far the most frequent, and the first text waits for `started`: the bytes of these two
are built without a model.
"""

from typing import Annotated, Final, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

from gateway.wire.errors import ErrorCode

DoneReason = Literal["stop", "length", "filtered", "cancelled", "timeout", "interrupted", "error"]


class Event(BaseModel):
    """Root of the events."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def encode(self) -> bytes:
        """Return the event as JSON; absent optional fields are left out."""
        return self.model_dump_json(exclude_none=True).encode()


class Started(Event):
    """The run's first event, number 1.

    Attributes:
        id: of the `send` or `regenerate`.
        session_id: where it answers.
        message_id: of the user's message.
        reply_id: what the reply will be stored under.
        model: who is asked for the reply, as the provider calls it; absent if nobody is.
    """

    type: Literal["started"] = "started"
    id: str
    session_id: str
    message_id: str
    reply_id: str
    model: str | None = None


class ContentDelta(Event):
    """Text to append to the reply.

    Attributes:
        text: never empty, never cut inside a code point.
    """

    type: Literal["content.delta"] = "content.delta"
    text: str


class ContentDone(Event):
    """The reply's text is complete."""

    type: Literal["content.done"] = "content.done"


class Emotion(Event):
    """How the reply is meant.

    Attributes:
        value: one of the values that the server is configured with.
    """

    type: Literal["emotion"] = "emotion"
    value: str


class Category(Event):
    """What the reply is about.

    Attributes:
        value: one of the values that the server is configured with.
    """

    type: Literal["category"] = "category"
    value: str


class MemoryNoted(Event):
    """A fact about the user that will be remembered once the run is saved.

    Attributes:
        memory_id: what it will be stored under.
        value: the fact, a short sentence.
    """

    type: Literal["memory"] = "memory"
    memory_id: str
    value: str


class ToolCallDelta(Event):
    """A fragment of a call that the model makes to another function than the reply's.

    It is passed on and never executed here.

    Attributes:
        call: tells the calls of one run apart.
        name: the function's name, with the first fragment.
        arguments: text to append to the call's arguments, a JSON document when complete.
    """

    type: Literal["tool_call.delta"] = "tool_call.delta"
    call: int
    name: str | None = None
    arguments: str = ""


class UsageReported(Event):
    """What the run cost.

    Attributes:
        model: who answered, as the provider calls it.
        prompt_tokens: tokens read.
        completion_tokens: tokens written.
        estimated: true where the provider has not said.
    """

    type: Literal["usage"] = "usage"
    model: str
    prompt_tokens: int
    completion_tokens: int
    estimated: bool | None = None


class RunError(BaseModel):
    """Why a run ended early.

    Attributes:
        code: for programs.
        message: a sentence for people, in English.
        retryable: whether `regenerate` may succeed.
        retry_after_ms: how long to wait before that, if known.
        phase: with `model.timeout`: what took too long.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    code: ErrorCode
    message: str
    retryable: bool
    retry_after_ms: int | None = None
    phase: Literal["first_token", "between_chunks", "total"] | None = None


class Done(Event):
    """The run's last event; nothing follows it.

    Attributes:
        reason: how it ended. `stop` is the only complete reply; `length` and `filtered` are the
            model's, `cancelled` the user's, `timeout`, `interrupted` and `error` nobody's wish.
        message_id: of the reply, the `reply_id` of `started`.
        saved: whether the run's end is stored: the reply, if there is a word of it, and its memories.
        error: what went wrong, with `timeout` and `error`.
    """

    type: Literal["done"] = "done"
    reason: DoneReason
    message_id: str
    saved: bool
    error: RunError | None = None


AnyEvent = Annotated[
    Started
    | ContentDelta
    | ContentDone
    | Emotion
    | Category
    | MemoryNoted
    | ToolCallDelta
    | UsageReported
    | Done,
    Field(discriminator="type"),
]


CONTENT_DELTA_HEAD: Final = b'{"type":"content.delta","text":"'
CONTENT_DELTA_TAIL: Final = b'"}'
"""What stands before and behind the escaped text of every `content.delta`."""


def started(
    *,
    id: str,  # noqa: A002 - the wire's own word
    session_id: str,
    message_id: str,
    reply_id: str,
    model: str | None = None,
) -> bytes:
    """Return the bytes of `Started(...)`, which every turn waits for, without a model's checks."""
    fields = {
        "type": "started",
        "id": id,
        "session_id": session_id,
        "message_id": message_id,
        "reply_id": reply_id,
    }
    return orjson.dumps(fields if model is None else {**fields, "model": model})


def content_delta(text: str) -> bytes:
    """Return the bytes of `ContentDelta(text=text)`. `text` holds no lone surrogate."""
    return b'{"type":"content.delta","text":' + orjson.dumps(text) + b"}"

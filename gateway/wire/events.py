"""The events of a run, in past tense or as deltas: what its log holds, numbered from 1.

Content deltas are by far the most frequent; `content_delta` builds their bytes without a model.
"""

from typing import Annotated, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

from gateway.wire.errors import ErrorCode

DoneReason = Literal["stop", "length", "filtered", "cancelled", "timeout", "interrupted", "error"]


class Event(BaseModel):
    """Root of the events."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def encode(self) -> bytes:
        """Return the event as JSON; absent optional fields are left out."""
        return orjson.dumps(self.model_dump(exclude_none=True))


class Started(Event):
    """Always number 1. `id` is that of the send; `message_id` the user's message; `reply_id` ours."""

    type: Literal["started"] = "started"
    id: str
    session_id: str
    message_id: str
    reply_id: str


class ContentDelta(Event):
    """Text to append to the answer."""

    type: Literal["content.delta"] = "content.delta"
    text: str


class ContentDone(Event):
    """The answer's text is complete."""

    type: Literal["content.done"] = "content.done"


class Emotion(Event):
    """How the answer is meant; one of the configured values."""

    type: Literal["emotion"] = "emotion"
    value: str


class Category(Event):
    """What the answer is about; one of the configured values."""

    type: Literal["category"] = "category"
    value: str


class MemoryNoted(Event):
    """A fact about the user that will be remembered once the run is saved."""

    type: Literal["memory"] = "memory"
    memory_id: str
    value: str


class ToolCallDelta(Event):
    """A fragment of a call to a function other than the reply function; passed on, never executed."""

    type: Literal["tool_call.delta"] = "tool_call.delta"
    call: int
    name: str | None = None
    arguments: str = ""


class UsageReported(Event):
    """What the run cost, in tokens; `estimated` where the provider has not said."""

    type: Literal["usage"] = "usage"
    model: str
    prompt_tokens: int
    completion_tokens: int
    estimated: bool | None = None


class RunError(BaseModel):
    """Why a run ended early. `phase` belongs to `model.timeout`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    code: ErrorCode
    message: str
    retryable: bool
    retry_after_ms: int | None = None
    phase: Literal["first_token", "between_chunks", "total"] | None = None


class Done(Event):
    """Always the last one. `saved` says whether the reply is stored under `message_id`."""

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


def content_delta(text: str) -> bytes:
    """Return the bytes of `ContentDelta(text=text)`. `text` holds no lone surrogate."""
    return b'{"type":"content.delta","text":' + orjson.dumps(text) + b"}"

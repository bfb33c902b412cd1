"""Server to client: everything that is not an event of a run, and the frame that carries events.

Times are Unix time in integer milliseconds, as `Date.now()` gives them.
"""

from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

from gateway.wire.errors import ErrorCode, WireError
from gateway.wire.events import AnyEvent


class Answer(BaseModel):
    """Root of the answers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def encode(self) -> bytes:
        """Return the frame as JSON; absent optional fields are left out."""
        return orjson.dumps(self.model_dump(exclude_none=True))


class Limits(BaseModel):
    """What this user may do. Sizes in UTF-8 bytes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    command_bytes: int
    content_bytes: int
    live_runs: int
    queued_per_session: int


class LiveRun(BaseModel):
    """A run of this user that has not ended: resume it to follow it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run_id: str
    session_id: str
    last_seq: int
    state: Literal["queued", "running"]


class Ready(Answer):
    """The answer to `hello`; nothing else brings it."""

    type: Literal["ready"] = "ready"
    connection_id: str
    connection_expires_at: int
    user_id: str
    tenant_id: str
    tier: str
    limits: Limits
    auth_expires_at: int
    heartbeat_ms: int
    server_time: int
    runs: tuple[LiveRun, ...]


class Accepted(Answer):
    """The message is stored and its run will be carried out; `duplicate` if that was so before."""

    type: Literal["accepted"] = "accepted"
    id: str
    run_id: str
    session_id: str
    message_id: str
    duplicate: bool | None = None


class Events(Answer):
    """Events `first_seq` to `last_seq` of a run; `volatile` if they could not be logged."""

    type: Literal["events"] = "events"
    run_id: str
    first_seq: int
    last_seq: int
    events: tuple[AnyEvent, ...]
    volatile: bool | None = None


class Payload(Answer):
    """The fetched body *is* the frame this stands for; later frames of the same run wait for it.

    `url` is absolute or a path on the socket's own host; `sha256` is the body's hex digest.
    """

    type: Literal["payload"] = "payload"
    of: Literal["events", "page", "error"]
    url: str
    bytes: int
    sha256: str
    expires_at: int
    run_id: str | None = None
    first_seq: int | None = None
    last_seq: int | None = None
    id: str | None = None


class MessageItem(BaseModel):
    """A stored message in a history page. `end` is the reason of the run's `done`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    message_id: str
    session_id: str
    role: Literal["user", "assistant"]
    content: str
    created_at: int
    run_id: str
    reply_to: str | None = None
    emotion: str | None = None
    category: str | None = None
    end: str | None = None


class SessionItem(BaseModel):
    """A session in a page; `active_run` while an answer is under way."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    session_id: str
    title: str
    character: str | None = None
    created_at: int
    updated_at: int
    active_run: str | None = None


class MemoryItem(BaseModel):
    """A memory in a page."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    memory_id: str
    value: str
    created_at: int
    session_id: str


Item = MessageItem | SessionItem | MemoryItem


class Page(Answer):
    """The answer to `history`, `sessions`, `memories`; with one item to `session`; empty to `forget`."""

    type: Literal["page"] = "page"
    id: str
    items: tuple[Item, ...]
    next: str | None = None


class UploadReady(Answer):
    """Where to put the upload: `PUT` the body, or `POST` it as a form with `fields` before the file."""

    type: Literal["upload_ready"] = "upload_ready"
    id: str
    upload_id: str
    url: str
    method: Literal["PUT", "POST"]
    fields: dict[str, str]
    expires_at: int


class Resumed(Answer):
    """The answer to `resume`; the events after `after` follow."""

    type: Literal["resumed"] = "resumed"
    run_id: str
    state: Literal["queued", "running", "ended"]
    last_seq: int


class Notice(Answer):
    """Something worth knowing. `auth.renewed` answers `auth` and carries its `id`."""

    type: Literal["notice"] = "notice"
    kind: Literal["auth.renewed"]
    id: str | None = None
    auth_expires_at: int | None = None


class Pong(Answer):
    """The answer to `ping`."""

    type: Literal["pong"] = "pong"
    t: float | int | None = None
    server_time: int | None = None


class Error(Answer):
    """What went wrong with a command (`id`), a run (`run_id`) or the connection (`fatal`: it closes).

    With `not_resumable`, `stored` is the whole reply as it was saved, if it was.
    """

    type: Literal["error"] = "error"
    code: ErrorCode
    message: str
    retryable: bool
    retry_after_ms: int | None = None
    id: str | None = None
    run_id: str | None = None
    fatal: bool | None = None
    stored: MessageItem | None = None


class GoAway(Answer):
    """The connection will end at `deadline`; open the next one."""

    type: Literal["goaway"] = "goaway"
    reason: Literal["max_age", "deploy", "maintenance"]
    deadline: int


AnyAnswer = Annotated[
    Ready
    | Accepted
    | Events
    | Payload
    | Page
    | UploadReady
    | Resumed
    | Notice
    | Pong
    | Error
    | GoAway,
    Field(discriminator="type"),
]


def error_answer(
    error: WireError,
    *,
    id: str | None = None,  # noqa: A002 - the wire's own word
    run_id: str | None = None,
    fatal: bool | None = None,
    stored: MessageItem | None = None,
) -> Error:
    """Return the frame that tells a client of `error`."""
    return Error(
        code=error.code,
        message=error.public_message,
        retryable=error.retryable,
        retry_after_ms=error.retry_after_ms,
        id=id,
        run_id=run_id,
        fatal=fatal,
        stored=stored,
    )


def milliseconds(seconds: float) -> int:
    """Turn Unix time in seconds, as everything inside has it, into the wire's milliseconds."""
    return int(seconds * 1000)


def http_error(error: WireError, *, request_id: str) -> dict[str, Any]:
    """Return the one body that HTTP errors have."""
    fields = {
        "code": error.code,
        "message": error.public_message,
        "retryable": error.retryable,
        "retry_after_ms": error.retry_after_ms,
        "request_id": request_id,
    }
    return {"error": {name: value for name, value in fields.items() if value is not None}}

"""Server to client: everything that is not an event of a run, and the frame that carries events.

Times are Unix time in integer milliseconds, as `Date.now()` gives them.
"""

from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

from gateway.wire.errors import ErrorCode, WireError
from gateway.wire.events import AnyEvent, DoneReason


class Answer(BaseModel):
    """Root of the answers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def encode(self) -> bytes:
        """Return the frame as JSON; absent optional fields are left out."""
        return self.model_dump_json(exclude_none=True).encode()


class Limits(BaseModel):
    """What this user may do. Sizes in UTF-8 bytes.

    Attributes:
        command_bytes: the longest frame that a client may send.
        content_bytes: the longest text of one message, typed or uploaded.
        live_runs: how many runs of this user may be waiting or under way at once.
        queued_per_session: how many messages may wait behind a session's run.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    command_bytes: int
    content_bytes: int
    live_runs: int
    queued_per_session: int


class LiveRun(BaseModel):
    """A run of this user that has not ended: resume it to follow it.

    Attributes:
        run_id: names the run.
        session_id: the session it answers in.
        last_seq: the number of its latest event so far; 0 for none.
        state: whether its turn has come.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    run_id: str
    session_id: str
    last_seq: int
    state: Literal["queued", "running"]


class Ready(Answer):
    """The connection knows who it serves. It answers `hello`; nothing else brings it.

    Attributes:
        connection_id: names this connection in the server's logs.
        connection_expires_at: when the server will end the connection, whatever happens.
        user_id: who was recognised.
        tenant_id: whose user that is.
        tier: the name of the plan.
        limits: what the plan allows.
        auth_expires_at: when the identity expires; renew it before with `auth`.
        heartbeat_ms: how often to `ping`, in milliseconds.
        server_time: the server's clock, to correct the other times by.
        runs: this user's runs that have not ended, oldest first.
    """

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
    """The message is stored and will be answered, whatever becomes of the connection.

    Attributes:
        id: of the `send` or `regenerate`.
        run_id: names the run that answers.
        session_id: the session, new or old.
        message_id: of the user's message.
        duplicate: true if this `id` was accepted before; nothing was done twice.
    """

    type: Literal["accepted"] = "accepted"
    id: str
    run_id: str
    session_id: str
    message_id: str
    duplicate: bool | None = None


def accepted(
    *,
    id: str,  # noqa: A002 - the wire's own word
    run_id: str,
    session_id: str,
    message_id: str,
    duplicate: bool = False,
) -> bytes:
    """Return the bytes of `Accepted(...)`, which every turn waits for, without a model's checks."""
    fields = {
        "type": "accepted",
        "id": id,
        "run_id": run_id,
        "session_id": session_id,
        "message_id": message_id,
    }
    return orjson.dumps({**fields, "duplicate": True} if duplicate else fields)


class Events(Answer):
    """Some events of a run, in order and whole.

    Attributes:
        run_id: names the run.
        first_seq: the number of the first of `events`; a run's first event is number 1.
        last_seq: the number of the last, `first_seq + events.length - 1`.
        events: at least one.
        volatile: true if they could not be logged: they cannot be replayed, and what is shown may
            not be stored.
    """

    type: Literal["events"] = "events"
    run_id: str
    first_seq: int
    last_seq: int
    events: tuple[AnyEvent, ...]
    volatile: bool | None = None


class Payload(Answer):
    """Stands for a frame that was too large to send: the body behind `url` *is* that frame.

    Attributes:
        of: the `type` of that frame.
        url: where to `GET` the body: absolute, or a path on the socket's own host. It needs no
            credential and works for minutes.
        bytes: the size of the body.
        sha256: the body's digest, 64 lower-case hexadecimal digits.
        expires_at: when `url` stops working.
        run_id: the run it belongs to, for `events` and `error`.
        first_seq: as in the frame it stands for.
        last_seq: as in the frame it stands for.
        id: the command it answers, for `page`.
        volatile: as in `events`; the body, which was stored before, does not say it.
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
    volatile: bool | None = None


class MessageItem(BaseModel):
    """A stored message.

    Attributes:
        message_id: names the message.
        session_id: where it was said.
        role: who said it.
        content: the whole text.
        created_at: when it was stored.
        run_id: the run that the message opened (`user`) or that wrote it (`assistant`).
        reply_to: of a reply, the user's message that it answers.
        emotion: of a reply, if it got so far.
        category: of a reply, if it got so far.
        end: of a reply, the reason of its run's `done`: any but `stop` marks a text that broke off.
    """

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
    end: DoneReason | None = None


class SessionItem(BaseModel):
    """A stored conversation.

    Attributes:
        session_id: names the session.
        title: made from its first message until somebody renames it.
        character: who answers in it, if one was chosen.
        created_at: when its first message was accepted.
        updated_at: when its latest turn was accepted or finished.
        active_run: the run that is queued or running in it now, if any.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    session_id: str
    title: str
    character: str | None = None
    created_at: int
    updated_at: int
    active_run: str | None = None


class MemoryItem(BaseModel):
    """A fact about the user that was worth remembering.

    Attributes:
        memory_id: names the memory.
        value: the fact, a short sentence.
        created_at: when it was stored.
        session_id: where it was said; that session may be gone.
        message_id: of the reply that noted it; that may be gone, or have given way to another.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    memory_id: str
    value: str
    created_at: int
    session_id: str
    message_id: str


Item = MessageItem | SessionItem | MemoryItem


class Page(Answer):
    """Stored things: the answer to `history`, `sessions`, `session`, `memories` and `forget`.

    Attributes:
        id: of the command.
        items: messages, sessions or memories, as asked; possibly none.
        next: give it as `before` to get the page after this one; absent with the last page.
    """

    type: Literal["page"] = "page"
    id: str
    items: tuple[Item, ...]
    next: str | None = None


class UploadReady(Answer):
    """Where to put the body: `PUT` it, or `POST` a form of `fields` and then the body, as `file`.

    Attributes:
        id: of the `upload`.
        upload_id: what the `send` names once the body is there.
        url: absolute, or a path on the socket's own host. It needs no credential.
        method: how to send the body.
        fields: for `POST`, the form's fields before `file`; empty for `PUT`.
        expires_at: when `url` stops working.
    """

    type: Literal["upload_ready"] = "upload_ready"
    id: str
    upload_id: str
    url: str
    method: Literal["PUT", "POST"]
    fields: dict[str, str]
    expires_at: int


class Resumed(Answer):
    """Where a run stands; its events after `after` follow. The answer to `resume`.

    Attributes:
        run_id: names the run.
        state: whether it waits for its turn, is being written, or has ended.
        last_seq: the number of its latest event so far; 0 for none.
    """

    type: Literal["resumed"] = "resumed"
    run_id: str
    state: Literal["queued", "running", "ended"]
    last_seq: int


class Subscribed(Answer):
    """The session is followed: the events of every later run of it come here too.

    Attributes:
        session_id: the session.
        runs: those of its runs that have not ended; their events follow.
    """

    type: Literal["subscribed"] = "subscribed"
    session_id: str
    runs: tuple[LiveRun, ...]


class Unsubscribed(Answer):
    """The session is followed no more.

    Attributes:
        session_id: the session.
    """

    type: Literal["unsubscribed"] = "unsubscribed"
    session_id: str


class Notice(Answer):
    """Something worth knowing. `auth.renewed` answers `auth`; `session.changed` is a hint, unasked.

    Attributes:
        kind: what it is about; ignore one that you do not know.
        id: of the `auth`.
        auth_expires_at: when the new identity expires.
        session_id: with `session.changed`, the session to read again.
    """

    type: Literal["notice"] = "notice"
    kind: Literal["auth.renewed", "session.changed"]
    id: str | None = None
    auth_expires_at: int | None = None
    session_id: str | None = None


class Pong(Answer):
    """The answer to `ping`.

    Attributes:
        t: as it was sent; absent if it was.
        server_time: the server's clock; absent where the platform itself answers.
    """

    type: Literal["pong"] = "pong"
    t: float | int | None = None
    server_time: int | None = None


class Error(Answer):
    """What went wrong with a command (`id`), a run, a session that is followed, or the connection.

    Attributes:
        code: for programs.
        message: a sentence for people, in English.
        retryable: whether the same command may succeed later.
        retry_after_ms: how long to wait before that, if known.
        id: of the command.
        run_id: of the `cancel` or `resume`.
        session_id: of the `subscribe` or `unsubscribe`.
        fatal: true if the server closes the connection after this.
        stored: with `not_resumable`, the whole reply as it was stored, if it was.
    """

    type: Literal["error"] = "error"
    code: ErrorCode
    message: str
    retryable: bool
    retry_after_ms: int | None = None
    id: str | None = None
    run_id: str | None = None
    session_id: str | None = None
    fatal: bool | None = None
    stored: MessageItem | None = None


class GoAway(Answer):
    """The server will end this connection; open the next one.

    Attributes:
        reason: its age, or the end of the server; `maintenance` is reserved, not sent yet.
        deadline: when the connection ends; with `deploy` it may be sooner, when no run is under way.
    """

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
    | Subscribed
    | Unsubscribed
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
    session_id: str | None = None,
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
        session_id=session_id,
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

"""Client to server: the commands, imperative, one class each, and how a frame becomes one."""

import re
from typing import Annotated, Any, Literal, get_args

import orjson
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from gateway.wire.errors import BadRequestError, PayloadTooLargeError, UnsupportedError
from gateway.wire.limits import MESSAGE_BYTES, PAGE_LIMIT_DEFAULT, PAGE_LIMIT_MAX

_CLIENT_ID = r"^[A-Za-z0-9_.:-]{1,64}$"

ClientId = Annotated[str, StringConstraints(pattern=_CLIENT_ID)]
"""An id that the client makes, such as a UUID."""

ServerId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{1,128}$")]
"""An id that the server made."""

Cursor = Annotated[str, StringConstraints(min_length=1, max_length=512)]
Token = Annotated[str, StringConstraints(min_length=1, max_length=16_384)]
Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]

FORBIDDEN_FIELDS = frozenset({"role", "messages", "system", "tools", "model"})
"""The upstream request is built by the server alone; a client that tries is told so."""


class Command(BaseModel):
    """Root of the commands. Unknown fields are ignored, but for `FORBIDDEN_FIELDS`."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


def _one_of(*names: str) -> ConfigDict:
    """Let the schema say of two fields what the class's validator enforces."""
    return ConfigDict(json_schema_extra={"oneOf": [{"required": [name]} for name in names]})


class Hello(Command):
    """The first command of every client; answered by `ready`.

    Attributes:
        token: a JWT, where the handshake proved nothing.
        client: name and version of the program, for the server's log; at most 200 characters.
    """

    type: Literal["hello"]
    token: Token | None = Field(default=None, repr=False)
    client: Annotated[str, StringConstraints(max_length=200)] | None = None


class Auth(Command):
    """Renew the connection's identity in place; answered by `notice`.

    Attributes:
        id: made by the client; comes back in the answer.
        token: a JWT of the same user and tenant.
    """

    type: Literal["auth"]
    id: ClientId
    token: Token = Field(repr=False)


class Send(Command):
    """One user message; answered by `accepted` and the events of a run.

    Exactly one of `content` and `upload_id`.

    Attributes:
        id: made by the client, never used before by this user: the idempotency key.
        session_id: the session to go on with; a new one begins without it.
        content: the text; not blank, at most `limits.content_bytes`.
        upload_id: from `upload_ready`, for a text too long for one frame.
        character: who answers; only with the first message of a session.
        if_busy: while a reply is under way in the session: refuse this with `busy`, let it wait
            behind the others, or stop them first.
    """

    model_config = _one_of("content", "upload_id")

    type: Literal["send"]
    id: ClientId
    session_id: ServerId | None = None
    content: Annotated[str, StringConstraints(min_length=1)] | None = Field(
        default=None, repr=False
    )
    upload_id: ServerId | None = None
    character: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")] | None = None
    if_busy: Literal["reject", "queue", "cancel"] = "reject"

    @model_validator(mode="after")
    def _one_source(self) -> "Send":
        if (self.content is None) == (self.upload_id is None):
            raise ValueError("exactly one of content and upload_id is needed")
        if self.content is not None and not self.content.strip():
            raise ValueError("content is blank")
        return self


class Regenerate(Command):
    """Answer a stored message again; answered like `send`.

    Attributes:
        id: as in `send`, and from the same set: the idempotency key.
        message_id: of the reply to be replaced, or of the user's message.
    """

    type: Literal["regenerate"]
    id: ClientId
    message_id: ServerId


class Cancel(Command):
    """Stop a run. Its `done` is the only answer.

    Exactly one of `run_id` and `id`.

    Attributes:
        run_id: from `accepted`.
        id: of the `send` or `regenerate`, also of one that has not arrived yet.
    """

    model_config = _one_of("run_id", "id")

    type: Literal["cancel"]
    run_id: ServerId | None = None
    id: ClientId | None = None

    @model_validator(mode="after")
    def _one_name(self) -> "Cancel":
        if (self.run_id is None) == (self.id is None):
            raise ValueError("exactly one of run_id and id is needed")
        return self


class Resume(Command):
    """Replay a run and follow it; answered by `resumed` and its events, or by `not_resumable`.

    Attributes:
        run_id: from `accepted`, `started` or `ready.runs`.
        after: the number of the last event that was applied and is not `volatile`; 0 for none.
    """

    type: Literal["resume"]
    run_id: ServerId
    after: Annotated[int, Field(ge=0, le=2**53)]


class Subscribe(Command):
    """Follow a session: get the events of its runs, whichever connection asked for them.

    Answered by `subscribed`, then by the events of the runs that it names, from the first one on. It holds
    until `unsubscribe` or the end of the connection, and is harmless when repeated.

    Attributes:
        session_id: the session to follow.
    """

    type: Literal["subscribe"]
    session_id: ServerId


class Unsubscribe(Command):
    """Follow a session no more; runs that are followed already stay so. Answered by `unsubscribed`.

    Attributes:
        session_id: the session that was followed.
    """

    type: Literal["unsubscribe"]
    session_id: ServerId


class _Paged(Command):
    id: ClientId
    before: Cursor | None = None
    limit: Annotated[int, Field(ge=1, le=PAGE_LIMIT_MAX)] = PAGE_LIMIT_DEFAULT


class History(_Paged):
    """Read a session's messages, newest first; answered by `page`.

    Attributes:
        id: made by the client; comes back in the answer.
        session_id: the session to read.
        before: `next` of the page before this one; the newest items without it.
        limit: how many items at most, 1 to 100; a page may hold fewer though there are more.
    """

    type: Literal["history"]
    session_id: ServerId


class Sessions(_Paged):
    """Read the user's sessions, the most recently used first; answered by `page`.

    Attributes:
        id: made by the client; comes back in the answer.
        before: `next` of the page before this one; the newest items without it.
        limit: how many items at most, 1 to 100; a page may hold fewer though there are more.
    """

    type: Literal["sessions"]


class Session(Command):
    """Read one session, or rename it; answered by a `page` with that session as it is now.

    Attributes:
        id: made by the client; comes back in the answer.
        session_id: the session.
        title: the new title, 1 to 200 characters without the space around it.
    """

    type: Literal["session"]
    id: ClientId
    session_id: ServerId
    title: Title | None = None


class Memories(_Paged):
    """Read what is remembered about the user, newest first; answered by `page`.

    Attributes:
        id: made by the client; comes back in the answer.
        before: `next` of the page before this one; the newest items without it.
        limit: how many items at most, 1 to 100; a page may hold fewer though there are more.
    """

    type: Literal["memories"]


class Forget(Command):
    """Delete a memory, or a session with its messages; answered by an empty `page`.

    Exactly one of `memory_id` and `session_id`.

    Attributes:
        id: made by the client; comes back in the answer.
        memory_id: the memory to delete.
        session_id: the session to delete; memories that came from it stay.
    """

    model_config = _one_of("memory_id", "session_id")

    type: Literal["forget"]
    id: ClientId
    memory_id: ServerId | None = None
    session_id: ServerId | None = None

    @model_validator(mode="after")
    def _one_thing(self) -> "Forget":
        if (self.memory_id is None) == (self.session_id is None):
            raise ValueError("exactly one of memory_id and session_id is needed")
        return self


class Upload(Command):
    """Ask where to put a text too long for one frame; answered by `upload_ready`.

    Attributes:
        id: made by the client; comes back in the answer.
        bytes: the size of the body, the text in UTF-8; at most `limits.content_bytes`.
        sha256: the body's digest, 64 lower-case hexadecimal digits.
    """

    type: Literal["upload"]
    id: ClientId
    bytes: Annotated[int, Field(ge=1, le=2**53)]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Ping(Command):
    """Heartbeat; answered by `pong`.

    Attributes:
        t: any number; comes back in the answer.
    """

    type: Literal["ping"]
    t: float | int | None = None


RunCommand = Send | Regenerate | Cancel | Resume | Subscribe | Unsubscribe
"""Those about runs."""

AccountCommand = History | Sessions | Session | Memories | Forget
"""Those about what is stored of a person."""

OwnedCommand = RunCommand | AccountCommand | Upload
"""Those that only a known user may give."""

AnyCommand = Hello | Auth | OwnedCommand | Ping

COMMAND_TYPES: frozenset[str] = frozenset(
    get_args(command.model_fields["type"].annotation)[0] for command in get_args(AnyCommand)
)

COMMAND_ADAPTER: TypeAdapter[AnyCommand] = TypeAdapter(
    Annotated[AnyCommand, Field(discriminator="type")]
)


def decode(frame: bytes | str) -> AnyCommand:
    """Read one frame.

    Args:
        frame: the text of one WebSocket message, at most `MESSAGE_BYTES` of UTF-8 (hosts refuse single
            frames above `COMMAND_BYTES`); `bytes` stand for a binary one, which is not of the protocol.

    Raises:
        PayloadTooLargeError: it is longer.
        UnsupportedError: its `type` is not known.
        BadRequestError: anything else is wrong with it. `public_message` names at most a field.
    """
    if isinstance(frame, bytes):
        raise BadRequestError("Frames are text.")
    data = frame.encode("utf-8", "surrogatepass")
    if len(data) > MESSAGE_BYTES:
        raise PayloadTooLargeError
    try:
        fields: Any = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise BadRequestError("The message is not valid JSON.") from None
    if not isinstance(fields, dict):
        raise BadRequestError("The message is not a JSON object.")
    kind = fields.get("type")
    if not isinstance(kind, str):
        raise BadRequestError("The message has no type.")
    if kind not in COMMAND_TYPES:
        raise UnsupportedError
    if not FORBIDDEN_FIELDS.isdisjoint(fields):
        raise BadRequestError("A field of the message is not allowed.")
    try:
        return COMMAND_ADAPTER.validate_python(fields)
    except ValidationError as error:
        raise BadRequestError(_what_is_wrong(error)) from None


def client_id(frame: bytes | str) -> str | None:
    """Return the `id` that a bad frame carries, so that its sender can tell which one was refused.

    `None` if there is none, or one that is not an id: what comes back to a page is never more.
    """
    try:
        fields = orjson.loads(frame)
    except orjson.JSONDecodeError:
        return None
    found = fields.get("id") if isinstance(fields, dict) else None
    return found if isinstance(found, str) and re.fullmatch(_CLIENT_ID, found) else None


def _what_is_wrong(error: ValidationError) -> str:
    rows = error.errors(include_url=False, include_input=False)
    rules = [str(row["ctx"]["error"]) for row in rows if row["type"] == "value_error"]
    names = {str(part) for row in rows for part in row["loc"][1:2]}
    return f"Not valid: {', '.join(rules or sorted(names & _FIELD_NAMES))}."


_FIELD_NAMES = frozenset(name for command in get_args(AnyCommand) for name in command.model_fields)

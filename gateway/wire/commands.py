"""Client to server: the commands, imperative, one class each, and how a frame becomes one."""

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
from gateway.wire.limits import COMMAND_BYTES, PAGE_LIMIT_DEFAULT, PAGE_LIMIT_MAX

ClientId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")]
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


class Hello(Command):
    """The first command of every client; answered by `ready`."""

    type: Literal["hello"]
    token: Token | None = None
    client: Annotated[str, StringConstraints(max_length=200)] | None = None


class Auth(Command):
    """Renew the connection's identity in place; same user and tenant only."""

    type: Literal["auth"]
    id: ClientId
    token: Token


class Send(Command):
    """One user message; `id` is the idempotency key. Exactly one of `content` and `upload_id`."""

    type: Literal["send"]
    id: ClientId
    session_id: ServerId | None = None
    content: Annotated[str, StringConstraints(min_length=1)] | None = None
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
    """Answer a stored message again; `message_id` is that of the reply or of the user's message."""

    type: Literal["regenerate"]
    id: ClientId
    message_id: ServerId


class Cancel(Command):
    """Stop a run, named by `run_id` or by the `id` of its send (also one not seen yet)."""

    type: Literal["cancel"]
    run_id: ServerId | None = None
    id: ClientId | None = None

    @model_validator(mode="after")
    def _one_name(self) -> "Cancel":
        if (self.run_id is None) == (self.id is None):
            raise ValueError("exactly one of run_id and id is needed")
        return self


class Resume(Command):
    """Replay a run from the event after `after`, then follow it live."""

    type: Literal["resume"]
    run_id: ServerId
    after: Annotated[int, Field(ge=0, le=2**53)]


class _Paged(Command):
    id: ClientId
    before: Cursor | None = None
    limit: Annotated[int, Field(ge=1, le=PAGE_LIMIT_MAX)] = PAGE_LIMIT_DEFAULT


class History(_Paged):
    """A page of a session's messages, newest first."""

    type: Literal["history"]
    session_id: ServerId


class Sessions(_Paged):
    """A page of the user's sessions, the most recently used first."""

    type: Literal["sessions"]


class Session(Command):
    """Read one session, or rename it when `title` is given."""

    type: Literal["session"]
    id: ClientId
    session_id: ServerId
    title: Title | None = None


class Memories(_Paged):
    """A page of what is remembered about the user, newest first."""

    type: Literal["memories"]


class Forget(Command):
    """Delete one memory, or one session with its messages."""

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
    """Ask where to put a text too long for one frame; `sha256` is its hex digest."""

    type: Literal["upload"]
    id: ClientId
    bytes: Annotated[int, Field(ge=1)]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Ping(Command):
    """Heartbeat; `t` comes back as it is."""

    type: Literal["ping"]
    t: float | int | None = None


AnyCommand = (
    Hello
    | Auth
    | Send
    | Regenerate
    | Cancel
    | Resume
    | History
    | Sessions
    | Session
    | Memories
    | Forget
    | Upload
    | Ping
)

COMMAND_TYPES: frozenset[str] = frozenset(
    get_args(command.model_fields["type"].annotation)[0] for command in get_args(AnyCommand)
)

COMMAND_ADAPTER: TypeAdapter[AnyCommand] = TypeAdapter(
    Annotated[AnyCommand, Field(discriminator="type")]
)


def decode(frame: bytes | str) -> AnyCommand:
    """Read one frame.

    Args:
        frame: the text of one WebSocket message, at most `COMMAND_BYTES` of UTF-8; `bytes` stand for a
            binary message, which is not of the protocol.

    Raises:
        PayloadTooLargeError: it is longer.
        UnsupportedError: its `type` is not known.
        BadRequestError: anything else is wrong with it. `public_message` names at most a field.
    """
    if isinstance(frame, bytes):
        raise BadRequestError("Frames are text.")
    data = frame.encode("utf-8", "surrogatepass")
    if len(data) > COMMAND_BYTES:
        raise PayloadTooLargeError(
            "A command has at most 32,768 bytes; use upload for longer text."
        )
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
    """Return the `id` that a bad frame carries, so that its sender can tell which one was refused."""
    try:
        fields = orjson.loads(frame)
    except orjson.JSONDecodeError:
        return None
    found = fields.get("id") if isinstance(fields, dict) else None
    return found if isinstance(found, str) and len(found) <= 64 else None


def _what_is_wrong(error: ValidationError) -> str:
    names = {str(part) for row in error.errors(include_input=False) for part in row["loc"][1:2]}
    known = sorted(names & _FIELD_NAMES)
    return f"Not valid: {', '.join(known)}." if known else "The message is not valid."


_FIELD_NAMES = frozenset(name for command in get_args(AnyCommand) for name in command.model_fields)

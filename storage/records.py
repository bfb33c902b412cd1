"""What is kept: plain records, the same for every backend.

All times are Unix time in seconds (float). All ids are opaque text of at most 128 characters; those
made here sort by creation (see `storage.keys`). Text never holds a lone surrogate.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

T = TypeVar("T")

Role = Literal["user", "assistant"]
RunState = Literal["queued", "running", "ended"]
RunKind = Literal["send", "regenerate"]
IfBusy = Literal["reject", "queue", "cancel"]

MAX_QUEUED_RUNS = 4
"""How many runs may wait behind a session's active one."""

MAX_READERS = 8
"""How many connections may read one run of a `SharedStore` at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The person a row belongs to: a user of a tenant."""

    tenant_id: str
    user_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One stored conversation.

    Attributes:
        title: shown in lists; made from the first message until renamed.
        character: who answers; chosen by the first send, `None` for the gateway's default.
        updated_at: when its latest turn was accepted or finished; lists are sorted by it.
        active_run: the run that is queued or running now, if any.
    """

    session_id: str
    title: str
    character: str | None
    created_at: float
    updated_at: float
    active_run: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One stored message of a session.

    Attributes:
        run_id: the run that the message opened (user) or that wrote it (assistant).
        reply_to: for an assistant message, the `message_id` of the user message it answers.
        emotion, category: of an assistant message.
        end: for an assistant message, the reason of the run's `done`; partial text is marked by it.
    """

    message_id: str
    session_id: str
    role: Role
    content: str
    created_at: float
    run_id: str
    reply_to: str | None = None
    emotion: str | None = None
    category: str | None = None
    end: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """One stored fact about a user, with the session and reply it came from."""

    memory_id: str
    value: str
    created_at: float
    session_id: str
    message_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one run cost, in tokens; `estimated` where the provider has not said."""

    model: str
    prompt_tokens: int
    completion_tokens: int
    estimated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReader:
    """A connection that reads a run which another process generates, as HEAD tells that process.

    Attributes:
        after: the number of the last event that it has; 0 for none.
        nonce: fresh with every join, and in their order: a new one moves the cursor to `after`, the same
            one does not.
        auth_expires_at: when its identity was to expire as it joined; nothing is posted to it after that and
            a grace, unless its `Connection` tells that it was renewed.
    """

    connection_id: str
    after: int
    nonce: str
    auth_expires_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """HEAD of one generation of a reply: idempotency key, cancel target and log in one record.

    Attributes:
        run_id: derived from the owner and the client's send id (`storage.keys.run_id`).
        send_id: the client's id of the `send` or `regenerate`.
        request_hash: hex SHA-256 over what was asked; a second accept with another one is a conflict.
        message_id: the user message that is answered.
        reply_id: the id that the reply is stored under.
        claimed_by: random id of the one generation that may write the log; `None` while queued.
        lease_until: until when that generation counts as alive without another word.
        cancel_at: when somebody asked to stop it; `None` if nobody has.
        last_seq: the terminal event's number once ended; before, what the last beat said, or 0.
        log_until: until when the log may be replayed; alone decides it, whatever rows still exist.
        end: the reason of `done` once ended.
        readers: who reads it, in a `SharedStore`; elsewhere the process itself knows.
    """

    run_id: str
    send_id: str
    kind: RunKind
    request_hash: str
    session_id: str
    message_id: str
    reply_id: str
    created_at: float
    log_until: float
    state: RunState = "queued"
    claimed_by: str | None = None
    lease_until: float = 0.0
    cancel_at: float | None = None
    last_seq: int = 0
    end: str | None = None
    readers: tuple[RunReader, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobRef:
    """Where a spilled body lies and what it must be: its store key, size in bytes and hex SHA-256."""

    key: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One slot of a run's log: the events numbered `first` to `last`.

    Attributes:
        body: the encoded events joined by newlines (JSON text holds no raw one); empty with `blob`.
        blob: for a single event too large for a frame, where its frame lies (claim check).
    """

    run_id: str
    first: int
    last: int
    body: bytes
    blob: BlobRef | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """One blob with its owner, for uploads and spilled frames.

    Attributes:
        kind: `upload` (client to server) or `spill` (server to client).
        expires_at: after it the row and the blob may be purged.
    """

    payload_id: str
    kind: Literal["upload", "spill"]
    ref: BlobRef
    created_at: float
    expires_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """A single-use stand-in for a token at the handshake, stored under its SHA-256.

    Attributes:
        ticket_hash: hex SHA-256 of the ticket's text; the text itself is never stored.
        issuer: of the token that bought it.
        auth_expires_at: when that token expires; the connection's identity does too.
        expires_at: until when it may be redeemed (60 s after issue).
    """

    ticket_hash: str
    owner: Owner
    issuer: str
    auth_expires_at: float
    expires_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyDocument:
    """What an issuer's JWKS URL answered, and when it was fetched."""

    url: str
    body: bytes
    fetched_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """One open WebSocket, as later frames need to know it.

    Attributes:
        owner: `None` until a `hello` with a token has identified it.
        issuer: of the token it was identified by; empty until then.
        auth_expires_at: when its identity expires; while unidentified 0, or when the token that it
            came with was found to have expired.
        expires_at: when the platform closes it, whatever happens.
    """

    connection_id: str
    owner: Owner | None
    issuer: str
    auth_expires_at: float
    opened_at: float
    expires_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Room(Generic[T]):
    """How many bytes a page may hold; a first row that is larger still is a page of its own.

    Attributes:
        max_bytes: of its rows together.
        size: bytes that a row takes; called wherever the backend reads, which may be another thread.
    """

    max_bytes: int
    size: Callable[[T], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """One page of rows, newest first; `next` is the opaque cursor of the page after it, if any."""

    items: tuple[T, ...]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a host that generates replies itself adds to an accept, to save the round trips after it.

    Attributes:
        claimed_by, lease_until: as for `Runs.claim`.
        history_bytes, memories_bytes: how much of the context to read, UTF-8 bytes of content.
    """

    claimed_by: str
    lease_until: float
    history_bytes: int
    memories_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a reply is written from.

    Attributes:
        character: of the session.
        asked: the user's message.
        earlier: as `Messages.turns_before` returns it.
        memories: as `Memories.newest` returns it.
    """

    character: str | None
    asked: Message
    earlier: Sequence[Message]
    memories: Sequence[Memory]


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """All that `accept` stores in one transaction.

    Attributes:
        run: queued, as it shall be stored.
        message: the user's message; `None` for a regenerate, which answers a stored one.
        new_session: the session to create; `None` if `run.session_id` must exist already.
        if_busy: what to do when the session has an active run.
        claim: claims the run at once, unless another one is ahead of it or it is to be cancelled.
        reader: the connection that asked, for a `SharedStore` to keep in HEAD.
    """

    run: Run
    message: Message | None
    new_session: Session | None
    if_busy: IfBusy
    claim: Claim | None = None
    reader: RunReader | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The turn is stored.

    Attributes:
        run: as stored; its `cancel_at` may be set by a cancel that overtook it.
        ahead: the session's active and queued runs before this one; empty: start it now.
        context: what to answer from, if the run was claimed at once.
    """

    run: Run
    ahead: tuple[str, ...]
    context: Context | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicate:
    """The same request was accepted before; nothing was stored."""

    run: Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Nothing was stored.

    Attributes:
        why: `conflict` (same id, other content), `busy` (active run, or a full queue), `not_found`
            (no such session of this owner).
    """

    why: Literal["conflict", "busy", "not_found"]


AcceptOutcome = Accepted | Duplicate | Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """All that `finish` stores in one transaction.

    Attributes:
        claimed_by: who finishes; must own the run.
        terminal: the last entry of the log; its last event is `done`.
        reply: the assistant's message, also when partial; `None` when there is not a word to keep.
            An older reply to the same user message stays stored but leaves the history.
        log_until: until when the whole log may be replayed.
    """

    run_id: str
    claimed_by: str
    end: str
    terminal: LogEntry
    reply: Message | None
    memories: tuple[Memory, ...]
    usage: Usage | None
    finished_at: float
    log_until: float

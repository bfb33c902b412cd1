"""The repositories: what the gateway may ask of a backend, in the words of the domain.

A `Store` is one open backend: an `EmbeddedStore` belongs to one process, a `SharedStore` to many.
Everything that belongs to a person is reached through `Store.of(owner)`, which binds each repository to
that owner: another owner's row is the same as one that does not exist. Each verb there touches rows of that
one owner only, so no transaction is wider than an owner's rows. Tickets, connections and key documents are
found by their own keys alone, and each verb on them touches one row. Every coroutine raises
`StorageUnavailableError` when the backend refuses, within 5 seconds, never blocks the event loop, and may
be cancelled at any await; a write that was under way is then either wholly stored or not at all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from storage.blobs.blob_store import BlobStore
from storage.errors import StorageError
from storage.records import (
    Acceptance,
    AcceptOutcome,
    Completion,
    Connection,
    KeyDocument,
    LogEntry,
    Memory,
    Message,
    Owner,
    Page,
    Payload,
    Room,
    Run,
    RunReader,
    Session,
    Ticket,
)

Acknowledge = Callable[[StorageError | None], None]
"""Called once: with `None` when the entry is kept, else with why it is not."""


class Sessions(Protocol):
    """One owner's conversations."""

    async def get(self, session_id: str) -> Session | None:
        """Return the session, or `None`."""
        ...

    async def page(
        self, *, before: str | None, limit: int, room: Room[Session] | None = None
    ) -> Page[Session]:
        """Return up to `limit` sessions that have room, the most recently updated first.

        Raises:
            InvalidCursorError: `before` is not a cursor of such a page.
        """
        ...

    async def rename(self, session_id: str, title: str) -> Session | None:
        """Set the title and return the session as it is now, or `None`."""
        ...

    async def forget(self, session_id: str, *, now: float) -> bool:
        """Delete the session with its messages, runs and logs. False if there is none.

        Memories stay; they are forgotten one by one. So does what its runs have cost. The blobs that its
        ended runs have spilled go, too: now, or with the next `EmbeddedStore.purge`. A run that still writes
        finds itself no longer the owner (`NotRunOwnerError`). The ids of its runs are not accepted again
        before `ttl.FORGOTTEN` is over.
        """
        ...


class Messages(Protocol):
    """One owner's messages."""

    async def get(self, message_id: str) -> Message | None:
        """Return the message, or `None`."""
        ...

    async def page(
        self,
        session_id: str,
        *,
        before: str | None,
        limit: int,
        room: Room[Message] | None = None,
    ) -> Page[Message]:
        """Return up to `limit` messages that have room, newest first.

        A reply stands directly after (in this order: before) the message it answers; of several replies
        to one message it is the newest.

        Raises:
            InvalidCursorError: `before` is not a cursor of such a page.
        """
        ...

    async def turns_before(self, message_id: str, *, max_bytes: int) -> Sequence[Message]:
        """Return what was said in the same session before that user message, oldest first.

        Whole turns only (a user message with its newest reply; one without a stored reply alone):
        backwards from that message for as long as they fit into `max_bytes` of UTF-8 content together.
        Empty if there is no such message.
        """
        ...


class Memories(Protocol):
    """One owner's stored facts. They are added by `Runs.finish`."""

    async def page(
        self, *, before: str | None, limit: int, room: Room[Memory] | None = None
    ) -> Page[Memory]:
        """Return up to `limit` memories that have room, newest first.

        Raises:
            InvalidCursorError: `before` is not a cursor of such a page.
        """
        ...

    async def newest(self, *, max_bytes: int) -> Sequence[Memory]:
        """Return the newest memories, oldest first.

        Backwards from the newest for as long as they fit into `max_bytes` of UTF-8 together.
        """
        ...

    async def forget(self, memory_id: str) -> bool:
        """Delete one. False if there is none."""
        ...


class Runs(Protocol):
    """One owner's runs. A run's log is written and read through `RunLog`."""

    async def accept(self, acceptance: Acceptance) -> AcceptOutcome:
        """Store the user's message, the run and its key in one transaction, exactly once.

        Same `run_id` and `request_hash` again: `Duplicate`, whatever else has changed since;
        `Refused` as `not_found` if its session was forgotten. A cancel that came first is kept in the
        stored run. With an active run in the session, `if_busy` decides; `cancel` stores like `queue`
        (the caller then cancels `ahead`). A backend that cannot carry out `Acceptance.claim` in the
        same transaction leaves the run queued.
        """
        ...

    async def get(self, run_id: str) -> Run | None:
        """Return the run, or `None` (also for a mere cancel tombstone)."""
        ...

    async def live(self) -> Sequence[Run]:
        """Return this owner's queued and running runs, oldest first (bounded to 100).

        Where processes with clocks of their own accept, those of one session may stand in another order
        than they were accepted in: which is the first, `Session.active_run` says.
        """
        ...

    async def claim(self, run_id: str, *, claimed_by: str, lease_until: float) -> Run:
        """Make a queued run ours to generate, once and for all; claiming it again as ourselves is fine.

        Only the first run of its session that has not ended can be claimed, or one that was cancelled,
        to end it.

        Args:
            run_id: of a queued run.
            claimed_by: a fresh random id of this one generation.
            lease_until: when others may take it over, unless a beat has said more by then. In an
                `EmbeddedStore` nothing beats: there are no others, and opening it ends every lease.

        Returns:
            The run as it is now; look at `cancel_at` before calling a model.

        Raises:
            NotRunOwnerError: it is not queued, not its turn, or unknown.
        """
        ...

    async def take_over(self, run_id: str, *, claimed_by: str, now: float) -> Run:
        """Become the owner of a running run whose lease is over, only to end it (seal), never to generate.

        Returns:
            The run as it is now.

        Raises:
            NotRunOwnerError: it is not running, or its lease still lives.
        """
        ...

    async def cancel(self, run_id: str, *, now: float) -> Run | None:
        """Remember that the run shall stop; the first such time is kept.

        Returns:
            The run, or `None` if it is not known (yet): then a tombstone is kept for an hour, and an
            accept of that `run_id` finds it.
        """
        ...

    async def finish(self, completion: Completion) -> Run | None:
        """Store the end of a run in one transaction, durably, and free its session.

        Returns:
            The session's next queued run, to be started now, or `None`.

        Raises:
            NotRunOwnerError: the run is not running as `claimed_by`; nothing was stored. A repeat of a
                finish that was stored already by the same claim is not an error.
            LogSlotTakenError: `terminal` is not the next entry of the log; nothing was stored.
        """
        ...


class Payloads(Protocol):
    """One owner's blobs."""

    async def reserve(self, payload: Payload) -> None:
        """Store the row, before its blob is written or its upload is signed."""
        ...

    async def get(self, payload_id: str) -> Payload | None:
        """Return the row, or `None` if there is none or it has expired."""
        ...


class RunLog(Protocol):
    """The append-only logs of one owner's runs. Slot `first` of a run can be created only once."""

    def append(self, entry: LogEntry, *, claimed_by: str, acknowledge: Acknowledge) -> None:
        """Create the next slot; returns at once.

        `acknowledge` is called later, never from inside this call, in the order of the appends of one
        run; only what was acknowledged may be posted. It gets `LogSlotTakenError` if the slot is not
        free, `NotRunOwnerError` if the run is not ours, `StorageUnavailableError` if it cannot be kept, also
        because an entry before it was not. The same slot again from its owner is kept already: success.
        """
        ...

    async def read(self, run_id: str, *, after: int) -> Sequence[LogEntry]:
        """Return the acknowledged entries that hold events numbered above `after`, in order.

        Live and ended runs alike; empty if there is nothing, or no such run of this owner.
        """
        ...


class Tickets(Protocol):
    """Single-use handshake tickets."""

    async def issue(self, ticket: Ticket) -> None:
        """Store a ticket, whose hash is fresh: what has been redeemed is not issued again."""
        ...

    async def find(self, ticket_hash: str, *, now: float) -> Ticket | None:
        """Return the ticket and leave it, if it would still be given to who redeems it."""
        ...

    async def redeem(self, ticket_hash: str, *, now: float) -> Ticket | None:
        """Take the ticket out of the store: to one caller only, and only before it expires."""
        ...


class Connections(Protocol):
    """The open connections."""

    async def save(self, connection: Connection) -> None:
        """Store a connection as it is now: opened, identified or renewed."""
        ...

    async def get(self, connection_id: str) -> Connection | None:
        """Return the connection, or `None` once it is closed or expired."""
        ...

    async def remove(self, connection_id: str) -> None:
        """Forget a closed connection; harmless when repeated."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Repositories:
    """All that one owner may reach."""

    sessions: Sessions
    messages: Messages
    memories: Memories
    runs: Runs
    log: RunLog
    payloads: Payloads


class Store(Protocol):
    """One open backend. Close it with `aclose`, after everything that uses it."""

    @property
    def tickets(self) -> Tickets:
        """Handshake tickets."""
        ...

    @property
    def connections(self) -> Connections:
        """Open connections."""
        ...

    def of(self, owner: Owner) -> Repositories:
        """Return the repositories bound to that owner; cheap, no I/O."""
        ...

    async def aclose(self) -> None:
        """Write out what is pending and close."""
        ...


class EmbeddedStore(Store, Protocol):
    """A backend that lives in the data folder of one process, which alone recovers and purges it."""

    async def unfinished(self) -> Sequence[tuple[Owner, Run]]:
        """Return every run that is not ended: what a restart has to seal or start.

        Oldest first, but those of one session as they were accepted.
        """
        ...

    async def purge(self, blobs: BlobStore, *, now: float, limit: int) -> int:
        """Delete up to `limit` expired rows (logs, tickets, payloads, connections) and their blobs.

        A blob goes before its row, so that none is ever left without one. A blob that cannot be deleted
        stays with its row and stands in nobody's way: it is tried again once all others were.

        Returns:
            How many rows went, or had to stay; less than `limit` means that all were tried.
        """
        ...


class SharedRuns(Runs, Protocol):
    """One owner's runs where another process generates them: HEAD is what the processes share.

    `accept` keeps `Acceptance.reader`, and `get`, `claim` and `beat` bring the readers that HEAD knows.
    """

    async def beat(
        self, run_id: str, *, claimed_by: str, lease_until: float, last_seq: int
    ) -> Run | None:
        """Say that the generation lives and how far its log is.

        Returns:
            The run as it is now, with its `cancel_at` and readers; `None` if there is no such run any
            more (its session was forgotten).

        Raises:
            NotRunOwnerError: it is not running as `claimed_by`: stop, post nothing more.
        """
        ...

    async def join(self, run_id: str, reader: RunReader, *, now: float) -> Run | None:
        """Ask the generation of a run to post to that connection too.

        It does so only while the run is queued, or runs with a living lease; a second time moves the
        reader's cursor. At most `MAX_READERS` connections read one run. While it is queued nothing is
        posted, which would tell who of them is gone: there the one that joined first gives way.

        Returns:
            The run as it is now, or `None` if there is none. The connection reads it if it is among
            its `readers`; otherwise look at its state and lease.
        """
        ...

    async def leave(self, run_id: str, connection_id: str, *, nonce: str) -> None:
        """Forget a reader that joined with that nonce; harmless when it is none, or has joined again."""
        ...


class Subscribers(Protocol):
    """The connections that follow whole sessions of one owner, for whoever generates a run of them."""

    async def add(self, session_id: str, reader: RunReader, *, expires_at: float) -> None:
        """Store a subscriber, also of a session that does not exist; again: in place of the first.

        Args:
            session_id: of the session.
            reader: the connection, as HEAD of each later run shall know it.
            expires_at: when the platform closes the connection, Unix time in seconds.
        """
        ...

    async def remove(self, session_id: str, connection_id: str) -> None:
        """Forget a subscriber; harmless when it is none."""
        ...

    async def of(self, session_id: str, *, now: float) -> Sequence[RunReader]:
        """Return those whose connection has not expired, of more than `MAX_READERS` the newest.

        Their identities may be over, or renewed since.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedRepositories(Repositories):
    """All that one owner may reach, in a `SharedStore`."""

    runs: SharedRuns
    subscribers: Subscribers


class KeyDocuments(Protocol):
    """The key documents (JWKS) that were fetched last, so that a new process need not ask again."""

    async def get(self, url: str) -> KeyDocument | None:
        """Return the document of that URL as it was last stored, or `None`."""
        ...

    async def put(self, document: KeyDocument) -> None:
        """Store a document that was just fetched, unless one that was fetched later is stored.

        One that is dated more than a minute later has its time from a clock that is wrong: it gives way.
        """
        ...


class SharedStore(Store, Protocol):
    """A backend that many processes use at once. Its own means (TTL) delete what has expired."""

    @property
    def keys(self) -> KeyDocuments:
        """Key documents of token issuers."""
        ...

    def of(self, owner: Owner) -> SharedRepositories:
        """Return the repositories bound to that owner; cheap, no I/O."""
        ...

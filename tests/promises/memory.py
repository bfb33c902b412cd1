"""A store in memory, by the rules of the run log: for a virtual clock, where nothing depends on a thread.

The contract suite of storage holds it to the same rules as the backends. Every verb gives way before and
after it takes effect, so that whatever goes on beside it may come in between.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Any, TypeVar

from storage import cursors, ttl
from storage.errors import (
    LogSlotTakenError,
    NotRunOwnerError,
    StorageError,
    StorageUnavailableError,
    UnstorableTextError,
)
from storage.paging import OpenPage
from storage.records import (
    MAX_QUEUED_RUNS,
    MAX_READERS,
    Acceptance,
    Accepted,
    AcceptOutcome,
    Completion,
    Connection,
    Context,
    Duplicate,
    KeyDocument,
    LogEntry,
    Memory,
    Message,
    Owner,
    Page,
    Payload,
    Refused,
    Room,
    Run,
    RunReader,
    Session,
    Ticket,
    Usage,
)
from storage.repositories import Acknowledge, SharedRepositories

T = TypeVar("T")
Key = tuple[Owner, str]


@dataclass(slots=True)
class Backend:
    """All that is stored, for as many stores (processes) as there are."""

    clock: Callable[[], float]
    sessions: dict[Key, Session] = field(default_factory=dict)
    messages: dict[Key, Message] = field(default_factory=dict)
    hidden: set[Key] = field(default_factory=set)
    runs: dict[Key, Run] = field(default_factory=dict)
    lines: defaultdict[Key, list[str]] = field(default_factory=lambda: defaultdict(list))
    logs: defaultdict[Key, list[tuple[str, LogEntry]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    tombstones: dict[Key, float] = field(default_factory=dict)
    forgotten: set[Key] = field(default_factory=set)
    memories: dict[Key, Memory] = field(default_factory=dict)
    usage: dict[Key, Usage] = field(default_factory=dict)
    payloads: dict[Key, Payload] = field(default_factory=dict)
    subscribers: dict[tuple[Owner, str, str], tuple[RunReader, float]] = field(default_factory=dict)
    tickets: dict[str, Ticket] = field(default_factory=dict)
    connections: dict[str, Connection] = field(default_factory=dict)
    documents: dict[str, KeyDocument] = field(default_factory=dict)

    def next_slot(self, key: Key) -> int:
        log = self.logs[key]
        return log[-1][1].last + 1 if log else 1

    def end_leases(self) -> None:
        """What opening does where the process is the lease."""
        for key, run in self.runs.items():
            if run.state != "ended":
                self.runs[key] = replace(run, lease_until=0.0)


Verb = Callable[..., Awaitable[T]]


def _gives_way(act: Verb[T]) -> Verb[T]:
    @wraps(act)
    async def acts(*arguments: Any, **named: Any) -> T:
        await asyncio.sleep(0)
        result = await act(*arguments, **named)
        await asyncio.sleep(0)
        return result

    return acts


class MemoryStore:
    """`SharedStore` of one process; with `unfinished` also what a restart of an embedded one needs."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._claims: dict[Key, str] = {}
        self.tickets = _Tickets(backend)
        self.connections = _Connections(backend)
        self.keys = _KeyDocuments(backend)

    def of(self, owner: Owner) -> SharedRepositories:
        backend, claims = self._backend, self._claims
        return SharedRepositories(
            sessions=_Sessions(backend, owner),
            messages=_Messages(backend, owner),
            memories=_Memories(backend, owner),
            runs=_Runs(backend, owner, claims),
            log=_Log(backend, owner, claims),
            payloads=_Payloads(backend, owner),
            subscribers=_Subscribers(backend, owner),
        )

    async def unfinished(self) -> Sequence[tuple[Owner, Run]]:
        runs = [(owner, run) for (owner, _), run in self._backend.runs.items()]
        live = [each for each in runs if each[1].state != "ended"]
        return sorted(live, key=lambda each: each[1].created_at)

    async def aclose(self) -> None:
        """Nothing is open."""


class _OfOwner:
    def __init__(self, backend: Backend, owner: Owner) -> None:
        self._backend = backend
        self._owner = owner

    def _key(self, name: str) -> Key:
        return self._owner, _storable(name)

    def _mine(self, rows: dict[Key, T]) -> list[T]:
        return [row for (owner, _), row in rows.items() if owner == self._owner]

    def _page(
        self,
        rows: Sequence[tuple[float, str, T]],
        before: str | None,
        limit: int,
        room: Room[T] | None,
        *scope: str,
    ) -> Page[T]:
        """Return a page of rows that stand newest first, each with its place."""
        scope = (*scope, self._owner.tenant_id, self._owner.user_id)
        if before is not None:
            start = cursors.decode(before, (float, str), *scope)
            rows = [row for row in rows if (row[0], row[1]) < start]
        page = OpenPage(limit, room, *scope)
        for at, name, row in rows:
            if not page.takes(row, (at, name)):
                break
        return page.close()


def _storable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UnstorableTextError("a lone surrogate") from None
    return text


class _Sessions(_OfOwner):
    @_gives_way
    async def get(self, session_id: str) -> Session | None:
        session = self._backend.sessions.get(self._key(session_id))
        if session is None:
            return None
        line = self._backend.lines[self._key(session_id)]
        return replace(session, active_run=line[0] if line else None)

    @_gives_way
    async def page(
        self, *, before: str | None, limit: int, room: Room[Session] | None = None
    ) -> Page[Session]:
        mine = self._mine(self._backend.sessions)
        rows = sorted(((each.updated_at, each.session_id, each) for each in mine), reverse=True)
        return self._page(rows, before, limit, room, "sessions")

    @_gives_way
    async def rename(self, session_id: str, title: str) -> Session | None:
        session = self._backend.sessions.get(self._key(session_id))
        if session is None:
            return None
        self._backend.sessions[self._key(session_id)] = replace(session, title=_storable(title))
        line = self._backend.lines[self._key(session_id)]
        return replace(session, title=title, active_run=line[0] if line else None)

    @_gives_way
    async def forget(self, session_id: str, *, now: float) -> bool:
        backend = self._backend
        if backend.sessions.pop(self._key(session_id), None) is None:
            return False
        backend.lines.pop(self._key(session_id), None)
        for name, run in [(run.run_id, run) for run in self._mine(backend.runs)]:
            if run.session_id == session_id:
                del backend.runs[self._key(name)]
                backend.logs.pop(self._key(name), None)
                backend.forgotten.add(self._key(name))
        for message in self._mine(backend.messages):
            if message.session_id == session_id:
                del backend.messages[self._key(message.message_id)]
        return True


class _Messages(_OfOwner):
    @_gives_way
    async def get(self, message_id: str) -> Message | None:
        return self._backend.messages.get(self._key(message_id))

    @_gives_way
    async def page(
        self,
        session_id: str,
        *,
        before: str | None,
        limit: int,
        room: Room[Message] | None = None,
    ) -> Page[Message]:
        rows: list[tuple[float, str, Message]] = []
        for number, (asked, replies) in enumerate(self._turns(session_id)):
            rows.append((float(number), "", asked))
            rows += [(float(number), reply.message_id, reply) for reply in replies[-1:]]
        return self._page(rows[::-1], before, limit, room, "messages", session_id)

    @_gives_way
    async def turns_before(self, message_id: str, *, max_bytes: int) -> Sequence[Message]:
        asked = self._backend.messages.get(self._key(message_id))
        if asked is None:
            return ()
        turns = self._turns(asked.session_id)
        at = [question.message_id for question, _ in turns].index(message_id)
        said: list[Message] = []
        for question, replies in reversed(turns[:at]):
            turn = [question, *replies[-1:]]
            max_bytes -= sum(len(each.content.encode()) for each in turn)
            if max_bytes < 0:
                break
            said = [*turn, *said]
        return said

    def _turns(self, session_id: str) -> list[tuple[Message, list[Message]]]:
        mine = [m for m in self._mine(self._backend.messages) if m.session_id == session_id]
        return [
            (asked, sorted((m for m in mine if m.reply_to == asked.message_id), key=_message_id))
            for asked in mine
            if asked.role == "user"
        ]


def _message_id(message: Message) -> str:
    return message.message_id


class _Memories(_OfOwner):
    @_gives_way
    async def page(
        self, *, before: str | None, limit: int, room: Room[Memory] | None = None
    ) -> Page[Memory]:
        mine = enumerate(self._mine(self._backend.memories))
        rows = [(float(number), "", memory) for number, memory in mine]
        return self._page(rows[::-1], before, limit, room, "memories")

    @_gives_way
    async def newest(self, *, max_bytes: int) -> Sequence[Memory]:
        newest: list[Memory] = []
        for memory in reversed(self._mine(self._backend.memories)):
            max_bytes -= len(memory.value.encode())
            if max_bytes < 0:
                break
            newest.insert(0, memory)
        return newest

    @_gives_way
    async def forget(self, memory_id: str) -> bool:
        return self._backend.memories.pop(self._key(memory_id), None) is not None


class _Runs(_OfOwner):
    def __init__(self, backend: Backend, owner: Owner, claims: dict[Key, str]) -> None:
        super().__init__(backend, owner)
        self._claims = claims

    @_gives_way
    async def accept(self, acceptance: Acceptance) -> AcceptOutcome:
        backend, run = self._backend, acceptance.run
        _storable(acceptance.message.content if acceptance.message else "")
        stored = backend.runs.get(self._key(run.run_id))
        if stored is not None:
            same = stored.request_hash == run.request_hash
            return Duplicate(run=stored) if same else Refused(why="conflict")
        if self._key(run.run_id) in backend.forgotten or not self._has_place(acceptance):
            return Refused(why="not_found")
        session, line = self._key(run.session_id), backend.lines[self._key(run.session_id)]
        if len(line) > (0 if acceptance.if_busy == "reject" else MAX_QUEUED_RUNS):
            return Refused(why="busy")
        if acceptance.new_session is not None:
            backend.sessions[session] = acceptance.new_session
        self._touch(run.session_id, run.created_at)
        if acceptance.message is not None:
            backend.messages[self._key(run.message_id)] = acceptance.message
        ahead = tuple(line)
        line.append(run.run_id)
        run = self._as_stored(acceptance, ahead)
        backend.runs[self._key(run.run_id)] = run
        context = self._context(acceptance) if run.state == "running" else None
        return Accepted(run=run, ahead=ahead, context=context)

    def _has_place(self, acceptance: Acceptance) -> bool:
        run = acceptance.run
        if acceptance.new_session is not None:
            return True
        if acceptance.message is None:
            asked = self._backend.messages.get(self._key(run.message_id))
            return asked is not None and asked.role == "user" and asked.session_id == run.session_id
        return self._key(run.session_id) in self._backend.sessions

    def _as_stored(self, acceptance: Acceptance, ahead: Sequence[str]) -> Run:
        run, claim = acceptance.run, acceptance.claim
        early = self._backend.tombstones.pop(self._key(run.run_id), None)
        if early is not None and early + ttl.TOMBSTONE > run.created_at:
            run = replace(run, cancel_at=early)
        if acceptance.reader is not None:
            run = replace(run, readers=(acceptance.reader,))
        if claim is not None and not ahead and run.cancel_at is None:
            self._claims[self._key(run.run_id)] = claim.claimed_by
            lease, claimed_by = claim.lease_until, claim.claimed_by
            run = replace(run, state="running", claimed_by=claimed_by, lease_until=lease)
        return run

    def _context(self, acceptance: Acceptance) -> Context:
        """Only what a claim at once needs: a conversation without earlier turns is one, too."""
        run = acceptance.run
        asked = self._backend.messages[self._key(run.message_id)]
        session = self._backend.sessions[self._key(run.session_id)]
        return Context(character=session.character, asked=asked, earlier=(), memories=())

    def _touch(self, session_id: str, at: float) -> None:
        session = self._backend.sessions[self._key(session_id)]
        updated_at = max(session.updated_at, at)
        self._backend.sessions[self._key(session_id)] = replace(session, updated_at=updated_at)

    @_gives_way
    async def get(self, run_id: str) -> Run | None:
        return self._backend.runs.get(self._key(run_id))

    @_gives_way
    async def live(self) -> Sequence[Run]:
        live = [run for run in self._mine(self._backend.runs) if run.state != "ended"]
        return sorted(live, key=lambda run: run.created_at)[:100]

    @_gives_way
    async def claim(self, run_id: str, *, claimed_by: str, lease_until: float) -> Run:
        run = self._backend.runs.get(self._key(run_id))
        if run is not None and run.state == "running" and run.claimed_by == claimed_by:
            return self._claimed(run)
        if run is None or run.state != "queued":
            raise NotRunOwnerError
        first = self._backend.lines[self._key(run.session_id)][0]
        if first != run_id and run.cancel_at is None:
            raise NotRunOwnerError
        return self._claimed(
            replace(run, state="running", claimed_by=claimed_by, lease_until=lease_until)
        )

    @_gives_way
    async def take_over(self, run_id: str, *, claimed_by: str, now: float) -> Run:
        run = self._backend.runs.get(self._key(run_id))
        if run is None or run.state != "running" or run.lease_until > now:
            raise NotRunOwnerError
        return self._claimed(replace(run, claimed_by=claimed_by))

    def _claimed(self, run: Run) -> Run:
        assert run.claimed_by is not None
        self._claims[self._key(run.run_id)] = run.claimed_by
        self._backend.runs[self._key(run.run_id)] = run
        return run

    @_gives_way
    async def cancel(self, run_id: str, *, now: float) -> Run | None:
        key = self._key(run_id)
        run = self._backend.runs.get(key)
        if run is None:
            early = self._backend.tombstones.get(key)
            if early is None or early + ttl.TOMBSTONE <= now:
                self._backend.tombstones[key] = now
            return None
        if run.state != "ended" and run.cancel_at is None:
            run = self._backend.runs[key] = replace(run, cancel_at=now)
        return run

    @_gives_way
    async def finish(self, completion: Completion) -> Run | None:
        key, terminal = self._key(completion.run_id), completion.terminal
        run = self._backend.runs.get(key)
        if run is None or run.state == "queued" or run.claimed_by != completion.claimed_by:
            raise NotRunOwnerError
        if run.state == "running":
            if terminal.first != self._backend.next_slot(key):
                raise LogSlotTakenError
            self._store_end(run, completion)
        line = self._backend.lines[self._key(run.session_id)]
        following = self._backend.runs.get(self._key(line[0])) if line else None
        return following if following is not None and following.state == "queued" else None

    def _store_end(self, run: Run, completion: Completion) -> None:
        backend, terminal = self._backend, completion.terminal
        backend.logs[self._key(run.run_id)].append((completion.claimed_by, terminal))
        backend.runs[self._key(run.run_id)] = replace(
            run,
            state="ended",
            end=completion.end,
            last_seq=terminal.last,
            log_until=completion.log_until,
        )
        backend.lines[self._key(run.session_id)].remove(run.run_id)
        if completion.reply is not None:
            backend.messages[self._key(completion.reply.message_id)] = completion.reply
        for memory in completion.memories:
            backend.memories[self._key(memory.memory_id)] = memory
        if completion.usage is not None:
            backend.usage[self._key(run.run_id)] = completion.usage
        self._touch(run.session_id, completion.finished_at)

    @_gives_way
    async def beat(
        self, run_id: str, *, claimed_by: str, lease_until: float, last_seq: int
    ) -> Run | None:
        run = self._backend.runs.get(self._key(run_id))
        if run is None:
            self._claims.pop(self._key(run_id), None)
            return None
        if run.state != "running" or run.claimed_by != claimed_by:
            raise NotRunOwnerError
        run = replace(run, lease_until=lease_until, last_seq=last_seq)
        self._backend.runs[self._key(run_id)] = run
        return run

    @_gives_way
    async def join(self, run_id: str, reader: RunReader, *, now: float) -> Run | None:
        run = self._backend.runs.get(self._key(run_id))
        if run is None:
            return None
        readers = {each.connection_id: each for each in run.readers} | {
            reader.connection_id: reader
        }
        if run.state == "queued" and len(readers) > MAX_READERS:
            oldest = min(run.readers, key=lambda each: each.nonce)
            del readers[oldest.connection_id]
        alive = run.state == "queued" or (run.state == "running" and run.lease_until > now)
        if alive and len(readers) <= MAX_READERS:
            run = replace(run, readers=tuple(readers.values()))
            self._backend.runs[self._key(run_id)] = run
        return run

    @_gives_way
    async def leave(self, run_id: str, connection_id: str, *, nonce: str) -> None:
        run = self._backend.runs.get(self._key(run_id))
        if run is not None:
            left = tuple(
                each
                for each in run.readers
                if (each.connection_id, each.nonce) != (connection_id, nonce)
            )
            self._backend.runs[self._key(run_id)] = replace(run, readers=left)


class _Log(_OfOwner):
    def __init__(self, backend: Backend, owner: Owner, claims: dict[Key, str]) -> None:
        super().__init__(backend, owner)
        self._claims = claims

    def append(self, entry: LogEntry, *, claimed_by: str, acknowledge: Acknowledge) -> None:
        loop = asyncio.get_running_loop()

        def keep() -> None:
            verdict = self._keep(entry, claimed_by)
            loop.call_soon(acknowledge, verdict)

        loop.call_soon(keep)

    def _keep(
        self, entry: LogEntry, claimed_by: str
    ) -> LogSlotTakenError | NotRunOwnerError | StorageUnavailableError | None:
        key, run = self._key(entry.run_id), self._backend.runs.get(self._key(entry.run_id))
        if run is None or (run.state == "ended" and run.claimed_by == claimed_by):
            return NotRunOwnerError("not ours")
        if self._claims.get(key, run.claimed_by) != claimed_by:
            return NotRunOwnerError("not ours")
        free = self._backend.next_slot(key)
        if entry.first == free:
            self._backend.logs[key].append((claimed_by, entry))
            return None
        if entry.first > free:
            return StorageUnavailableError("an entry before it was not kept")
        kept = (claimed_by, entry) in self._backend.logs[key]
        return None if kept else LogSlotTakenError("taken")

    @_gives_way
    async def read(self, run_id: str, *, after: int) -> Sequence[LogEntry]:
        log = self._backend.logs.get(self._key(run_id), ())
        return [entry for _, entry in log if entry.last > after]


class _Payloads(_OfOwner):
    @_gives_way
    async def reserve(self, payload: Payload) -> None:
        if self._key(payload.payload_id) in self._backend.payloads:
            raise StorageError("the id is taken")
        self._backend.payloads[self._key(payload.payload_id)] = payload

    @_gives_way
    async def get(self, payload_id: str) -> Payload | None:
        payload = self._backend.payloads.get(self._key(payload_id))
        return payload if payload and payload.expires_at > self._backend.clock() else None


class _Subscribers(_OfOwner):
    @_gives_way
    async def add(self, session_id: str, reader: RunReader, *, expires_at: float) -> None:
        key = self._owner, session_id, reader.connection_id
        self._backend.subscribers.pop(key, None)
        self._backend.subscribers[key] = reader, expires_at

    @_gives_way
    async def remove(self, session_id: str, connection_id: str) -> None:
        self._backend.subscribers.pop((self._owner, session_id, connection_id), None)

    @_gives_way
    async def of(self, session_id: str, *, now: float) -> Sequence[RunReader]:
        found: Iterable[RunReader] = (
            reader
            for (owner, session, _), (reader, expires_at) in self._backend.subscribers.items()
            if (owner, session) == (self._owner, session_id) and expires_at > now
        )
        return sorted(found, key=lambda reader: reader.nonce)[-MAX_READERS:]


class _Tickets:
    def __init__(self, backend: Backend) -> None:
        self._tickets = backend.tickets

    async def issue(self, ticket: Ticket) -> None:
        self._tickets[ticket.ticket_hash] = ticket

    async def find(self, ticket_hash: str, *, now: float) -> Ticket | None:
        ticket = self._tickets.get(ticket_hash)
        return ticket if ticket and now < ticket.expires_at else None

    async def redeem(self, ticket_hash: str, *, now: float) -> Ticket | None:
        ticket = self._tickets.pop(ticket_hash, None)
        return ticket if ticket and now < ticket.expires_at else None


class _Connections:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def save(self, connection: Connection) -> None:
        self._backend.connections[connection.connection_id] = connection

    async def get(self, connection_id: str) -> Connection | None:
        found = self._backend.connections.get(connection_id)
        return found if found and found.expires_at > self._backend.clock() else None

    async def remove(self, connection_id: str) -> None:
        self._backend.connections.pop(connection_id, None)


class _KeyDocuments:
    def __init__(self, backend: Backend) -> None:
        self._documents = backend.documents

    async def get(self, url: str) -> KeyDocument | None:
        return self._documents.get(url)

    async def put(self, document: KeyDocument) -> None:
        stored, at = self._documents.get(document.url), document.fetched_at
        if stored is None or not at < stored.fetched_at <= at + ttl.MINUTE:
            self._documents[document.url] = document

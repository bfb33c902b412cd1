"""Records for the tests of storage, with every field that does not matter filled in."""

import asyncio
from dataclasses import replace
from hashlib import sha256

from storage.keys import blob_key, run_id
from storage.records import (
    Acceptance,
    Accepted,
    BlobRef,
    Completion,
    Connection,
    IfBusy,
    LogEntry,
    Memory,
    Message,
    Owner,
    Payload,
    Run,
    Session,
    Ticket,
    Usage,
)
from storage.repositories import RunLog, Store

ANNA = Owner(tenant_id="acme", user_id="anna")
BEN = Owner(tenant_id="acme", user_id="ben")
ANNA_ELSEWHERE = Owner(tenant_id="other", user_id="anna")

NOW = 1_000_000.0
DAY = 86_400.0
GREETING = "こんにちは、世界🌸 – „Grüße“ 👩‍👩‍👧"

TICKET = Ticket(
    ticket_hash=sha256(b"ticket").hexdigest(),
    owner=ANNA,
    issuer="https://issuer.example/",
    auth_expires_at=NOW + 3600,
    expires_at=NOW + 60,
)
CONNECTION = Connection(
    connection_id="c1",
    owner=None,
    issuer="",
    auth_expires_at=0,
    opened_at=NOW,
    expires_at=NOW + 7200,
)


class Clock:
    """Tells the time that the test says."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def session(session_id: str = "session-1", *, at: float = NOW, title: str = GREETING) -> Session:
    return Session(
        session_id=session_id, title=title, character="sakura", created_at=at, updated_at=at
    )


def send(
    send_id: str = "send-1",
    *,
    owner: Owner = ANNA,
    session_id: str = "session-1",
    new: bool = False,
    if_busy: IfBusy = "reject",
    at: float = NOW,
    content: str = GREETING,
    request_hash: str = "a" * 64,
) -> Acceptance:
    """What a `send` asks to store; `new` opens the session."""
    run = Run(
        run_id=run_id(owner, send_id),
        send_id=send_id,
        kind="send",
        request_hash=request_hash,
        session_id=session_id,
        message_id=f"question-{send_id}",
        reply_id=f"reply-{send_id}",
        created_at=at,
        log_until=at + DAY,
    )
    message = Message(
        message_id=run.message_id,
        session_id=session_id,
        role="user",
        content=content,
        created_at=at,
        run_id=run.run_id,
    )
    return Acceptance(
        run=run,
        message=message,
        new_session=session(session_id, at=at) if new else None,
        if_busy=if_busy,
    )


def regenerate(send_id: str, answered: Run, *, owner: Owner = ANNA, at: float = NOW) -> Acceptance:
    """What a `regenerate` of the reply to `answered.message_id` asks to store.

    Its reply's id sorts after the one of the reply to `answered`, as ids that are made by `IdSource` do.
    """
    run = Run(
        run_id=run_id(owner, send_id),
        send_id=send_id,
        kind="regenerate",
        request_hash="b" * 64,
        session_id=answered.session_id,
        message_id=answered.message_id,
        reply_id=f"{answered.reply_id}-{send_id}",
        created_at=at,
        log_until=at + DAY,
    )
    return Acceptance(run=run, message=None, new_session=None, if_busy="reject")


def entry(run: Run, first: int, last: int | None = None, body: bytes | None = None) -> LogEntry:
    return LogEntry(
        run_id=run.run_id,
        first=first,
        last=first if last is None else last,
        body=f'{{"n":{first}}}'.encode() if body is None else body,
    )


def completion(
    run: Run,
    *,
    claimed_by: str = "claim",
    first: int = 1,
    at: float = NOW + 1,
    content: str | None = "はい😊",
    memories: tuple[str, ...] = (),
    end: str = "stop",
) -> Completion:
    """The end of a run whose next event is number `first`; `content=None` keeps no reply."""
    reply = Message(
        message_id=run.reply_id,
        session_id=run.session_id,
        role="assistant",
        content=content or "",
        created_at=at,
        run_id=run.run_id,
        reply_to=run.message_id,
        emotion="joy",
        category="talk",
        end=end,
    )
    return Completion(
        run_id=run.run_id,
        claimed_by=claimed_by,
        end=end,
        terminal=entry(run, first, body=b'{"type":"done"}'),
        reply=None if content is None else reply,
        memories=tuple(
            Memory(
                memory_id=f"memory-{run.send_id}-{number}",
                value=value,
                created_at=at,
                session_id=run.session_id,
                message_id=run.reply_id,
            )
            for number, value in enumerate(memories)
        ),
        usage=Usage(model="scripted", prompt_tokens=3, completion_tokens=5, estimated=True),
        finished_at=at,
        log_until=at + DAY,
    )


def payload(payload_id: str = "payload-1", *, expires_at: float = NOW + 60) -> Payload:
    return Payload(
        payload_id=payload_id,
        kind="spill",
        ref=BlobRef(key=blob_key(ANNA, payload_id), bytes=4, sha256=sha256(b"body").hexdigest()),
        created_at=NOW,
        expires_at=expires_at,
    )


async def accept(store: Store, acceptance: Acceptance, *, owner: Owner = ANNA) -> Run:
    outcome = await store.of(owner).runs.accept(acceptance)
    assert isinstance(outcome, Accepted), outcome
    return outcome.run


async def running(
    store: Store,
    acceptance: Acceptance,
    *,
    owner: Owner = ANNA,
    claimed_by: str = "claim",
    lease_until: float = NOW + 10,
) -> Run:
    """Accept and claim."""
    run = await accept(store, acceptance, owner=owner)
    return await store.of(owner).runs.claim(
        run.run_id, claimed_by=claimed_by, lease_until=lease_until
    )


async def finished(
    store: Store,
    acceptance: Acceptance,
    *,
    owner: Owner = ANNA,
    at: float = NOW + 1,
    **more: object,
) -> Run:
    """Accept, claim and finish with no event but the last."""
    run = await running(store, acceptance, owner=owner)
    await store.of(owner).runs.finish(completion(run, at=at, **more))
    return replace(run, state="ended")


async def append(log: RunLog, slot: LogEntry, *, claimed_by: str = "claim") -> None:
    """Append and wait for the verdict, which is raised unless it is good."""
    verdict: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    log.append(
        slot,
        claimed_by=claimed_by,
        acknowledge=lambda error: (
            verdict.set_exception(error) if error else verdict.set_result(None)
        ),
    )
    async with asyncio.timeout(5):
        await verdict

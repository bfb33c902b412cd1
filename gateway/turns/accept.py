"""Accepting a turn: what was asked is stored exactly once, before anybody is told so."""

import asyncio
import hashlib
from collections.abc import Callable

import orjson

from gateway.tenants.tier import Tier
from gateway.turns.recover import Recovery
from gateway.wire.commands import Regenerate, Send
from gateway.wire.errors import (
    BadRequestError,
    BusyError,
    ConflictError,
    NotFoundError,
    PayloadTooLargeError,
    WireError,
)
from storage import ttl
from storage.blobs.blob_store import BlobStore
from storage.errors import BlobMissingError, StorageError
from storage.keys import IdSource, run_id
from storage.records import (
    Acceptance,
    Accepted,
    Claim,
    Connection,
    Duplicate,
    IfBusy,
    Message,
    Owner,
    Refused,
    Run,
    RunReader,
    Session,
)
from storage.repositories import Store

TITLE_CHARACTERS = 60

_REFUSALS: dict[str, type[WireError]] = {
    "conflict": ConflictError,
    "busy": BusyError,
    "not_found": NotFoundError,
}


class Acceptor:
    """Stores turns. Every method raises `StorageUnavailableError` when the backend refuses.

    Args:
        store: keeps the turn.
        blobs: keeps uploaded text.
        ids: makes the ids of sessions and messages.
        clock: Unix time in seconds.
        new_claim: makes the claim of a run that is being accepted, if it is to be claimed at once.
        new_reader: makes the entry by which HEAD names the connection that asks, for the process that
            generates the reply to post to; returns `None` where that is this process.
        recovery: takes up runs that nobody generates.
    """

    def __init__(
        self,
        *,
        store: Store,
        blobs: BlobStore,
        ids: IdSource,
        clock: Callable[[], float],
        new_claim: Callable[[], Claim | None],
        new_reader: Callable[[Connection], RunReader | None],
        recovery: Recovery,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._ids = ids
        self._clock = clock
        self._new_claim = new_claim
        self._new_reader = new_reader
        self._recovery = recovery

    async def send(
        self, owner: Owner, tier: Tier, reader: Connection, command: Send
    ) -> Accepted | Duplicate:
        """Store a user's message and the run that shall answer it to that reader.

        Raises:
            WireError: it cannot be accepted, for a reason the client is told.
        """
        try:
            content = await self._content(owner, tier, command)
        except NotFoundError:
            # Sent again after the answer, when its upload is gone: what counts is that it was accepted.
            known = await self._accepted_before(owner, command)
            if known is None:
                raise
            return Duplicate(run=known)
        now = self._clock()
        session_id = command.session_id or self._ids.new()
        message_id, reply_id = self._ids.new(), self._ids.new()
        run = Run(
            run_id=run_id(owner, command.id),
            send_id=command.id,
            kind="send",
            request_hash=_send_hash(command, content),
            session_id=session_id,
            message_id=message_id,
            reply_id=reply_id,
            created_at=now,
            log_until=now + ttl.LOG,
        )
        message = Message(
            message_id=message_id,
            session_id=session_id,
            role="user",
            content=content,
            created_at=now,
            run_id=run.run_id,
        )
        new_session = None
        if command.session_id is None:
            new_session = Session(
                session_id=session_id,
                title=title_of(content),
                character=command.character,
                created_at=now,
                updated_at=now,
            )
        return await self._accept(owner, reader, run, message, new_session, command.if_busy)

    async def regenerate(
        self, owner: Owner, reader: Connection, command: Regenerate
    ) -> Accepted | Duplicate:
        """Store a run that shall answer a stored message again.

        Raises:
            WireError: it cannot be accepted, for a reason the client is told.
        """
        messages = self._store.of(owner).messages
        asked = await messages.get(command.message_id)
        if asked is not None and asked.reply_to is not None:
            asked = await messages.get(asked.reply_to)
        if asked is None:
            raise NotFoundError
        now = self._clock()
        run = Run(
            run_id=run_id(owner, command.id),
            send_id=command.id,
            kind="regenerate",
            request_hash=_hash("regenerate", asked.message_id),
            session_id=asked.session_id,
            message_id=asked.message_id,
            reply_id=self._ids.new(),
            created_at=now,
            log_until=now + ttl.LOG,
        )
        return await self._accept(owner, reader, run, None, None, "reject")

    async def _accept(
        self,
        owner: Owner,
        reader: Connection,
        run: Run,
        message: Message | None,
        new_session: Session | None,
        if_busy: IfBusy,
    ) -> Accepted | Duplicate:
        claim = self._new_claim()
        try:
            outcome = await self._store.of(owner).runs.accept(
                Acceptance(
                    run=run,
                    message=message,
                    new_session=new_session,
                    if_busy=if_busy,
                    claim=claim,
                    reader=self._new_reader(reader),
                )
            )
        except (StorageError, asyncio.CancelledError):
            if claim is not None:  # it may be stored all the same
                self._recovery.keep_claim(claim.claimed_by)
            raise
        if isinstance(outcome, Refused):
            if outcome.why == "busy":  # perhaps with a run that nobody generates
                await self._recovery.revive(owner, run.session_id)
            raise _REFUSALS[outcome.why]
        return outcome

    async def _accepted_before(self, owner: Owner, command: Send) -> Run | None:
        """Return the run of that id; `None` if there is none.

        Raises:
            ConflictError: it is of another request. Only another text is not noticed: it is gone.
        """
        its = self._store.of(owner)
        known = await its.runs.get(run_id(owner, command.id))
        asked = None if known is None else await its.messages.get(known.message_id)
        if known is None or asked is None:
            return None
        if known.request_hash != _send_hash(command, asked.content):
            raise ConflictError
        return known

    async def _content(self, owner: Owner, tier: Tier, command: Send) -> str:
        if command.content is not None:
            if len(command.content.encode()) > tier.content_bytes:
                raise PayloadTooLargeError
            return command.content
        assert command.upload_id is not None
        return await self._uploaded(owner, tier, command.upload_id)

    async def _uploaded(self, owner: Owner, tier: Tier, upload_id: str) -> str:
        payload = await self._store.of(owner).payloads.get(upload_id)
        if payload is None or payload.kind != "upload" or payload.expires_at < self._clock():
            raise NotFoundError("There is no such upload.")
        if payload.ref.bytes > tier.content_bytes:
            raise PayloadTooLargeError
        try:
            body = await self._blobs.get(payload.ref.key)
        except BlobMissingError:
            raise NotFoundError("The upload has not arrived.") from None
        if hashlib.sha256(body).hexdigest() != payload.ref.sha256:
            raise BadRequestError("The upload is not what was announced.")
        try:
            content = body.decode()
        except UnicodeDecodeError:
            raise BadRequestError("The upload is not UTF-8 text.") from None
        if not content.strip():
            raise BadRequestError("Not valid: content.")
        return content


def title_of(content: str) -> str:
    """Return a session's first title: the first line of its first message, shortened."""
    line = " ".join(content.strip().splitlines()[0].split())
    if len(line) <= TITLE_CHARACTERS:
        return line
    return f"{line[: TITLE_CHARACTERS - 1].rstrip()}…"


def _send_hash(command: Send, content: str) -> str:
    return _hash("send", command.session_id, content, command.character)


def _hash(*asked: str | None) -> str:
    return hashlib.sha256(orjson.dumps(asked)).hexdigest()

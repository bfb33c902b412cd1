"""The handlers of a connection: connect, message, disconnect.

`message` serves every host. On AWS the functions that let a client in and forget it must start fast, so they
do without this module what the other two do: `Admission.admit`, and removing the connection's record.

A handler never knows where it runs. It gets a handshake, or a connection's record and a frame; answers
go out through the `Transport`; what takes long, generating a reply, is handed on.
"""

import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, assert_never

from gateway.account.account import Account
from gateway.account.pages import message_item
from gateway.faults import cause_of, wire_error
from gateway.frames.spill import Spill
from gateway.identity.admission import Admission, Admitted, Handshake
from gateway.identity.principal import still_holds
from gateway.runs.found import listed_run
from gateway.runs.live_runs import LiveRuns
from gateway.runs.transport import GoneError, Transport
from gateway.tenants.tier import Tier
from gateway.turns.conversation import Conversation
from gateway.turns.following import Following
from gateway.turns.notices import Notices
from gateway.turns.uploads import Uploads
from gateway.wire import answers, commands
from gateway.wire.answers import Answer, milliseconds
from gateway.wire.errors import (
    AuthExpiredError,
    AuthRequiredError,
    BadRequestError,
    NotFoundError,
    NotResumableError,
    PayloadTooLargeError,
    UnsupportedError,
    WireError,
)
from gateway.wire.limits import COMMAND_BYTES, SPILL_ABOVE_BYTES
from storage import keys
from storage.keys import IdSource
from storage.records import MAX_QUEUED_RUNS, Connection, Owner, Run
from storage.repositories import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Handled:
    """What became of a frame.

    Attributes:
        connection: the record as it is now, for the next frame.
        error: what the client was told, if anything was wrong.
        cause: why, for the log.
        command: what the frame was, if it was of the protocol.
        seconds: how long it took.
    """

    connection: Connection
    error: WireError | None = None
    cause: str | None = None
    command: commands.AnyCommand | None = field(default=None, compare=False)
    seconds: float = field(default=0.0, compare=False)

    @property
    def bad_frame(self) -> bool:
        """Whether the frame itself was not of the protocol."""
        return isinstance(self.error, BadRequestError | UnsupportedError | PayloadTooLargeError)

    def report(self) -> None:
        """Log it. Left to the host: a line costs more than a frame, and some may come before it."""
        owner = self.connection.owner
        log.info(
            "command",
            extra={
                "connection_id": self.connection.connection_id,
                "tenant_id": owner.tenant_id if owner else None,
                "type": self.command.type if self.command else None,
                "id": getattr(self.command, "id", None),
                "code": self.error.code if self.error else None,
                "cause": self.cause,
                "ms": round(self.seconds * 1e3, 2),
            },
        )


class Gateway:
    """The handlers over everything they need; made by `gateway.bootstrap`, one per process."""

    def __init__(
        self,
        *,
        store: Store,
        admission: Admission,
        conversation: Conversation,
        following: Following,
        notices: Notices,
        account: Account,
        uploads: Uploads,
        live: LiveRuns,
        transport: Transport,
        spill: Spill,
        ids: IdSource,
        tier: Tier,
        heartbeat_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._admission = admission
        self._conversation = conversation
        self._following = following
        self._notices = notices
        self._account = account
        self._uploads = uploads
        self._live = live
        self._transport = transport
        self._spill = spill
        self._ids = ids
        self._tier = tier
        self._heartbeat_ms = milliseconds(heartbeat_s)
        self._clock = clock

    # The handlers

    async def connect(self, handshake: Handshake) -> Admitted:
        """Judge a handshake. Nothing is posted: a connection is silent until its first command.

        Raises:
            IdentityError, WireError, StorageUnavailableError: refuse it; see `gateway.faults`.
        """
        return await self._admission.admit(handshake)

    async def message(
        self, connection: Connection, frame: str | bytes, *, refusal: WireError | None = None
    ) -> Handled:
        """Carry out one command and post its answers. Never raises for what a client can cause.

        Args:
            connection: the record as the last handler left it.
            frame: one text message; `bytes` stand for a binary one, which is refused.
            refusal: why the host does not have it carried out; its client is told.
        """
        began = time.perf_counter()
        command: commands.AnyCommand | None = None
        error: WireError | None = None
        cause: str | None = None
        try:
            command = commands.decode(frame)
            self._check(connection, command, refusal)
            connection = await self._carry_out(connection, command)
        except GoneError:
            pass
        except Exception as exc:  # noqa: BLE001 - the handler's last line of defence; logs the trace
            error, cause = wire_error(exc), cause_of(exc)
            await self._refuse(connection, command, frame, error)
        return Handled(
            connection=connection,
            error=error,
            cause=cause,
            command=command,
            seconds=time.perf_counter() - began,
        )

    async def disconnect(self, connection_id: str) -> None:
        """Forget a closed connection. Its runs go on.

        Raises:
            StorageUnavailableError: its record stays until it expires.
        """
        self._live.followers.leave(connection_id)
        await self._store.connections.remove(connection_id)

    # Commands

    def _check(
        self, connection: Connection, command: commands.AnyCommand, refusal: WireError | None
    ) -> None:
        if refusal is not None and not self._stops_here(connection, command):
            raise refusal
        match command:
            case commands.Hello(token=str()) | commands.Ping():
                return
        if connection.owner is None:
            raise AuthExpiredError if connection.auth_expires_at else AuthRequiredError
        if isinstance(command, commands.Auth):
            return
        if not still_holds(connection.auth_expires_at, now=self._clock()):
            raise AuthExpiredError

    def _stops_here(self, connection: Connection, command: commands.AnyCommand) -> bool:
        """Whether it stops a run that is live here: nothing may keep a person from that."""
        owner = connection.owner
        if owner is None or not isinstance(command, commands.Cancel):
            return False
        name = _named(owner, command)
        return name is not None and self._live.find(owner, name) is not None

    async def _carry_out(self, connection: Connection, command: commands.AnyCommand) -> Connection:
        match command:
            case commands.Ping(t=t):
                now = milliseconds(self._clock())
                await self._post(connection, answers.Pong(t=t, server_time=now))
            case commands.Hello(token=token, client=client):
                if client is not None:
                    here = connection.connection_id
                    log.info("client", extra={"connection_id": here, "client": client})
                if token is not None:
                    connection = await self._admission.identify(connection, token)
                assert connection.owner is not None
                await self._notices.register(connection.owner, connection)  # it reads what is after
                await self._post(connection, await self._ready(connection))
            case commands.Auth(id=command_id, token=token):
                connection = await self._admission.identify(connection, token)
                await self._post(connection, _renewed(connection, command_id))
            case _:
                assert connection.owner is not None
                await self._carry_out_for(connection.owner, connection, command)
        return connection

    async def _carry_out_for(
        self, owner: Owner, connection: Connection, command: commands.OwnedCommand
    ) -> None:
        match command:
            case commands.Upload():
                ready = await self._uploads.prepare(owner, self._tier, command)
                await self._post(connection, ready)
            case (
                commands.History()
                | commands.Sessions()
                | commands.Session()
                | commands.Memories()
                | commands.Forget()
            ):
                await self._answer(owner, connection, command)
            case _:
                await self._converse(owner, connection, command)

    async def _answer(
        self, owner: Owner, connection: Connection, command: commands.AccountCommand
    ) -> None:
        answer = partial(self._account.answer, owner, command)
        match command:
            case commands.Forget(session_id=str(session_id)):
                forget = partial(self._conversation.forget, owner, session_id, answer)
                try:
                    await self._change(owner, connection, session_id, forget)
                except (
                    NotFoundError
                ):  # by an earlier try, perhaps, which seemed to fail and was stored
                    await self._notices.session_changed(owner, session_id, by=connection)
                    raise
            case commands.Session(session_id=session_id, title=str()):
                await self._change(owner, connection, session_id, answer)
            case _:
                await self._post_page(owner, connection, await answer())

    async def _change(
        self,
        owner: Owner,
        connection: Connection,
        session_id: str,
        change: Callable[[], Awaitable[answers.Page]],
    ) -> None:
        """Change a session and answer that; then tell the others, whether or not the answer is taken."""
        page = await change()
        try:
            await self._post_page(owner, connection, page)
        finally:
            await self._notices.session_changed(owner, session_id, by=connection)

    async def _converse(
        self, owner: Owner, connection: Connection, command: commands.RunCommand
    ) -> None:
        async def post(frame: bytes) -> None:
            await self._post_frame(connection, frame)

        match command:
            case commands.Send():
                told = await self._conversation.send(owner, self._tier, connection, command, post)
                if told is not None:
                    await self._notices.session_changed(owner, told, by=connection)
            case commands.Regenerate():
                await self._conversation.regenerate(owner, self._tier, connection, command, post)
            case commands.Cancel():
                await self._conversation.cancel(owner, command)
            case commands.Resume():
                expired = await self._following.resume(owner, connection, command, post)
                if expired is not None:
                    await self._not_resumable(owner, connection, expired.run)
            case commands.Subscribe():
                await self._following.subscribe(owner, connection, command, post)
            case commands.Unsubscribe():
                await self._following.unsubscribe(owner, connection, command, post)
            case _:
                assert_never(command)

    async def _ready(self, connection: Connection) -> answers.Ready:
        assert connection.owner is not None
        runs = await self._store.of(connection.owner).runs.live()
        return answers.Ready(
            connection_id=connection.connection_id,
            connection_expires_at=milliseconds(connection.expires_at),
            user_id=connection.owner.user_id,
            tenant_id=connection.owner.tenant_id,
            tier=self._tier.name,
            limits=answers.Limits(
                command_bytes=COMMAND_BYTES,
                content_bytes=self._tier.content_bytes,
                live_runs=self._tier.live_runs,
                queued_per_session=MAX_QUEUED_RUNS,
            ),
            auth_expires_at=milliseconds(connection.auth_expires_at),
            heartbeat_ms=self._heartbeat_ms,
            server_time=milliseconds(self._clock()),
            runs=tuple(self._live_run(connection.owner, run) for run in runs),
        )

    def _live_run(self, owner: Owner, run: Run) -> answers.LiveRun:
        live = self._live.find(owner, run.run_id)
        return listed_run(run, last_seq=live.feed.kept if live else run.last_seq)

    async def _not_resumable(self, owner: Owner, connection: Connection, run: Run) -> None:
        stored = await self._store.of(owner).messages.get(run.reply_id)
        item = message_item(stored) if stored else None
        error = answers.error_answer(NotResumableError(), run_id=run.run_id, stored=item)
        await self._post_large(owner, connection, error, of="error", run_id=run.run_id)

    # Answers

    async def _post_page(self, owner: Owner, connection: Connection, page: answers.Page) -> None:
        await self._post_large(owner, connection, page, of="page", id=page.id)

    async def _post_large(
        self,
        owner: Owner,
        connection: Connection,
        answer: Answer,
        *,
        of: Literal["page", "error"],
        id: str | None = None,  # noqa: A002 - the wire's own word
        run_id: str | None = None,
    ) -> None:
        frame = answer.encode()
        if len(frame) > SPILL_ABOVE_BYTES:
            ref = await self._spill.keep_answer(owner, self._ids.new(), frame)
            frame = self._spill.announce(owner, ref, of=of, id=id, run_id=run_id)
        await self._post_frame(connection, frame)

    async def _post(self, connection: Connection, answer: Answer) -> None:
        await self._post_frame(connection, answer.encode())

    async def _post_frame(self, connection: Connection, frame: bytes) -> None:
        pending = self._transport.post(connection.connection_id, frame)
        if pending is not None:
            await pending

    async def _refuse(
        self,
        connection: Connection,
        command: commands.AnyCommand | None,
        frame: str | bytes,
        error: WireError,
    ) -> None:
        run_id = getattr(command, "run_id", None)
        command_id = commands.client_id(frame) if command is None else getattr(command, "id", None)
        if isinstance(command, commands.Cancel):  # its `id` is that of a `send`, which goes on
            run_id, command_id = _named(connection.owner, command), None
        session_id = getattr(command, "session_id", None) if command_id is None else None
        answer = answers.error_answer(error, id=command_id, run_id=run_id, session_id=session_id)
        with suppress(GoneError):
            await self._post(connection, answer)


def _named(owner: Owner | None, command: commands.Cancel) -> str | None:
    """Return the run that is to be cancelled; `None` if nobody can tell."""
    if command.run_id is not None or owner is None or command.id is None:
        return command.run_id
    return keys.run_id(owner, command.id)


def _renewed(connection: Connection, command_id: str) -> answers.Notice:
    return answers.Notice(
        kind="auth.renewed",
        id=command_id,
        auth_expires_at=milliseconds(connection.auth_expires_at),
    )

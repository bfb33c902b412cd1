"""Reading, renaming and forgetting what belongs to a person."""

from collections.abc import Callable

from gateway.account.pages import fitting_page, memory_item, message_item, session_item
from gateway.wire.answers import Page
from gateway.wire.commands import (
    AccountCommand,
    Forget,
    History,
    Memories,
    Session,
    Sessions,
)
from gateway.wire.errors import BadRequestError, NotFoundError
from storage.errors import InvalidCursorError
from storage.records import Owner
from storage.repositories import Repositories, Store


class Account:
    """Answers the commands about a person's own data, each with one `Page`.

    Every method raises `StorageUnavailableError` when the backend refuses.

    Args:
        store: where it is kept.
        clock: Unix time in seconds.
    """

    def __init__(self, *, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock

    async def answer(self, owner: Owner, command: AccountCommand) -> Page:
        """Carry out one command.

        Raises:
            WireError: it cannot be carried out, for a reason the client is told.
        """
        its = self._store.of(owner)
        try:
            match command:
                case History():
                    return await _history(its, command)
                case Sessions():
                    return await _sessions(its, command)
                case Session():
                    return await _session(its, command)
                case Memories():
                    return await _memories(its, command)
                case Forget():
                    return await _forget(its, command, now=self._clock())
        except InvalidCursorError:
            raise BadRequestError("Not valid: before.") from None


async def _history(its: Repositories, command: History) -> Page:
    if await its.sessions.get(command.session_id) is None:
        raise NotFoundError
    return await fitting_page(
        command.id,
        read=lambda room: its.messages.page(
            command.session_id, before=command.before, limit=command.limit, room=room
        ),
        item=message_item,
    )


async def _sessions(its: Repositories, command: Sessions) -> Page:
    return await fitting_page(
        command.id,
        read=lambda room: its.sessions.page(before=command.before, limit=command.limit, room=room),
        item=session_item,
    )


async def _session(its: Repositories, command: Session) -> Page:
    if command.title is None:
        session = await its.sessions.get(command.session_id)
    else:
        session = await its.sessions.rename(command.session_id, command.title)
    if session is None:
        raise NotFoundError
    return Page(id=command.id, items=(session_item(session),))


async def _memories(its: Repositories, command: Memories) -> Page:
    return await fitting_page(
        command.id,
        read=lambda room: its.memories.page(before=command.before, limit=command.limit, room=room),
        item=memory_item,
    )


async def _forget(its: Repositories, command: Forget, *, now: float) -> Page:
    if command.memory_id is not None:
        found = await its.memories.forget(command.memory_id)
    else:
        assert command.session_id is not None
        found = await its.sessions.forget(command.session_id, now=now)
    if not found:
        raise NotFoundError
    return Page(id=command.id, items=())

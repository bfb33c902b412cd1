"""Pages that fit a frame: as many whole items as it holds; one that is too large alone is spilled."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar, cast

from gateway.wire.answers import Item, MemoryItem, MessageItem, Page, SessionItem, milliseconds
from gateway.wire.events import DoneReason
from gateway.wire.limits import FRAME_TARGET_BYTES
from storage.records import Memory, Message, Session
from storage.records import Page as StoredPage

Row = TypeVar("Row")


async def fitting_page(
    command_id: str,
    *,
    limit: int,
    read: Callable[[int], Awaitable[StoredPage[Row]]],
    item: Callable[[Row], Item],
) -> Page:
    """Return the page that answers a command, cut to whole items of about 8 KB, at least one.

    Args:
        command_id: the command's id.
        limit: how many items were asked for.
        read: reads that many rows; called again with fewer when they do not fit, so that the page's
            cursor stands behind its last item.
        item: makes the wire's item of a row.
    """
    rows = await read(limit)
    items = [item(row) for row in rows.items]
    fitting = _how_many_fit(items)
    if fitting < len(items):
        rows = await read(fitting)
        items = [item(row) for row in rows.items]
    return Page(id=command_id, items=tuple(items), next=rows.next)


def _how_many_fit(items: Sequence[Item]) -> int:
    room = FRAME_TARGET_BYTES
    for count, item in enumerate(items):
        room -= len(item.model_dump_json(exclude_none=True).encode())
        if room < 0:
            return max(count, 1)
    return len(items)


def message_item(message: Message) -> MessageItem:
    """Return a message as the wire has it."""
    return MessageItem(
        message_id=message.message_id,
        session_id=message.session_id,
        role=message.role,
        content=message.content,
        created_at=milliseconds(message.created_at),
        run_id=message.run_id,
        reply_to=message.reply_to,
        emotion=message.emotion,
        category=message.category,
        end=cast("DoneReason | None", message.end),
    )


def session_item(session: Session) -> SessionItem:
    """Return a session as the wire has it."""
    return SessionItem(
        session_id=session.session_id,
        title=session.title,
        character=session.character,
        created_at=milliseconds(session.created_at),
        updated_at=milliseconds(session.updated_at),
        active_run=session.active_run,
    )


def memory_item(memory: Memory) -> MemoryItem:
    """Return a memory as the wire has it."""
    return MemoryItem(
        memory_id=memory.memory_id,
        value=memory.value,
        created_at=milliseconds(memory.created_at),
        session_id=memory.session_id,
        message_id=memory.message_id,
    )

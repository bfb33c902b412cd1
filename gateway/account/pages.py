"""Pages that fit a frame: as many whole items as it holds; one that is too large alone is spilled."""

from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

from gateway.wire.answers import Item, MemoryItem, MessageItem, Page, SessionItem, milliseconds
from gateway.wire.events import DoneReason
from gateway.wire.limits import FRAME_TARGET_BYTES
from storage.records import Memory, Message, Room, Session
from storage.records import Page as StoredPage

Row = TypeVar("Row")


async def fitting_page(
    command_id: str,
    *,
    read: Callable[[Room[Row]], Awaitable[StoredPage[Row]]],
    item: Callable[[Row], Item],
) -> Page:
    """Return the page that answers a command, cut to whole items of about 8 KB, at least one.

    Args:
        command_id: the command's id.
        read: reads the rows that have room.
        item: makes the wire's item of a row; called on other threads too.
    """
    room: Room[Row] = Room(max_bytes=FRAME_TARGET_BYTES, size=lambda row: _bytes_of(item(row)))
    rows = await read(room)
    return Page(id=command_id, items=tuple(map(item, rows.items)), next=rows.next)


def _bytes_of(item: Item) -> int:
    return len(item.model_dump_json(exclude_none=True).encode())


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

"""One owner's messages, in DynamoDB. History is one query down the conversation's items."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Final

from storage import cursors
from storage.dynamodb.client import Item
from storage.dynamodb.contents import Contents, size_of
from storage.dynamodb.expressions import text
from storage.dynamodb.items import message_of
from storage.dynamodb.keys import MESSAGES, Key, OwnerKeys, key
from storage.dynamodb.table import DataTable
from storage.dynamodb.tables import PARTITION_KEY, SORT_KEY
from storage.paging import OpenPage
from storage.records import Message, Owner, Page, Room

_END: Final = "$"
"""Comes right after `#`: `MESSAGE$` is after every message, `MESSAGE#id$` after its replies."""

_AT_ONCE: Final = 24
"""Items of one request; most conversations end before, or the bytes of a page or a prompt do."""


class DynamoMessages:
    """`Messages` of one owner; cheap to make."""

    __slots__ = ("_contents", "_keys", "_scope", "_table")

    def __init__(self, owner: Owner, table: DataTable, contents: Contents) -> None:
        self._scope = ("messages", owner.tenant_id, owner.user_id)
        self._keys = OwnerKeys(owner)
        self._table = table
        self._contents = contents

    async def get(self, message_id: str) -> Message | None:
        """Return the message, or `None`."""
        place = await self._table.get(self._keys.place(message_id))
        item = place and await self._table.get(key(place["in"]["S"], place["at"]["S"]))
        return (await self._contents.messages_of([item]))[0] if item else None

    async def page(
        self,
        session_id: str,
        *,
        before: str | None,
        limit: int,
        room: Room[Message] | None = None,
    ) -> Page[Message]:
        """Return one page; see `Messages.page`."""
        scope = (*self._scope, session_id)
        partition = self._keys.session_partition(session_id)
        start, answered = key(partition, f"{MESSAGES[:-1]}{_END}"), None
        if before is not None:
            question, reply = cursors.decode(before, (str, str), *scope)
            start = self._keys.question(session_id, question)
            if reply:
                start = self._keys.reply(session_id, question, reply)
                answered = question
        page, items = OpenPage(limit, room, *scope), list[Item]()
        at_once = min(limit + 1, _AT_ONCE)
        async with aclosing(self._shown(start, answered, at_once=at_once)) as found:
            async for item in found:
                message = message_of(item)
                apart = size_of(item) if "blob" in item else 0
                if not page.takes(message, _position(message), apart=apart):
                    break
                items.append(item)
        return replace(page.close(), items=await self._contents.messages_of(items))

    async def turns_before(self, message_id: str, *, max_bytes: int) -> Sequence[Message]:
        """Return the turns before a user message; see `Messages.turns_before`."""
        place = await self._table.get(self._keys.place(message_id))
        if place is None:
            return ()
        question = "#".join(place["at"]["S"].split("#")[:2])
        fitting: list[Item] = []
        turn: list[Item] = []
        start = key(place["in"]["S"], question)
        async with aclosing(self._shown(start, None, at_once=_AT_ONCE)) as found:
            async for item in found:
                turn.append(item)
                if _is_reply(item):
                    continue
                max_bytes -= sum(map(size_of, turn))
                if max_bytes < 0:
                    break
                fitting += turn
                turn = []
        return tuple(reversed(await self._contents.messages_of(fitting)))

    async def _shown(
        self, start: Key, answered: str | None, *, at_once: int
    ) -> AsyncGenerator[Item, None]:
        """Yield the items of a conversation's messages below that key, newest first.

        Of several replies to one message the newest alone; none to the message `answered`.
        """
        items = self._table.query(
            "#pk = :pk AND #sk BETWEEN :first AND :last",
            {
                ":pk": start[PARTITION_KEY],
                ":first": text(MESSAGES),
                ":last": text(start[SORT_KEY]["S"]),
            },
            descending=True,
            limit=at_once,
        )
        async with aclosing(items):
            async for item in items:
                if item[SORT_KEY] == start[SORT_KEY]:
                    continue
                if _is_reply(item):
                    if item["reply_to"]["S"] == answered:
                        continue
                    answered = item["reply_to"]["S"]
                yield item


def _is_reply(item: Item) -> bool:
    return "reply_to" in item


def _position(message: Message) -> tuple[str, str]:
    """Return where the message stands in its conversation."""
    if message.reply_to is None:
        return message.message_id, ""
    return message.reply_to, message.message_id

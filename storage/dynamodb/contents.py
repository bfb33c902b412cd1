"""Where a message's text is kept: in its item, or in the blob store when it is large (claim check).

An item is read and paid for whole, and a page of them must stay below 1 MB.
See https://www.enterpriseintegrationpatterns.com/patterns/messaging/StoreInLibrary.html.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from storage.blobs.blob_store import BlobStore
from storage.dynamodb.client import Item
from storage.dynamodb.expressions import number, text
from storage.dynamodb.items import message_of
from storage.errors import BlobMissingError, StorageError
from storage.keys import blob_key
from storage.records import Message, Owner

MAX_INLINE: Final = 65_536
"""UTF-8 bytes of the longest text that is kept in the item."""

_log = logging.getLogger(__name__)


class Contents:
    """The texts of one owner's messages; cheap to make."""

    __slots__ = ("_blobs", "_owner")

    def __init__(self, owner: Owner, blobs: BlobStore) -> None:
        self._owner = owner
        self._blobs = blobs

    async def check_in(self, message: Message, *, attempt: str) -> Item:
        """Keep the text if it is large, and return the attributes that say where it is.

        To be called before the item is written, so that none is ever without its text. Two attempts to
        store one message keep two texts, so that each can drop its own.
        """
        encoded = message.content.encode("utf-8", "surrogatepass")
        if len(encoded) <= MAX_INLINE:
            return {}
        ref = await self._blobs.put(
            blob_key(self._owner, f"message.{message.message_id}.{attempt}"), encoded
        )
        return {"content": text(""), "blob": text(ref.key), "bytes": number(len(encoded))}

    async def messages_of(self, items: Sequence[Item]) -> tuple[Message, ...]:
        """Read the items of messages, with their texts wherever those are."""
        return tuple(await asyncio.gather(*map(self._message_of, items)))

    async def drop(self, item: Item) -> None:
        """Delete the text of a message whose item is to go, if it is in the blob store."""
        if "blob" in item:
            await self._blobs.delete(item["blob"]["S"])

    async def _message_of(self, item: Item) -> Message:
        message = message_of(item)
        if "blob" not in item:
            return message
        try:
            body = await self._blobs.get(item["blob"]["S"])
        except BlobMissingError:
            # One lost text must not hide the rest of the conversation.
            _log.error("the text of a message is lost", extra={"message_id": message.message_id})
            return message
        return replace(message, content=body.decode())


def size_of(item: Item) -> int:
    """Return the UTF-8 bytes of a message's text, without fetching it."""
    return int(item["bytes"]["N"]) if "bytes" in item else len(item["content"]["S"].encode())


async def drop_quietly(contents: Contents, item: Item) -> None:
    """Delete a text whose item was not stored; one that cannot be deleted now is only lost space."""
    try:
        await contents.drop(item)
    except StorageError:
        _log.warning("a text that is not needed cannot be deleted")

"""The items of a query as one page."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TypeVar

from storage.dynamodb.client import Item
from storage.paging import OpenPage, Position
from storage.records import Page

T = TypeVar("T")


async def page_of(
    items: AsyncGenerator[Item, None],
    page: OpenPage[T],
    record_of: Callable[[Item], T],
    position: Callable[[T], Position],
) -> Page[T]:
    """Return the page, and close the query; what it has not asked for yet is not read.

    Args:
        items: of the query, in the order of the list.
        page: takes them.
        record_of: reads one item.
        position: where a row stands in the list.
    """
    async with aclosing(items):
        async for item in items:
            row = record_of(item)
            if not page.takes(row, position(row)):
                break
    return page.close()

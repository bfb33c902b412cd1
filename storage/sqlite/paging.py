"""The rows of a query as one page."""

import sqlite3
from collections.abc import Callable, Iterable
from typing import TypeVar

from storage.paging import OpenPage
from storage.records import Page

T = TypeVar("T")


def page_of(
    rows: Iterable[sqlite3.Row],
    page: OpenPage[T],
    record_of: Callable[[sqlite3.Row], T],
    position: tuple[str, str],
) -> Page[T]:
    """Return the page; rows behind it are not read.

    Args:
        rows: at least one more than the page may hold, if there are; the last only says so.
        page: takes them.
        record_of: reads one row.
        position: the two columns that the query is ordered by.
    """
    first, second = position
    for row in rows:
        if not page.takes(record_of(row), (row[first], row[second])):
            break
    return page.close()

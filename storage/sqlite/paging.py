"""Rows of a query that asked for one more than the page holds, as a page."""

import sqlite3
from collections.abc import Callable, Sequence
from typing import TypeVar

from storage import cursors
from storage.records import Page

T = TypeVar("T")


def page_of(
    rows: Sequence[sqlite3.Row],
    limit: int,
    record_of: Callable[[sqlite3.Row], T],
    position: tuple[str, str],
    scope: tuple[str, ...],
) -> Page[T]:
    """Return the page.

    Args:
        rows: up to `limit + 1`; the last only says that there is more.
        limit: rows of a page, at least 1.
        record_of: reads one row.
        position: the two columns that the query is ordered by.
        scope: names the list; see `cursors.encode`.
    """
    more = len(rows) > limit
    last = rows[limit - 1] if more else None
    following = cursors.encode((last[position[0]], last[position[1]]), *scope) if last else None
    return Page(items=tuple(record_of(row) for row in rows[:limit]), next=following)

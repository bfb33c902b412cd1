"""Filling one page of a list: as many rows as were asked for and have room, and the cursor behind them."""

from typing import Generic, TypeVar

from storage import cursors
from storage.records import Page, Room

T = TypeVar("T")

Position = tuple[int | float | str, int | float | str]


class OpenPage(Generic[T]):
    """A page that takes rows in their order until one finds no place; then `close` it.

    Args:
        limit: rows it takes at most, at least 1.
        room: bytes it takes at most; `None`: any number.
        scope: names the list; see `cursors.encode`.
    """

    def __init__(self, limit: int, room: Room[T] | None, *scope: str) -> None:
        self._limit = limit
        self._room = room
        self._left = room.max_bytes if room is not None else 0
        self._scope = scope
        self._rows: list[T] = []
        self._last: Position | None = None
        self._is_full = False

    def takes(self, row: T, position: Position, *, apart: int = 0) -> bool:
        """Add the row, unless there is no place: then the page ends before it.

        Args:
            row: the next one.
            position: where it stands in the list.
            apart: bytes of it that are kept elsewhere and not in `row`.
        """
        if len(self._rows) == self._limit or not self._has_room(row, apart):
            self._is_full = True
            return False
        self._rows.append(row)
        self._last = position
        return True

    def _has_room(self, row: T, apart: int) -> bool:
        if self._room is None:
            return True
        self._left -= self._room.size(row) + apart
        return self._left >= 0 or not self._rows

    def close(self) -> Page[T]:
        """Return the page, which has a cursor if a row found no place."""
        next_cursor = None
        if self._is_full and self._last is not None:
            next_cursor = cursors.encode(self._last, *self._scope)
        return Page(items=tuple(self._rows), next=next_cursor)

"""Server-sent events: bytes in, the data of events out.

Follows the WHATWG HTML living standard, sections "Parsing an event stream" and "Interpreting an
event stream", as far as a provider's answer needs it: only `data` matters; `event`, `id`,
`retry`, unknown fields and comments are read and dropped.
"""

import re
from typing import Final

from streaming.errors import EventTooLargeError

DONE: Final = b"[DONE]"
"""The data of the event by which providers end a stream; it is no chunk."""

_BOM: Final = b"\xef\xbb\xbf"
_LINE_END: Final = re.compile(rb"\r\n?|\n")


class EventReader:
    """The reader of one event stream, from its first byte to its last.

    Feed it whatever the network brings, cut anywhere: inside a line end, a UTF-8 character, the
    byte order mark. Lines end with LF, CR or CRLF. Call `close` when the stream has ended.

    Args:
        max_bytes: The longest line and the longest event accepted; what is held of an event not
            yet complete never exceeds it by more than one read.
    """

    def __init__(self, max_bytes: int = 8 * 1024 * 1024) -> None:
        self._max_bytes = max_bytes
        self._line: list[bytes] = []  # pieces of the line under way
        self._line_bytes = 0
        self._data: list[bytes] = []  # data lines of the event under way
        self._data_bytes = 0
        self._between_events = True  # nothing of an event or line end is under way
        self._after_cr = False  # an LF now would belong to the line end already seen
        self._first_line = True
        self._failed = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes of the stream.

        Returns:
            The data of each event that became complete, in order: the `data` lines joined by LF,
            `b""` for an event whose data is empty, `DONE` at the provider's end mark.

        Raises:
            EventTooLargeError: A line or an event exceeds `max_bytes`. The provider's fault.
        """
        if self._between_events and data.startswith(b"data: ") and data.endswith(b"\n\n"):
            # Nearly every read is a run of whole one-line events: two line ends for each.
            events = data[6:-2].split(b"\n\ndata: ")
            plain = data.count(b"\n") == 2 * len(events) and b"\r" not in data
            if plain and len(data) <= self._max_bytes:
                self._first_line = False
                return events
        return self._feed_lines(data)

    def close(self) -> list[bytes]:
        """Say that the stream has ended.

        Returns:
            The event under way, if it lacks only its closing blank line. The standard drops it;
            servers that end with `data: [DONE]` and a single line end are common. A line that is
            itself unfinished is dropped.

        Raises:
            EventTooLargeError: The stream had failed before.
        """
        if self._failed:
            raise EventTooLargeError
        events: list[bytes] = []
        self._end_event(events)
        return events

    def _feed_lines(self, data: bytes) -> list[bytes]:
        if self._failed:
            raise EventTooLargeError
        if not data:
            return []
        if self._after_cr:
            data = data.removeprefix(b"\n")
        self._after_cr = data.endswith(b"\r")
        *lines, rest = _LINE_END.split(data)
        events: list[bytes] = []
        for line in lines:
            self._hold(line, events)
            whole = b"".join(self._line)
            self._line.clear()
            self._line_bytes = 0
            self._end_line(whole, events)
        if rest:
            self._hold(rest, events)
        self._between_events = not (self._line or self._data or self._after_cr)
        return events

    def _hold(self, piece: bytes, events: list[bytes]) -> None:
        self._line.append(piece)
        self._line_bytes += len(piece)
        if self._line_bytes > self._max_bytes:
            self._fail(events)

    def _end_line(self, line: bytes, events: list[bytes]) -> None:
        if self._first_line:
            self._first_line = False
            line = line.removeprefix(_BOM)
        if not line:
            self._end_event(events)
            return
        field, _, value = line.partition(b":")
        if field == b"data":
            value = value.removeprefix(b" ")
            self._data.append(value)
            self._data_bytes += len(value) + 1
            if self._data_bytes > self._max_bytes:
                self._fail(events)

    def _end_event(self, events: list[bytes]) -> None:
        if self._data:
            events.append(b"\n".join(self._data))
            self._data.clear()
            self._data_bytes = 0

    def _fail(self, events: list[bytes]) -> None:
        self._failed = True
        self._between_events = False
        self._line.clear()
        self._data.clear()
        raise EventTooLargeError(events)

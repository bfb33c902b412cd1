"""Whole events into frames of about 8 KB. Pure; works on bytes that are encoded already."""

from collections.abc import Iterable, Iterator, Sequence

from gateway.wire.events import CONTENT_DELTA_HEAD, CONTENT_DELTA_TAIL
from gateway.wire.limits import FRAME_TARGET_BYTES
from storage.records import BlobRef

LoggedEvent = bytes | BlobRef
"""An event as its log holds it: its JSON, or where the frame lies that carries it alone."""

ENTRY_EVENTS = 64
"""How many events one log entry holds at most."""


def events_frame(
    run_id: str, first_seq: int, events: Sequence[bytes], *, volatile: bool = False
) -> bytes:
    """Return the `events` frame that carries these events, numbered from `first_seq`."""
    return b'{"type":"events","run_id":"%b","first_seq":%d,"last_seq":%d,%b"events":[%b]}' % (
        run_id.encode(),
        first_seq,
        first_seq + len(events) - 1,
        b'"volatile":true,' if volatile else b"",
        b",".join(events),
    )


def next_events(log: Sequence[LoggedEvent], after: int, until: int) -> list[bytes]:
    """Return the events to send next, as many whole ones as fit a frame and at least one.

    Args:
        log: event number n at index n - 1.
        after: the last number that was sent.
        until: the last number that may be sent, above `after`.

    Returns:
        The events numbered from `after + 1`; empty if that one is spilled and travels alone.
    """
    batch: list[bytes] = []
    room = FRAME_TARGET_BYTES
    for index in range(after, until):
        event = log[index]
        if isinstance(event, BlobRef):
            break
        room -= len(event)
        if room < 0 and batch:
            break
        batch.append(event)
    return batch


def entries(events: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Cut events into groups that each fit one log entry (8 KB, 64 events), at least one in each."""
    start, room = 0, FRAME_TARGET_BYTES
    for index, event in enumerate(events):
        room -= len(event)
        if index > start and (room < 0 or index - start == ENTRY_EVENTS):
            yield events[start:index]
            start, room = index, FRAME_TARGET_BYTES - len(event)
    if start < len(events):
        yield events[start:]


def merged(events: Iterable[bytes]) -> list[bytes]:
    """Join deltas of text that follow each other, up to 8 KB each; other events stay as they are."""
    result: list[bytes] = []
    texts: list[bytes] = []
    room = 0

    def close() -> None:
        if texts:
            result.append(CONTENT_DELTA_HEAD + b"".join(texts) + CONTENT_DELTA_TAIL)
            texts.clear()

    for event in events:
        if not event.startswith(CONTENT_DELTA_HEAD):
            close()
            result.append(event)
            continue
        text = event[len(CONTENT_DELTA_HEAD) : -len(CONTENT_DELTA_TAIL)]
        if not texts or room < len(text):
            close()
            room = FRAME_TARGET_BYTES - len(event) + len(text)
        texts.append(text)
        room -= len(text)
    close()
    return result

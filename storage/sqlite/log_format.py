"""How log entries look as bytes, in the journal and in the row of an ended run.

::

    frame   magic (4) | length u32 | crc32 u32 | records      one per write, in journal files only
    record  handle u32 | first u32 | last u32 | length i32 | body

All numbers are little-endian. A negative length says that the body, of the opposite length, is the JSON
array `[key, bytes, sha256]` of a blob that holds the event. A *handle* stands for a run within one
journal file: a record with `first = 0` opens it, its body is the JSON array `[run_id, claimed_by]`. In
the row of an ended run the records stand alone and their handles mean nothing.

One checksum covers what one loop turn wrote: a torn frame was never acknowledged, so nothing is lost by
dropping it whole. The magic starts with 0xFF, which no UTF-8 text contains: text that a user wrote can
never pass for a frame when a reader looks for the next good one behind damage.
"""

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import orjson

from storage.records import BlobRef, LogEntry

MAGIC: Final = b"\xffMK1"
FRAME: Final = struct.Struct("<4sII")
RECORD: Final = struct.Struct("<IIIi")

_SIZE: Final = struct.Struct("<i")
_SIZE_AT: Final = RECORD.size - _SIZE.size

_pack: Final = RECORD.pack


class Record(NamedTuple):
    """One record as read; `first` is 0 when it opens a handle."""

    handle: int
    first: int
    last: int
    is_blob: bool
    body: bytes

    def again(self) -> bytes:
        """Return the record as bytes, for a place where handles mean nothing."""
        size = -len(self.body) if self.is_blob else len(self.body)
        return _pack(0, self.first, self.last, size) + self.body


def entry_record(handle: int, entry: LogEntry) -> bytes:
    """Return the record of an entry."""
    if entry.blob is None:
        return _pack(handle, entry.first, entry.last, len(entry.body)) + entry.body
    body = orjson.dumps((entry.blob.key, entry.blob.bytes, entry.blob.sha256))
    return _pack(handle, entry.first, entry.last, -len(body)) + body


def opening_record(handle: int, run_id: str, claimed_by: str) -> bytes:
    """Return the record that says which run and which claim a handle stands for."""
    body = orjson.dumps((run_id, claimed_by))
    return _pack(handle, 0, 0, len(body)) + body


def opened_by(record: Record) -> tuple[str, str]:
    """Return run id and claim of an opening record."""
    run_id, claimed_by = orjson.loads(record.body)
    return run_id, claimed_by


def frame(parts: Sequence[bytes]) -> bytes:
    """Return one frame around the records."""
    records = b"".join(parts)
    return FRAME.pack(MAGIC, len(records), _checksum(records)) + records


def records(data: bytes) -> Iterator[Record]:
    """Yield the records of one frame or row."""
    position = 0
    while position < len(data):
        handle, first, last, size = RECORD.unpack_from(data, position)
        start = position + RECORD.size
        position = start + abs(size)
        yield Record(handle, first, last, size < 0, data[start:position])


def entries(run_id: str, data: bytes, *, after: int) -> list[LogEntry]:
    """Return the log entries among the records that hold events numbered above `after`."""
    return [_entry(run_id, record) for record in records(data) if record.last > after]


def blob_keys(data: bytes) -> list[str]:
    """Return the keys of all blobs that the records of a row name.

    The other records, nearly all, are stepped over unread: whole logs are looked through at once.
    """
    keys: list[str] = []
    position, end = 0, len(data)
    while position < end:
        (size,) = _SIZE.unpack_from(data, position + _SIZE_AT)
        position += RECORD.size + abs(size)
        if size < 0:
            key, _, _ = orjson.loads(data[position + size : position])
            keys.append(key)
    return keys


class Scan(NamedTuple):
    """What a journal file holds.

    Attributes:
        frames: the records of every good frame, in order.
        good_until: where the last good frame ends; what follows is a torn tail.
        damaged: bytes before that point that belong to no good frame.
    """

    frames: list[bytes]
    good_until: int
    damaged: int


def scan(data: bytes) -> Scan:
    """Find every good frame; behind damage, go on at the next one."""
    frames: list[bytes] = []
    good_until = damaged = position = 0
    while 0 <= position < len(data):
        body = _frame_at(data, position)
        if body is None:
            position = data.find(MAGIC, position + 1)
            continue
        frames.append(body)
        damaged += position - good_until
        position = good_until = position + FRAME.size + len(body)
    return Scan(frames, good_until, damaged)


def _frame_at(data: bytes, position: int) -> bytes | None:
    start = position + FRAME.size
    if len(data) < start:
        return None
    magic, size, checksum = FRAME.unpack_from(data, position)
    body = data[start : start + size]
    # An empty frame is never written, and zeros behind a magic would pass for one.
    good = magic == MAGIC and 0 < size == len(body) and _checksum(body) == checksum
    return body if good else None


def _checksum(body: bytes) -> int:
    return zlib.crc32(body, len(body))


def _entry(run_id: str, record: Record) -> LogEntry:
    if not record.is_blob:
        return LogEntry(run_id=run_id, first=record.first, last=record.last, body=record.body)
    key, size, sha256 = orjson.loads(record.body)
    ref = BlobRef(key=key, bytes=size, sha256=sha256)
    return LogEntry(run_id=run_id, first=record.first, last=record.last, body=b"", blob=ref)

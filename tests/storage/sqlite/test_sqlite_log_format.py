import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.records import BlobRef, LogEntry
from storage.sqlite import log_format
from storage.sqlite.log_format import FRAME, MAGIC

BODIES = st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=5)


def framed(bodies: list[bytes]) -> list[bytes]:
    return [log_format.frame([body]) for body in bodies]


@given(BODIES)
def test_every_good_frame_is_found(bodies: list[bytes]) -> None:
    data = b"".join(framed(bodies))

    assert log_format.scan(data) == (bodies, len(data), 0)


@given(BODIES, st.data())
def test_a_torn_tail_loses_only_the_torn_frame(bodies: list[bytes], data: st.DataObject) -> None:
    frames = framed(bodies)
    whole = b"".join(frames)
    cut = data.draw(st.integers(len(whole) - len(frames[-1]), len(whole) - 1))

    found = log_format.scan(whole[:cut])
    assert found.frames == bodies[:-1]
    assert found.good_until == len(whole) - len(frames[-1])
    assert found.damaged == 0


@given(BODIES, st.data())
def test_a_damaged_byte_loses_only_its_frame(bodies: list[bytes], data: st.DataObject) -> None:
    frames = framed(bodies)
    hit = data.draw(st.integers(0, len(frames) - 1))
    at = data.draw(st.integers(0, len(frames[hit]) - 1))
    broken = bytearray(frames[hit])
    broken[at] ^= data.draw(st.integers(1, 255))
    frames[hit] = bytes(broken)

    found = log_format.scan(b"".join(frames))
    # Random bodies may hold a whole frame by chance, but not in as few bytes as these.
    assert found.frames == bodies[:hit] + bodies[hit + 1 :]
    last = hit == len(bodies) - 1
    assert found.damaged == (0 if last else len(frames[hit]))


@given(st.binary(max_size=200))
def test_whatever_the_bytes_a_scan_ends(data: bytes) -> None:
    found = log_format.scan(data)

    assert 0 <= found.damaged <= found.good_until <= len(data)


def test_many_magics_in_damage_do_not_stall_the_scan() -> None:
    data = random.Random(7).randbytes(10) + (MAGIC + b"\xff\xff\x00\x00junk") * 20_000
    good = log_format.frame([b"good"])

    assert log_format.scan(data + good).frames == [b"good"]


def test_zeros_are_no_frame() -> None:
    assert log_format.scan(log_format.MAGIC + bytes(100)).frames == []


def test_text_can_not_hold_a_frame() -> None:
    with pytest.raises(UnicodeDecodeError):
        log_format.frame([b"text"])[: FRAME.size].decode()


@given(
    st.lists(
        st.tuples(st.integers(1, 64), st.binary(max_size=50), st.booleans()), min_size=1, max_size=8
    )
)
def test_entries_come_back_as_they_were(parts: list[tuple[int, bytes, bool]]) -> None:
    slots: list[LogEntry] = []
    first = 1
    for size, body, spilled in parts:
        last = first if spilled else first + size - 1
        blob = BlobRef(key=f"a/b/{first}", bytes=len(body), sha256="f" * 64) if spilled else None
        slots.append(
            LogEntry(run_id="r", first=first, last=last, body=b"" if spilled else body, blob=blob)
        )
        first = last + 1
    data = b"".join(log_format.entry_record(7, slot) for slot in slots)

    assert log_format.entries("r", data, after=0) == slots
    assert log_format.blob_keys(data) == [slot.blob.key for slot in slots if slot.blob]
    after = slots[len(slots) // 2].first
    expected = [slot for slot in slots if slot.last > after]
    assert log_format.entries("r", data, after=after) == expected


def test_an_opening_record_names_run_and_claim() -> None:
    (record,) = log_format.records(log_format.opening_record(3, "run", "claim 日本"))

    assert (record.handle, record.first) == (3, 0)
    assert log_format.opened_by(record) == ("run", "claim 日本")

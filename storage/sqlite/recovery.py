"""Reading the journal after a restart: which entries of which unfinished runs were kept.

What may be found, and what becomes of it:

* A torn tail, the frame that a killed process or a power cut left half written: it was never
  acknowledged, and is cut off without a word.
* Damage in the middle, of which only the medium or a foreign hand is the cause: the good frames behind it
  are still read, so the runs they belong to lose nothing. A run of whose own entries some lay in the
  damaged part keeps what comes before the gap (a reader must never see one), and an error is logged.
* Records of runs that have ended or were forgotten: ignored, and a file of only such records is deleted.
"""

import logging
from collections.abc import Iterable
from pathlib import Path

from storage.sqlite import log_format
from storage.sqlite.live_log import LiveLog
from storage.sqlite.log_format import Record
from storage.sqlite.segments import Segment, found_in

_log = logging.getLogger(__name__)


def recover(folder: Path, logs: Iterable[LiveLog]) -> list[Segment]:
    """Fill the logs of unfinished runs from the journal, and delete the files that none of them needs.

    A log whose run was never seen running (a power cut took the claim) gets the claim it was written by.

    Args:
        folder: of the journal files.
        logs: empty ones of all runs that the database holds as not ended.

    Returns:
        The files that are still needed, oldest first.

    Raises:
        OSError: a file cannot be read, shortened or deleted.
    """
    by_run = {log.run_id: log for log in logs}
    needed: list[Segment] = []
    for path in found_in(folder):
        segment = Segment(path)
        _read(segment, by_run)
        if segment.runs:
            needed.append(segment)
        else:
            path.unlink()
    return needed


def _read(segment: Segment, logs: dict[str, LiveLog]) -> None:
    data = segment.path.read_bytes()
    found = log_format.scan(data)
    if found.damaged:
        _log.error("journal is damaged", extra={"bytes": found.damaged, "file": segment.path.name})
    if found.good_until < len(data):
        with segment.path.open("r+b") as file:
            file.truncate(found.good_until)
    handles: dict[int, LiveLog | None] = {}
    for records in found.frames:
        for record in log_format.records(records):
            _replay(record, segment, handles, logs)


def _replay(
    record: Record,
    segment: Segment,
    handles: dict[int, LiveLog | None],
    logs: dict[str, LiveLog],
) -> None:
    if record.first == 0:
        run_id, claimed_by = log_format.opened_by(record)
        log = handles[record.handle] = logs.get(run_id)
        if log is not None and log.claimed_by is None:
            log.claimed_by = claimed_by
        return
    log = handles.get(record.handle)
    if log is None:
        return
    segment.runs.add(log.run_id)
    if record.first == log.next:
        log.restore(record)
    elif record.first > log.next:
        _log.error("journal has a gap", extra={"run_id": log.run_id, "after": log.next - 1})
        handles[record.handle] = None  # once said is enough

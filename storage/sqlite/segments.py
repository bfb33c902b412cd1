"""The files of the journal: one that is written, and older ones that wait until their runs have ended."""

import asyncio
import contextlib
import errno
import logging
import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from storage.disk import PRIVATE_FILE, sync_folder
from storage.sqlite.faults import name_of

SYNC_EVERY: Final = 0.05
"""Seconds between two `fdatasync` while something was written: what a power cut may take."""

SEGMENT_BYTES: Final = 4 * 1024 * 1024

SEGMENT_SECONDS: Final = 60.0
"""How long a file is written to: text of ended runs stays there, also what was forgotten meanwhile."""

_NAME: Final = re.compile(r"[0-9]{8}\.journal")

_log = logging.getLogger(__name__)

_sync_data: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync


class Segment:
    """One journal file.

    Attributes:
        path: of the file.
        runs: ids of the runs that have records in it and have not ended durably.
        descriptor: open while it is written; -1 before and after.
        size: bytes that hold good frames.
        handles: how many handles were opened in it.
    """

    __slots__ = ("descriptor", "handles", "path", "runs", "size")

    def __init__(self, path: Path, *, descriptor: int = -1) -> None:
        self.path = path
        self.descriptor = descriptor
        self.runs: set[str] = set()
        self.size = 0
        self.handles = 0


def found_in(folder: Path) -> list[Path]:
    """Return the journal files in the folder, oldest first."""
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))


class Segments:
    """Writes journal files on the loop, and syncs, closes and deletes them on a thread of its own.

    Close it with `aclose`. A frame is written by one `os.write` into the page cache: it survives the
    end of the process at once, and a power cut after the next sync.

    Args:
        folder: holds the files; nothing else may write there.
        older: files found at start that hold records of runs not ended.
        segment_bytes: size from which on the next frame begins a new file.
        segment_seconds: age at which a file is given up, and deleted as soon as its runs have ended.
    """

    def __init__(
        self,
        folder: Path,
        older: list[Segment],
        *,
        segment_bytes: int = SEGMENT_BYTES,
        segment_seconds: float = SEGMENT_SECONDS,
    ) -> None:
        self._folder = folder
        self._older = older
        self._segment_bytes = segment_bytes
        self._segment_seconds = segment_seconds
        self._current: Segment | None = None
        self._number = max((int(segment.path.stem) for segment in older), default=0)
        self._loop = asyncio.get_running_loop()
        self._background = ThreadPoolExecutor(1, thread_name_prefix="makoto-journal")
        self._dirty = False
        self._closed = False
        self._sync_due: asyncio.Handle | None = None
        self._too_old: asyncio.Handle | None = None

    def current(self) -> Segment:
        """Return the file that the next frame goes to.

        Raises:
            OSError: a new one is needed and cannot be made, or the journal is closed.
        """
        if self._closed:
            raise OSError(errno.EBADF, "closed")
        if self._current is not None and self._current.size >= self._segment_bytes:
            self._retire(self._current)
        if self._current is None:
            self._current = self._start()
        return self._current

    def write(self, frame: bytes) -> None:
        """Append one frame to the file that `current` returned, whole or not at all.

        Raises:
            OSError: nothing was kept.
        """
        segment = self._current
        assert segment is not None  # whoever stages a frame has asked for it
        try:
            _write_whole(segment.descriptor, frame)
        except OSError:
            self._repair(segment)
            raise
        segment.size += len(frame)
        self._dirty = True
        if self._sync_due is None:
            self._sync_due = self._loop.call_later(SYNC_EVERY, self._sync)

    def release(self, run_id: str) -> None:
        """Forget a run that ended durably, and delete the older files that only it needed."""
        if self._current is not None:
            self._current.runs.discard(run_id)
        for segment in self._older.copy():
            segment.runs.discard(run_id)
            if not segment.runs:
                self._older.remove(segment)
                self._background.submit(_delete, segment)

    async def aclose(self) -> None:
        """Sync and close; delete the current file when no run needs it. Harmless when repeated."""
        self._closed = True
        if self._sync_due is not None:
            self._sync_due.cancel()
        if self._current is not None:
            self._retire(self._current)
        await asyncio.to_thread(self._background.shutdown)

    def _start(self) -> Segment:
        self._number += 1
        path = self._folder / f"{self._number:08}.journal"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        segment = Segment(path, descriptor=os.open(path, flags, PRIVATE_FILE))
        self._background.submit(_sync_name, segment)
        self._too_old = self._loop.call_later(self._segment_seconds, self._retire, segment)
        return segment

    def _repair(self, segment: Segment) -> None:
        """Cut off what a failed write left.

        Where that fails too, go on in a new file: half a frame at the end of one harms nobody.
        """
        try:
            os.ftruncate(segment.descriptor, segment.size)
        except OSError:
            self._retire(segment)

    def _retire(self, segment: Segment) -> None:
        """Write no more to the current file, and delete it unless a run still needs it."""
        self._current = None
        if self._too_old is not None:
            self._too_old.cancel()
            self._too_old = None
        self._background.submit(_finish, segment)
        if segment.runs:
            self._older.append(segment)
        else:
            self._background.submit(_delete, segment)

    def _sync(self) -> None:
        """Start a sync off the loop, unless nothing was written since the last."""
        self._sync_due = None
        if not self._dirty or self._current is None:
            return
        self._dirty = False
        done = self._loop.run_in_executor(self._background, _sync_file, self._current)
        self._sync_due = self._loop.call_later(SYNC_EVERY, self._sync_after, done)

    def _sync_after(self, running: asyncio.Future[None]) -> None:
        """Sync again once the sync under way has ended: on a slow disk they must not pile up."""
        if running.done():
            self._sync()
        else:
            self._sync_due = self._loop.call_later(SYNC_EVERY, self._sync_after, running)


def _write_whole(descriptor: int, frame: bytes) -> None:
    if os.write(descriptor, frame) != len(frame):
        raise OSError(errno.ENOSPC, "short write")


def _sync_file(segment: Segment) -> None:
    try:
        _sync_data(segment.descriptor)
    except OSError as exc:
        # The text is still in memory and goes to the database at the run's end; a power cut before
        # that takes it, as it would have without this sync.
        _log.error("journal cannot be synced", extra={"fault": name_of(exc)})


def _sync_name(segment: Segment) -> None:
    # On failure the file is there all the same; only a power cut would miss its name.
    with contextlib.suppress(OSError):
        sync_folder(segment.path.parent)


def _finish(segment: Segment) -> None:
    if segment.runs:
        _sync_file(segment)
    os.close(segment.descriptor)
    segment.descriptor = -1


def _delete(segment: Segment) -> None:
    # What cannot be deleted now is found again at the next start.
    with contextlib.suppress(OSError):
        segment.path.unlink(missing_ok=True)

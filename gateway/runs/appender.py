"""Handing a run's entries to its log until it keeps them, or has refused for too long."""

import asyncio
from collections import deque
from collections.abc import Callable

from storage.errors import StorageError, StorageUnavailableError
from storage.records import LogEntry
from storage.repositories import RunLog

VOLATILE_AFTER_S = 2.0
"""For how long a log may refuse, or say nothing, before the answer is shown without being logged."""

RETRY_LOG_EVERY_S = 0.1


class Appender:
    """Appends for one run. A log that refuses is asked again with the first entry it has not kept.

    Args:
        log: of the run's owner.
        claimed_by: who we are to it.
        kept: called with the number up to which all events are kept.
        gave_up: called once the log has refused, or said nothing, for `VOLATILE_AFTER_S`.
        lost: called when the run is somebody else's, or ended.
    """

    def __init__(
        self,
        log: RunLog,
        *,
        claimed_by: str,
        kept: Callable[[int], None],
        gave_up: Callable[[], None],
        lost: Callable[[], None],
    ) -> None:
        self._log = log
        self._claimed_by = claimed_by
        self._kept = kept
        self._gave_up = gave_up
        self._lost = lost
        self._unkept: deque[LogEntry] = deque()
        self._outstanding = 0
        self._asked_at = 0.0
        self._refusing_since: float | None = None
        self._silence: asyncio.TimerHandle | None = None
        self._hopeless = False
        self._stopped = False

    @property
    def is_done(self) -> bool:
        """Whether the log has kept all that it was given, or will be asked no more."""
        return not self._unkept

    def append(self, entry: LogEntry) -> None:
        """Append the next entry. Not to be called after `gave_up`, `lost` or `stop`."""
        self._unkept.append(entry)
        if self._refusing_since is None:
            self._submit(entry)

    def stop(self) -> None:
        """Ask the log no more, and call nobody."""
        self._stopped = True
        self._unkept.clear()

    def _submit(self, entry: LogEntry) -> None:
        if not self._outstanding:
            self._asked_at = asyncio.get_running_loop().time()
            if self._silence is None:
                self._look_for_silence(VOLATILE_AFTER_S)
        self._outstanding += 1
        self._log.append(entry, claimed_by=self._claimed_by, acknowledge=self._acknowledged)

    def _acknowledged(self, error: StorageError | None) -> None:
        self._outstanding -= 1
        if self._stopped:
            return
        if error is not None and not isinstance(error, StorageUnavailableError):
            self._lost()
        elif self._hopeless:
            return  # it comes too late
        elif error is None:
            self._has_kept_one()
        else:
            self._was_refused()

    def _has_kept_one(self) -> None:
        last = self._unkept.popleft().last
        waiting: tuple[LogEntry, ...] = ()
        if self._outstanding:
            self._asked_at = asyncio.get_running_loop().time()
        elif self._refusing_since is not None:
            self._refusing_since = None
            waiting = tuple(self._unkept)
        self._kept(last)
        for entry in waiting:
            self._submit(entry)

    def _was_refused(self) -> None:
        loop = asyncio.get_running_loop()
        if self._refusing_since is None:
            self._refusing_since = self._asked_at  # a log that hangs takes seconds to refuse
        if self._outstanding:
            return
        if loop.time() - self._refusing_since >= VOLATILE_AFTER_S:
            self._give_up()
        else:
            loop.call_later(RETRY_LOG_EVERY_S, self._try_again)

    def _try_again(self) -> None:
        if self._unkept:
            self._submit(self._unkept[0])

    def _look_for_silence(self, wait: float) -> None:
        """Have somebody look whether the log still answers, in so many seconds.

        One timer for all appends: the first sets it, and it goes when it finds nothing unanswered.
        """
        loop = asyncio.get_running_loop()
        self._silence = loop.call_later(wait, self._give_up_if_silent, loop.time() + wait)

    def _give_up_if_silent(self, due: float) -> None:
        self._silence = None
        if not self._unkept:
            return
        now = asyncio.get_running_loop().time()
        since = self._asked_at if self._refusing_since is None else self._refusing_since
        remaining = since + VOLATILE_AFTER_S - now
        # If this comes late, the process stood still, and the answer waits behind this to be heard.
        if remaining <= 0 and self._outstanding and now - due < RETRY_LOG_EVERY_S:
            self._give_up()
        else:
            self._look_for_silence(remaining if remaining > 0 else RETRY_LOG_EVERY_S)

    def _give_up(self) -> None:
        self._hopeless = True
        self._unkept.clear()
        self._gave_up()

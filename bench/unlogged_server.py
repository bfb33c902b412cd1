"""`makoto` whose run log acknowledges every event at once and keeps none: a yardstick, not a server.

Only the end of a run is stored. Nothing can be resumed or replayed.
"""

from gateway.cli.main import run
from storage.records import Completion, LogEntry
from storage.repositories import Acknowledge
from storage.sqlite import store
from storage.sqlite.journal import Journal
from storage.sqlite.log_format import entry_record


class NoJournal(Journal):
    """A journal that takes everything and writes nothing."""

    def append(self, entry: LogEntry, *, claimed_by: str, acknowledge: Acknowledge) -> None:
        """Forget the entry."""
        acknowledge(None)

    async def seal(self, completion: Completion) -> bytes | None:
        """Return a log of the terminal entry alone."""
        log = self._logs.get(completion.run_id)
        if log is None or log.claimed_by != completion.claimed_by:
            return None
        log.ends += 1
        return entry_record(0, completion.terminal)


if __name__ == "__main__":
    store.Journal = NoJournal  # type: ignore[misc] # what `open_store` makes
    run()

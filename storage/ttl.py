"""How long things are kept, in seconds. A row may outlive its time until the next purge, never less."""

from typing import Final

MINUTE: Final = 60.0
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

LOG: Final = DAY
"""From a run's end: how long its log may be replayed (`log_until`). The row of the run itself, which is
the idempotency key, lives as long as the user's message."""

SPILL: Final = LOG + DAY
"""From the spill: blobs outlive the log that names them, also that of a run that goes on for long."""

UPLOAD: Final = HOUR
"""From the reservation: how long an uploaded body waits for the `send` that names it."""

TOMBSTONE: Final = HOUR
"""How long a cancel is remembered whose `send` has not come yet."""

FORGOTTEN: Final = LOG + 2 * DAY
"""From the deletion of a session: how long the ids of its messages are refused. An entry that a dying
generation adds to a deleted log, kept for `LOG` and a day, must not meet another run of that id."""

TICKET: Final = MINUTE
"""How long a handshake ticket may be redeemed."""

DOWNLOAD_URL: Final = 5 * MINUTE
"""How long a signed download URL is good; each delivery signs a fresh one."""

UPLOAD_URL: Final = 5 * MINUTE
"""How long a signed upload URL is good."""

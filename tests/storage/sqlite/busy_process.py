"""Processes that work until they are killed, and say what the store has acknowledged.

Run as `python busy_process.py FOLDER`. Each line on its standard input begets one, by a fork that spares it
the start of Python, with that line as the beginning of all its names; once it is dead `ended STATUS` is
said. It says `born PID` first, `open` when its store is, and then a line only after an acknowledgement:
`accepted NAME`, `appended NAME NUMBER`, `finished NAME NUMBER`, `stored NAME` (a blob that stays) and
`purged`.
"""

import asyncio
import os
import sys
from itertools import count
from pathlib import Path

from storage.blobs.files import FileBlobs, open_file_blobs
from storage.sqlite.store import SqliteStore, open_store
from tests.storage.samples import ANNA, NOW, accept, append, completion, entry, payload, send

LIVES = 4
"""Conversations at the same time."""

SPILLS = 3
"""Blobs from one purge to the next."""

CHECKPOINT_PAGES = 8
"""Several times in a conversation, instead of once in a thousand pages."""


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def converse(store: SqliteStore, prefix: str) -> None:
    for number in count():
        name = f"{prefix}-{number}"
        run = await accept(store, send(name, session_id=name, new=True))
        say("accepted", name)
        await store.of(ANNA).runs.claim(run.run_id, claimed_by="claim", lease_until=9e9)
        for seq in range(1, 8):
            await append(store.of(ANNA).log, entry(run, seq))
            say("appended", name, seq)
        await store.of(ANNA).runs.finish(completion(run, first=8))
        say("finished", name, 8)


async def spill_and_purge(store: SqliteStore, blobs: FileBlobs, prefix: str) -> None:
    """Keep a blob that stays and several that have expired already, and purge."""
    for number in count():
        name = f"{prefix}-{number}"
        stays = number % SPILLS == 0
        row = payload(name, expires_at=NOW + stays)
        await store.of(ANNA).payloads.reserve(row)
        await blobs.put(row.ref.key, b"body")
        if stays:
            say("stored", name)
            await store.purge(blobs, now=NOW, limit=100)
            say("purged")


async def work(folder: Path, prefix: str) -> None:
    store = await open_store(folder, clock=lambda: NOW)
    blobs = await open_file_blobs(folder)
    pragma = f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}"
    await store._writer.call(lambda connection: connection.execute(pragma).fetchone())
    say("open")
    await asyncio.gather(
        spill_and_purge(store, blobs, prefix),
        *(converse(store, f"{prefix}.{life}") for life in range(LIVES)),
    )


def main(folder: Path) -> None:
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            say("born", os.getpid())
            asyncio.run(work(folder, line.strip()))
        _, status = os.waitpid(child, 0)
        say("ended", status)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

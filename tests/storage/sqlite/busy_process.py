"""A process that works until it is killed, and says what the store has acknowledged.

Run as `python busy_process.py FOLDER PREFIX`. Each line on its standard output is written only after the
acknowledgement: `accepted <send id>`, `appended <send id> <number>`, `finished <send id> <number>`.
"""

import asyncio
import os
import sys
from pathlib import Path

from storage.sqlite.store import SqliteStore, open_store
from tests.storage.samples import ANNA, accept, append, completion, entry, send

LIVES = 4
"""Conversations at the same time."""


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def converse(store: SqliteStore, prefix: str) -> None:
    number = 0
    while True:
        number += 1
        name = f"{prefix}-{number}"
        run = await accept(store, send(name, session_id=name, new=True))
        say("accepted", name)
        await store.of(ANNA).runs.claim(run.run_id, claimed_by="claim", lease_until=9e9)
        for seq in range(1, 8):
            await append(store.of(ANNA).log, entry(run, seq))
            say("appended", name, seq)
        await store.of(ANNA).runs.finish(completion(run, first=8))
        say("finished", name, 8)


async def main(folder: Path, prefix: str) -> None:
    store = await open_store(folder)
    say("open")
    await asyncio.gather(*(converse(store, f"{prefix}.{life}") for life in range(LIVES)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))

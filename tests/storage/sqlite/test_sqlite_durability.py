"""Which commits wait for the disk."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.sqlite import store as store_module
from storage.sqlite.store import Durability, open_store
from tests.storage.samples import ANNA, NOW, completion, send


@pytest.mark.parametrize(
    ("durability", "waits"),
    [
        ("process", {"accept": False, "claim": False, "cancel": False, "finish": True}),
        ("power", {"accept": True, "claim": True, "cancel": True, "finish": True}),
    ],
)
async def test_what_waits_for_the_disk(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    durability: Durability,
    waits: dict[str, bool],
) -> None:
    levels: list[int] = []
    connect: Callable[[Path], sqlite3.Connection] = store_module.connect

    def watched(path: Path) -> sqlite3.Connection:
        connection = connect(path)

        def look(statement: str) -> None:
            if statement == "COMMIT" and not asking:
                asking.append(True)
                levels.append(connection.execute("PRAGMA synchronous").fetchone()[0])
                asking.clear()

        connection.set_trace_callback(look)
        return connection

    asking: list[bool] = []
    monkeypatch.setattr(store_module, "connect", watched)
    store = await open_store(folder, durability=durability)
    runs = store.of(ANNA).runs
    acceptance = send(new=True)
    run_id = acceptance.run.run_id
    verbs = {
        "accept": lambda: runs.accept(acceptance),
        "claim": lambda: runs.claim(run_id, claimed_by="claim", lease_until=NOW),
        "cancel": lambda: runs.cancel(run_id, now=NOW),
        "finish": lambda: runs.finish(completion(acceptance.run)),
    }
    found: dict[str, bool] = {}
    for name, verb in verbs.items():
        levels.clear()
        await verb()
        (level,) = levels
        found[name] = level == 2  # 1 is NORMAL, 2 is FULL

    assert found == waits
    await store.aclose()

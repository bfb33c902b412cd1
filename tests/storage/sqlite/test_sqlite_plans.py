"""Every statement finds its rows by an index: none reads a whole table."""

import re
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.blobs.files import open_file_blobs
from storage.keys import blob_key
from storage.records import BlobRef, LogEntry, Payload, Ticket
from storage.sqlite import store as store_module
from storage.sqlite.store import DATABASE, open_store
from tests.storage.samples import (
    ANNA,
    NOW,
    append,
    completion,
    finished,
    regenerate,
    running,
    send,
)

SCANS = re.compile(r"SCAN(?! \(?SUBQUERY)|\(tenant_id=\? AND user_id=\?\)$", re.IGNORECASE)
"""Reads all rows, or all that an owner has ever had; not what a step before it has found."""

ALLOWED = {
    "SCAN runs USING INDEX runs_live",  # the start reads all that has not ended
    "SEARCH runs USING INDEX runs_live (tenant_id=? AND user_id=?)",  # few are live
    "SEARCH payloads USING PRIMARY KEY (tenant_id=? AND user_id=?)",  # few wait to expire
}


async def use_everything(folder: Path) -> None:
    """Call every verb once, so that every statement is run."""
    store = await open_store(folder)
    blobs = await open_file_blobs(folder)
    mine = store.of(ANNA)
    ref = BlobRef(key=blob_key(ANNA, "p"), bytes=1, sha256="0" * 64)
    await mine.payloads.reserve(
        Payload(payload_id="p", kind="spill", ref=ref, created_at=NOW, expires_at=NOW + 9e9)
    )
    first = await finished(store, send("a", new=True), memories=("m",))
    await finished(store, regenerate("again", first))
    live = await running(store, send("b"))
    await append(
        store.of(ANNA).log, LogEntry(run_id=live.run_id, first=1, last=1, body=b"", blob=ref)
    )
    await mine.runs.accept(send("c", if_busy="queue"))
    await mine.runs.cancel("early", now=NOW)
    await mine.runs.take_over(live.run_id, claimed_by="x", now=NOW + 99)
    await mine.runs.finish(completion(live, first=2, claimed_by="x"))
    await mine.runs.live()
    await mine.payloads.get("p")
    await store.unfinished()
    await store.of(ANNA).log.read(first.run_id, after=0)
    await mine.sessions.get("session-1")
    page = await mine.sessions.page(before=None, limit=5)
    assert page.items
    await mine.sessions.rename("session-1", "t")
    one = await mine.messages.page("session-1", before=None, limit=1)
    await mine.messages.page("session-1", before=one.next, limit=1)
    await mine.messages.turns_before(live.message_id, max_bytes=1000)
    await mine.messages.get(live.message_id)
    await mine.memories.page(before=None, limit=5)
    await mine.memories.newest(max_bytes=1000)
    await mine.memories.forget("memory-a-0")
    await mine.sessions.forget("session-1", now=NOW)
    ticket = Ticket(
        ticket_hash="h", owner=ANNA, issuer="i", auth_expires_at=NOW, expires_at=NOW + 60
    )
    await store.tickets.issue(ticket)
    await store.tickets.redeem("h", now=NOW)
    await store.purge(blobs, now=NOW + 99, limit=10)
    await blobs.aclose()
    await store.aclose()


async def test_no_statement_scans_a_table(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    statements: set[str] = set()
    connect: Callable[[Path], sqlite3.Connection] = store_module.connect

    def traced(path: Path) -> sqlite3.Connection:
        connection = connect(path)
        connection.set_trace_callback(statements.add)
        return connection

    monkeypatch.setattr(store_module, "connect", traced)
    await use_everything(folder)
    verbs = {each for each in statements if re.match(r"\s*(SELECT|UPDATE|DELETE|INSERT)", each)}
    assert len(verbs) > 40

    connection = connect(folder / DATABASE)
    try:
        for statement in sorted(verbs):
            plan = f"EXPLAIN QUERY PLAN {statement}".replace("Inf", "9e999")
            for *_, step in connection.execute(plan):
                assert step in ALLOWED or not SCANS.search(step), f"{step}: {statement}"
    finally:
        connection.close()

"""Rows as records."""

import sqlite3

from storage.records import BlobRef, Memory, Message, Owner, Payload, Run, Session, Ticket

Key = tuple[str, str]
"""Tenant and user, the first two columns of every key."""


def key_of(owner: Owner) -> Key:
    """Return what every statement on that owner's rows binds first."""
    return owner.tenant_id, owner.user_id


def owner_of(row: sqlite3.Row) -> Owner:
    """Read whom a row belongs to."""
    return Owner(tenant_id=row["tenant_id"], user_id=row["user_id"])


def session_of(row: sqlite3.Row) -> Session:
    """Read a row of `sessions` joined with its `active_run`."""
    return Session(
        session_id=row["session_id"],
        title=row["title"],
        character=row["character"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        active_run=row["active_run"],
    )


def message_of(row: sqlite3.Row) -> Message:
    """Read a row of `messages`."""
    return Message(
        message_id=row["message_id"],
        session_id=row["session_id"],
        role=row["role"],
        content=row["content"],
        created_at=row["created_at"],
        run_id=row["run_id"],
        reply_to=row["reply_to"],
        emotion=row["emotion"],
        category=row["category"],
        end=row["end_reason"],
    )


def memory_of(row: sqlite3.Row) -> Memory:
    """Read a row of `memories`."""
    return Memory(
        memory_id=row["memory_id"],
        value=row["value"],
        created_at=row["created_at"],
        session_id=row["session_id"],
        message_id=row["message_id"],
    )


def run_of(row: sqlite3.Row) -> Run:
    """Read a row of `runs`."""
    return Run(
        run_id=row["run_id"],
        send_id=row["send_id"],
        kind=row["kind"],
        request_hash=row["request_hash"],
        session_id=row["session_id"],
        message_id=row["message_id"],
        reply_id=row["reply_id"],
        created_at=row["created_at"],
        log_until=row["log_until"],
        state=row["state"],
        claimed_by=row["claimed_by"],
        lease_until=row["lease_until"],
        cancel_at=row["cancel_at"],
        last_seq=row["last_seq"],
        end=row["end_reason"],
    )


def payload_of(row: sqlite3.Row) -> Payload:
    """Read a row of `payloads`."""
    return Payload(
        payload_id=row["payload_id"],
        kind=row["kind"],
        ref=BlobRef(key=row["blob_key"], bytes=row["bytes"], sha256=row["sha256"]),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
    )


def ticket_of(row: sqlite3.Row) -> Ticket:
    """Read a row of `tickets`."""
    return Ticket(
        ticket_hash=row["ticket_hash"],
        owner=owner_of(row),
        issuer=row["issuer"],
        auth_expires_at=row["auth_expires_at"],
        expires_at=row["expires_at"],
    )

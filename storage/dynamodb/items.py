"""Records as the items that DynamoDB keeps, and back. Pure.

Ids are kept beside the keys, which hold them escaped. What is `None` has no attribute.
"""

from collections.abc import Mapping

from storage.dynamodb.client import Item
from storage.dynamodb.expressions import Value, number, text
from storage.dynamodb.keys import Key
from storage.dynamodb.tables import CREATED_AT, LIVE_OF, SESSIONS_OF, TTL, UPDATED_AT
from storage.records import (
    BlobRef,
    LogEntry,
    Memory,
    Message,
    Payload,
    Run,
    RunReader,
    Session,
    Usage,
)


def session_item(key: Key, owner: str, session: Session) -> Item:
    """Return the item of a conversation; the index of sessions groups them by `OwnerKeys.owner`."""
    item: Item = {
        **key,
        SESSIONS_OF: text(owner),
        "session_id": text(session.session_id),
        "title": text(session.title),
        CREATED_AT: number(session.created_at),
        UPDATED_AT: number(session.updated_at),
    }
    return item | _texts(character=session.character, active_run=session.active_run)


def session_of(item: Item) -> Session:
    """Read the item of a conversation."""
    return Session(
        session_id=item["session_id"]["S"],
        title=item["title"]["S"],
        character=_text(item, "character"),
        created_at=_number(item, CREATED_AT),
        updated_at=_number(item, UPDATED_AT),
        active_run=_text(item, "active_run"),
    )


def run_item(key: Key, owner: str, run: Run, *, attempt: str, waits: bool) -> Item:
    """Return HEAD of a run that is accepted now.

    The index of live runs groups them by `OwnerKeys.owner`; `attempt` is a fresh random text of this one
    accept, by which it knows its own write again; `waits` is kept of a run that others are ahead of.
    """
    item: Item = {
        **key,
        LIVE_OF: text(owner),
        "attempt": text(attempt),
        "run_id": text(run.run_id),
        "send_id": text(run.send_id),
        "kind": text(run.kind),
        "hash": {"B": bytes.fromhex(run.request_hash)},
        "session_id": text(run.session_id),
        "message_id": text(run.message_id),
        "reply_id": text(run.reply_id),
        CREATED_AT: number(run.created_at),
        "log_until": number(run.log_until),
        "state": text(run.state),
        "readers": {"M": {each.connection_id: reader_value(each) for each in run.readers}},
    }
    if waits:
        item["waits"] = {"BOOL": True}
    return item if run.cancel_at is None else item | {"cancel_at": number(run.cancel_at)}


def run_of(item: Item) -> Run:
    """Read HEAD of a run; it must be more than a cancel that came early (`is_run`)."""
    return Run(
        run_id=item["run_id"]["S"],
        send_id=item["send_id"]["S"],
        kind=item["kind"]["S"],
        request_hash=bytes(item["hash"]["B"]).hex(),
        session_id=item["session_id"]["S"],
        message_id=item["message_id"]["S"],
        reply_id=item["reply_id"]["S"],
        created_at=_number(item, CREATED_AT),
        log_until=_number(item, "log_until"),
        state=item["state"]["S"],
        claimed_by=_text(item, "claimed_by"),
        lease_until=_number(item, "lease_until"),
        cancel_at=_number(item, "cancel_at") if "cancel_at" in item else None,
        last_seq=int(_number(item, "last_seq")),
        end=_text(item, "end"),
        readers=_readers(item.get("readers", {}).get("M", {})),
    )


def is_run(item: Item | None) -> bool:
    """Whether that is HEAD of a run, and not only a cancel that came before it, or nothing."""
    return item is not None and "state" in item


def has_waited(head: Item) -> bool:
    """Whether that is HEAD of a run that others were ahead of when it was accepted."""
    return "waits" in head


def forgotten_item(head: Key, *, until: float) -> Item:
    """Return HEAD of a run that was deleted with its session: its id is not to be used again."""
    return {**head, "forgotten": {"BOOL": True}, TTL: expiry(until)}


def is_forgotten(item: Item | None) -> bool:
    """Whether that is HEAD of a run that was deleted with its session."""
    return item is not None and "forgotten" in item


def is_claimed(item: Item | None, claimed_by: str, *, state: str = "running") -> bool:
    """Whether that is HEAD of a run in that state under that claim."""
    return (
        item is not None
        and _text(item, "state") == state
        and _text(item, "claimed_by") == claimed_by
    )


def reader_value(reader: RunReader) -> Value:
    """Return a reader as HEAD keeps it: so short that eight of them fit into one write unit.

    Every beat pays for each kilobyte of HEAD.
    """
    expires_at = reader.auth_expires_at
    exact = int(expires_at) if expires_at.is_integer() else expires_at
    return text(f"{reader.after} {exact} {reader.nonce}")


def message_item(key: Key, message: Message) -> Item:
    """Return the item of a message with its content."""
    item: Item = {
        **key,
        "message_id": text(message.message_id),
        "session_id": text(message.session_id),
        "role": text(message.role),
        "content": text(message.content),
        CREATED_AT: number(message.created_at),
        "run_id": text(message.run_id),
    }
    return item | _texts(
        reply_to=message.reply_to,
        emotion=message.emotion,
        category=message.category,
        end=message.end,
    )


def message_of(item: Item) -> Message:
    """Read the item of a message with its content."""
    return Message(
        message_id=item["message_id"]["S"],
        session_id=item["session_id"]["S"],
        role=item["role"]["S"],
        content=item["content"]["S"],
        created_at=_number(item, CREATED_AT),
        run_id=item["run_id"]["S"],
        reply_to=_text(item, "reply_to"),
        emotion=_text(item, "emotion"),
        category=_text(item, "category"),
        end=_text(item, "end"),
    )


def memory_item(key: Key, memory: Memory) -> Item:
    """Return the item of a memory."""
    return {
        **key,
        "memory_id": text(memory.memory_id),
        "value": text(memory.value),
        CREATED_AT: number(memory.created_at),
        "session_id": text(memory.session_id),
        "message_id": text(memory.message_id),
    }


def memory_of(item: Item) -> Memory:
    """Read the item of a memory."""
    return Memory(
        memory_id=item["memory_id"]["S"],
        value=item["value"]["S"],
        created_at=_number(item, CREATED_AT),
        session_id=item["session_id"]["S"],
        message_id=item["message_id"]["S"],
    )


def usage_item(key: Key, run_id: str, usage: Usage) -> Item:
    """Return the item of what a run cost."""
    return {
        **key,
        "run_id": text(run_id),
        "model": text(usage.model),
        "prompt_tokens": number(usage.prompt_tokens),
        "completion_tokens": number(usage.completion_tokens),
        "estimated": {"BOOL": usage.estimated},
    }


def entry_item(key: Key, entry: LogEntry, *, claimed_by: str, ttl: float) -> Item:
    """Return the item of a log entry, which that claim wrote and DynamoDB may delete after `ttl`."""
    item: Item = {
        **key,
        "first": number(entry.first),
        "last": number(entry.last),
        "claimed_by": text(claimed_by),
        "body": _body(entry.body),
        TTL: expiry(ttl),
    }
    return item if entry.blob is None else item | {"blob": _blob(entry.blob)}


def entry_of(run_id: str, item: Item) -> LogEntry:
    """Read the item of a log entry."""
    body = item["body"]
    return LogEntry(
        run_id=run_id,
        first=int(_number(item, "first")),
        last=last_of(item),
        body=body["S"].encode() if "S" in body else bytes(body["B"]),
        blob=_blob_of(item["blob"]) if "blob" in item else None,
    )


def last_of(item: Item) -> int:
    """Return the number of the last event of a log entry."""
    return int(_number(item, "last"))


def payload_item(key: Key, payload: Payload, *, attempt: str) -> Item:
    """Return the item of a payload; `attempt` is a fresh random text of this one `reserve`."""
    return {
        **key,
        "attempt": text(attempt),
        "payload_id": text(payload.payload_id),
        "kind": text(payload.kind),
        "blob": _blob(payload.ref),
        CREATED_AT: number(payload.created_at),
        "expires_at": number(payload.expires_at),
        TTL: expiry(payload.expires_at),
    }


def payload_of(item: Item) -> Payload:
    """Read the item of a payload."""
    return Payload(
        payload_id=item["payload_id"]["S"],
        kind=item["kind"]["S"],
        ref=_blob_of(item["blob"]),
        created_at=_number(item, CREATED_AT),
        expires_at=_number(item, "expires_at"),
    )


def expiry(at: float) -> Value:
    """Return the value of the TTL attribute: DynamoDB deletes the item after that, sooner or later."""
    return number(int(at) + 1)


def _body(body: bytes) -> Value:
    """Keep a body as text where it is text: a console shows it, and the request is a third shorter."""
    try:
        return text(body.decode())
    except UnicodeDecodeError:
        return {"B": body}


def _blob(ref: BlobRef) -> Value:
    return {"M": {"key": text(ref.key), "bytes": number(ref.bytes), "sha256": text(ref.sha256)}}


def _blob_of(value: Value) -> BlobRef:
    fields = value["M"]
    return BlobRef(
        key=fields["key"]["S"],
        bytes=int(fields["bytes"]["N"]),
        sha256=fields["sha256"]["S"],
    )


def _readers(kept: Mapping[str, Value]) -> tuple[RunReader, ...]:
    return tuple(reader_of(each, value["S"]) for each, value in sorted(kept.items()))


def reader_of(connection_id: str, kept: str) -> RunReader:
    """Return what `reader_value` was made of."""
    after, expires_at, nonce = kept.split(" ", 2)
    return RunReader(
        connection_id=connection_id,
        after=int(after),
        nonce=nonce,
        auth_expires_at=float(expires_at),
    )


def _texts(**values: str | None) -> Item:
    return {name: text(value) for name, value in values.items() if value is not None}


def _text(item: Item, name: str) -> str | None:
    return item[name]["S"] if name in item else None


def _number(item: Item, name: str) -> float:
    """Return a number attribute; 0 if there is none."""
    return float(item[name]["N"]) if name in item else 0.0

"""What was said and heard, as text that is the same whichever host has said it.

Ids that the server made become `run-1`, `message-2` in the order in which they come up, so that the same one
has the same name everywhere; times, URLs, numbers of events and estimates become what they are. What may
differ from host to host, and PROTOCOL.md says so ("Behind API Gateway"), is left out the same way: the
heartbeat, how an upload is sent, and how many deltas bring a text.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from tests.gateway.hosts.client import Frame

KINDS = {
    "run_id": "run",
    "active_run": "run",
    "session_id": "session",
    "message_id": "message",
    "reply_id": "message",
    "reply_to": "message",
    "memory_id": "memory",
    "upload_id": "upload",
    "connection_id": "connection",
    "user_id": "user",
    "next": "cursor",
}
"""Fields whose values are ids, and of what."""

MASKED = {
    **dict.fromkeys(("connection_expires_at", "auth_expires_at", "expires_at"), "time"),
    **dict.fromkeys(("server_time", "created_at", "updated_at", "deadline"), "time"),
    **dict.fromkeys(("url", "method", "fields", "heartbeat_ms"), "host"),
    "last_seq": "number",
}
"""Fields whose values are of no concern."""

LONG = 200
"""Characters of a text that is written out."""


class Labels:
    """Gives ids their names.

    Args:
        kept: values that the scenario itself has written: they stay as they are.
    """

    def __init__(self, kept: Iterable[str] = ()) -> None:
        self._kept = frozenset(kept)
        self._names: dict[str, str] = {}
        self._counts: dict[str, int] = {}

    def of(self, kind: str, value: str) -> str:
        if value in self._kept:
            return value
        if value not in self._names:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            self._names[value] = f"{kind}-{self._counts[kind]}"
        return self._names[value]

    def known(self, kind: str) -> list[str]:
        """Return the values that have such a name, in their order."""
        return [value for value, name in self._names.items() if name.startswith(f"{kind}-")]


def masked(value: Any, labels: Labels) -> Any:
    """Return the same, with everything replaced that differs from one time to the next."""
    match value:
        case dict():
            return {name: _field(name, each, value, labels) for name, each in value.items()}
        case list():
            return [masked(each, labels) for each in value]
        case str() if len(value) > LONG:
            digest = hashlib.sha256(value.encode()).hexdigest()[:8]
            return f"{value[:20]}… {len(value)} characters, {digest}"
    return value


def _field(name: str, value: Any, whole: Mapping[str, Any], labels: Labels) -> Any:
    if name in KINDS:
        return labels.of(KINDS[name], value)
    if name in MASKED:
        return f"<{MASKED[name]}>"
    if name.endswith("_tokens") and whole.get("estimated"):
        return "<estimate>"
    return masked(value, labels)


def merged(events: Sequence[Frame]) -> list[Frame]:
    """Return the events with each row of deltas as one."""
    whole: list[Frame] = []
    for event in events:
        if whole and (field := _appends(whole[-1], event)):
            whole[-1] = {**whole[-1], field: whole[-1][field] + event[field]}
        else:
            whole.append(event)
    return whole


def _appends(last: Frame, event: Frame) -> str | None:
    """Return the field that an event goes on with."""
    if last["type"] != event["type"]:
        return None
    if event["type"] == "content.delta":
        return "text"
    if event["type"] == "tool_call.delta" and last["call"] == event["call"]:
        return "arguments"
    return None


def line(value: Any) -> str:
    """Return a value as a line of JSON."""
    return orjson.dumps(value).decode()

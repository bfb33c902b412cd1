"""Where an owner's items lie in the table of data.

::

    pk                                sk
    {tenant}#{user}#SESSION#{id}      SESSION                     the conversation itself
                                      MESSAGE#{id}                a user's message
                                      MESSAGE#{id}#{reply id}     a reply to it
                                      RUN#{run id}                a run that brought no message: a regenerate
    {tenant}#{user}#MESSAGE#{id}      PLACE                       in which session, and as what
    {tenant}#{user}#RUN#{id}          HEAD
                                      LOG#{number of the first event}
    {tenant}#{user}#SUBSCRIBERS#{id}  CONNECTION#{id}             who follows it; of `*`: who is there
    {tenant}#{user}#MEMORIES          MEMORY#{id}
    {tenant}#{user}#USAGE             AT#{when}#{run id}
    {tenant}#{user}#PAYLOAD#{id}      PAYLOAD

Ids that are made here sort by creation, so one query down a session is its history, and a reply comes
right before (above) the message it answers.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from storage.dynamodb.tables import PARTITION_KEY, SORT_KEY
from storage.records import Owner

Key = dict[str, dict[str, Any]]
"""The two key attributes of one item."""

SESSION: Final = "SESSION"
MESSAGES: Final = "MESSAGE#"
SESSION_RUNS: Final = "RUN#"
LOG: Final = "LOG#"
MEMORIES: Final = "MEMORY#"

_HEAD: Final = "HEAD"
_PLACE: Final = "PLACE"
_PAYLOAD: Final = "PAYLOAD"

_ESCAPED: Final = {code: f"%{code:02x}" for code in (*range(ord("#") + 1), ord("%"))}
_MAX_PART: Final = 480
"""In bytes: four parts fit the 2,048 bytes of a partition key, two the 1,024 of a sort key; see
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html."""


class OwnerKeys:
    """The keys of one owner's items. No other owner has any of them, whatever the ids are."""

    __slots__ = ("owner",)

    def __init__(self, owner: Owner) -> None:
        self.owner: Final = f"{_part(owner.tenant_id)}#{_part(owner.user_id)}"

    def session(self, session_id: str) -> Key:
        """Return the key of a conversation."""
        return self._in_session(session_id, SESSION)

    def question(self, session_id: str, message_id: str) -> Key:
        """Return the key of a user's message."""
        return self._in_session(session_id, f"{MESSAGES}{_part(message_id)}")

    def reply(self, session_id: str, message_id: str, reply_id: str) -> Key:
        """Return the key of a reply to that user's message."""
        return self._in_session(session_id, f"{MESSAGES}{_part(message_id)}#{_part(reply_id)}")

    def session_run(self, session_id: str, run_id: str) -> Key:
        """Return the key by which a session knows a run that brought no message."""
        return self._in_session(session_id, f"{SESSION_RUNS}{_part(run_id)}")

    def subscriber(self, session_id: str, connection_id: str) -> Key:
        """Return the key of a connection that follows a conversation."""
        return key(self.subscribers_partition(session_id), f"CONNECTION#{_part(connection_id)}")

    def place(self, message_id: str) -> Key:
        """Return the key by which a message is found without its session."""
        return key(f"{self.owner}#MESSAGE#{_part(message_id)}", _PLACE)

    def head(self, run_id: str) -> Key:
        """Return the key of a run."""
        return key(self.run_partition(run_id), _HEAD)

    def slot(self, run_id: str, first: int) -> Key:
        """Return the key of the log entry whose first event has that number."""
        return key(self.run_partition(run_id), slot_name(first))

    def memory(self, memory_id: str) -> Key:
        """Return the key of a memory."""
        return key(self.memory_partition(), f"{MEMORIES}{_part(memory_id)}")

    def usage(self, run_id: str, finished_at: float) -> Key:
        """Return the key of what a run cost; those of an owner sort by time (Unix time in seconds)."""
        return key(f"{self.owner}#USAGE", f"AT#{finished_at:017.6f}#{_part(run_id)}")

    def payload(self, payload_id: str) -> Key:
        """Return the key of a payload."""
        return key(f"{self.owner}#PAYLOAD#{_part(payload_id)}", _PAYLOAD)

    def session_partition(self, session_id: str) -> str:
        """Return what a conversation and all that was said in it share."""
        return f"{self.owner}#SESSION#{_part(session_id)}"

    def subscribers_partition(self, session_id: str) -> str:
        """Return what all who follow a conversation share."""
        return f"{self.owner}#SUBSCRIBERS#{_part(session_id)}"

    def run_partition(self, run_id: str) -> str:
        """Return what a run and its log share."""
        return f"{self.owner}#RUN#{_part(run_id)}"

    def memory_partition(self) -> str:
        """Return what all memories of the owner share."""
        return f"{self.owner}#MEMORIES"

    def _in_session(self, session_id: str, sort: str) -> Key:
        return key(self.session_partition(session_id), sort)


def key(partition: str, sort: str) -> Key:
    """Return a key of these two values."""
    return {PARTITION_KEY: {"S": partition}, SORT_KEY: {"S": sort}}


def key_of(item: Mapping[str, Any]) -> Key:
    """Return the key of an item."""
    return {PARTITION_KEY: item[PARTITION_KEY], SORT_KEY: item[SORT_KEY]}


def slot_name(first: int) -> str:
    """Return the sort key of a log entry: they sort by number."""
    return f"{LOG}{first:08}"


def _part(text: str) -> str:
    """Escape what would end a part, or sort before its end, and name what is too long by its hash.

    `%%` never starts an escape, so a hash is never mistaken for an escaped text.
    """
    escaped = text.translate(_ESCAPED)
    encoded = escaped.encode("utf-8", "surrogatepass")
    return escaped if len(encoded) <= _MAX_PART else f"%%{hashlib.sha256(encoded).hexdigest()}"

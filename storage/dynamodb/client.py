"""What the repositories ask of DynamoDB: one call, its answer, and the three ways it can go wrong.

`signed_client` speaks this. A request and an answer have the form of the DynamoDB API (`{"S": "text"}`),
with `bytes` for B; see https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from storage.errors import StorageError

Item = dict[str, dict[str, Any]]
"""An item as the API writes it: attribute name to one-entry mapping of type to value."""

CONDITION_FAILED: Final = "ConditionalCheckFailed"
"""The code of a `Reason` whose own condition failed."""


class DynamoClient(Protocol):
    """One endpoint with one set of credentials, for one event loop. Whoever made it closes it."""

    async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out one operation, such as `PutItem`, and return its answer.

        Repeats it after a throttle, a failure of the service and a lost connection, so that an operation
        may be carried out twice: each write must be one that can be repeated, or have a condition by
        which the repeat is told apart (the old item of `ConditionFailedError`). Never blocks the event
        loop. When cancelled, a write that was under way may still be carried out.

        Raises:
            ConditionFailedError: the condition of a write does not hold.
            TransactionCanceledError: nothing of the transaction was written.
            StorageUnavailableError: no answer within 5 seconds, or the service refuses.
            UnstorableTextError: a text in the request holds a lone surrogate (our own fault).
            StorageError: the service calls the request malformed (our own fault).
        """
        ...


class ConditionFailedError(StorageError):
    """The condition of a write does not hold.

    Attributes:
        item: what is stored instead, if the request asked for it
            (`ReturnValuesOnConditionCheckFailure: ALL_OLD`) and there is such an item.
    """

    def __init__(self, item: Item | None) -> None:
        super().__init__("the condition of a write does not hold")
        self.item = item


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why a transaction was canceled, for one of its entries.

    Attributes:
        code: `None` for an entry that was in order, `ConditionalCheckFailed`, `TransactionConflict`, ...
        item: as in `ConditionFailedError`.
    """

    code: str | None
    item: Item | None


class TransactionCanceledError(StorageError):
    """Nothing of a transaction was written, because of the condition of at least one entry.

    One that only collided with another transaction, or was throttled, is repeated, and ends as
    `StorageUnavailableError`.

    Attributes:
        reasons: one for each entry, in the order of the request.
    """

    def __init__(self, reasons: Sequence[Reason]) -> None:
        super().__init__("a transaction was canceled")
        self.reasons = tuple(reasons)

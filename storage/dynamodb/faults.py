"""DynamoDB's error codes as errors of storage, and which of them are worth another attempt.

The codes: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html.
"""

from collections.abc import Mapping
from typing import Any, Final

from storage.attempts import THROTTLED_PAUSE_S, AttemptFailedError
from storage.dynamodb.client import (
    CONDITION_FAILED,
    ConditionFailedError,
    Reason,
    TransactionCanceledError,
)
from storage.errors import StorageError, StorageUnavailableError

_THROTTLED: Final = frozenset(
    {
        "LimitExceededException",
        "ProvisionedThroughputExceeded",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ThrottlingError",
        "ThrottlingException",
    }
)
_PASSING: Final = frozenset(
    {
        "InternalServerError",
        "ReplicatedWriteConflictException",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "TransactionConflict",
        "TransactionConflictException",
        "TransactionInProgressException",
    }
)
_MALFORMED: Final = frozenset(
    {
        "DuplicateItem",
        "IdempotentParameterMismatchException",
        "ItemCollectionSizeLimitExceeded",
        "ItemCollectionSizeLimitExceededException",
        "ResourceInUseException",
        "SerializationException",
        "ValidationError",
        "ValidationException",
    }
)


def fault_of(
    status: int, code: str, answer: Mapping[str, Any]
) -> StorageError | AttemptFailedError:
    """Return what an answer means that is no success.

    Args:
        status: of HTTP.
        code: without its namespace; empty if the answer has none.
        answer: the body.
    """
    if code == "ConditionalCheckFailedException":
        return ConditionFailedError(answer.get("Item") or None)
    if code == "TransactionCanceledException":
        return _canceled(answer.get("CancellationReasons") or ())
    return _by_code(code, status)


def _canceled(reasons: Any) -> StorageError | AttemptFailedError:
    found = [
        Reason(
            code=None if reason.get("Code") in (None, "None") else reason["Code"],
            item=reason.get("Item") or None,
        )
        for reason in reasons
    ]
    codes = {reason.code for reason in found if reason.code is not None}
    if CONDITION_FAILED in codes:
        return TransactionCanceledError(found)
    for kind in (_MALFORMED, _THROTTLED):
        if codes & kind:
            return _by_code(next(iter(codes & kind)))
    return _by_code("TransactionConflict")


def _by_code(code: str, status: int = 0) -> StorageError | AttemptFailedError:
    if code in _THROTTLED:
        return AttemptFailedError(code, pause_s=THROTTLED_PAUSE_S)
    if code in _PASSING or status >= 500:
        return AttemptFailedError(code or str(status))
    if code in _MALFORMED:
        return StorageError(f"DynamoDB calls a request malformed: {code}")
    return StorageUnavailableError(f"DynamoDB refuses: {code or status}")

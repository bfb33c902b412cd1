"""Requests of the DynamoDB API, from expressions that name attributes in place.

An expression says `#state = :queued`; the map of names that the API wants beside it (half of the words
that one would use are reserved) is made from the expression. Every conditional write asks for the old item,
which tells one's own write that was carried out twice from somebody else's.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from storage.dynamodb.client import Item
from storage.dynamodb.keys import Key

Value = dict[str, Any]
"""One attribute as the API writes it: one entry, its type and its value."""

_NAME: Final = re.compile(r"#(\w+)")
_OLD_ITEM: Final = {"ReturnValuesOnConditionCheckFailure": "ALL_OLD"}


def text(value: str) -> Value:
    """Return a text attribute."""
    return {"S": value}


def number(value: float) -> Value:
    """Return a number attribute; a float comes back exactly.

    Raises:
        ValueError: it is infinite or no number, which DynamoDB cannot hold (our own fault).
    """
    if not math.isfinite(value):
        raise ValueError("not a finite number")
    return {"N": repr(value)}


def texts(values: Sequence[str]) -> Value:
    """Return a list of texts."""
    return {"L": [text(value) for value in values]}


def put(
    item: Item, condition: str = "", values: Mapping[str, Value] | None = None
) -> dict[str, Any]:
    """Return the request that stores an item whole."""
    return {"Item": item, **_conditional(condition, condition, values, {})}


def update(
    key: Key,
    expression: str,
    condition: str,
    values: Mapping[str, Value],
    names: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the request that changes an item; `names` has attributes not called as in the expression."""
    return {
        "Key": key,
        "UpdateExpression": expression,
        **_conditional(f"{expression} {condition}", condition, values, names or {}),
    }


def check(key: Key, condition: str) -> dict[str, Any]:
    """Return the entry of a transaction that only looks at an item."""
    return {"Key": key, **_conditional(condition, condition, None, {})}


def names_in(expression: str, given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return what each `#name` of the expression stands for: that name, unless given."""
    given = given or {}
    return {f"#{name}": given.get(name, name) for name in _NAME.findall(expression)}


def _conditional(
    expression: str, condition: str, values: Mapping[str, Value] | None, names: Mapping[str, str]
) -> dict[str, Any]:
    request: dict[str, Any] = {}
    if found := names_in(expression, names):
        request["ExpressionAttributeNames"] = found
    if values:
        request["ExpressionAttributeValues"] = dict(values)
    if condition:
        request |= {"ConditionExpression": condition, **_OLD_ITEM}
    return request

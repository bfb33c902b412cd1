"""Opaque page cursors: a position in an ordering, tied to the list that it was made for."""

import base64
import hashlib
from typing import Final, TypeVar

import orjson

from storage.errors import InvalidCursorError

A = TypeVar("A", int, float, str)
B = TypeVar("B", int, float, str)

_CHECK_BYTES: Final = 6
_MAX_LENGTH: Final = 512
_MAX_INT: Final = 2**53


def encode(position: tuple[int | float | str, int | float | str], *scope: str) -> str:
    """Return the cursor of a position (the sort key of a page's last row) in base64url.

    Args:
        position: two values that `decode` gives back.
        scope: what names the list, such as its kind, its owner and its session. It is not part of the
            cursor, but `decode` must be given the same.
    """
    payload = orjson.dumps(position)
    return _text(_check(payload, scope) + payload)


def decode(cursor: str, kinds: tuple[type[A], type[B]], *scope: str) -> tuple[A, B]:
    """Return the position of a cursor.

    The check is no signature: whoever computes it by hand reaches another position in the rows of the
    same owner, which they may read anyway.

    Args:
        cursor: as it came from a client.
        kinds: the exact types of the two values.
        scope: as given to `encode`.

    Raises:
        InvalidCursorError: it was altered, or made for another list (the caller's fault).
    """
    try:
        position: object = orjson.loads(_payload(cursor, scope))
    except ValueError as exc:  # binascii and orjson errors both derive from it
        raise InvalidCursorError("not a cursor") from exc
    match position:
        case [first, second] if type(first) is kinds[0] and type(second) is kinds[1]:
            if _storable(first) and _storable(second):
                return first, second
    raise InvalidCursorError("not a cursor of this list")


def _payload(cursor: str, scope: tuple[str, ...]) -> bytes:
    if len(cursor) > _MAX_LENGTH or not cursor.isascii():
        raise InvalidCursorError("not a cursor")
    raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    payload = raw[_CHECK_BYTES:]
    if _text(raw) != cursor or raw[:_CHECK_BYTES] != _check(payload, scope):
        raise InvalidCursorError("not a cursor of this list")
    return payload


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def _check(payload: bytes, scope: tuple[str, ...]) -> bytes:
    framed = orjson.dumps([part.encode("utf-8", "surrogatepass").hex() for part in scope])
    return hashlib.sha256(framed + payload).digest()[:_CHECK_BYTES]


def _storable(value: object) -> bool:
    return not isinstance(value, int) or abs(value) <= _MAX_INT

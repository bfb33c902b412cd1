"""Names of rows and blobs: run ids that double as idempotency keys, sortable ids, owner-bound keys."""

import hashlib
import re
import string
from collections.abc import Callable
from typing import Final

from storage.records import Owner

ID_LENGTH: Final = 26
"""Characters of a run id and of an id made by `IdSource`."""

_CROCKFORD: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_RFC_4648: Final = "abcdefghijklmnopqrstuvwxyz234567"
_RANDOM_BITS: Final = 80
_PLAIN: Final = frozenset((string.ascii_lowercase + string.digits + "-").encode())
_MAX_PART: Final = 200
"""Below the 255 bytes that common file systems allow one name, and 3 x 200 below S3's 1,024."""

_PART: Final = re.compile(r"[a-z0-9_-]{1,200}")
_KEY: Final = re.compile(r"[a-z0-9_-]{1,200}(?:/[a-z0-9_-]{1,200}){2}")


def run_id(owner: Owner, send_id: str) -> str:
    """Return the id of the run that this owner's `send` or `regenerate` with that id opens.

    Lowercase base32 of SHA-256 over tenant, user and send id, 26 characters (130 bits). Each part is
    preceded by its length, so no two different triples are framed alike.
    """
    framed = b"".join(map(_framed, (owner.tenant_id, owner.user_id, send_id)))
    digest = int.from_bytes(hashlib.sha256(framed).digest(), "big")
    return _base32(digest >> 256 - 5 * ID_LENGTH, _RFC_4648)


class IdSource:
    """Makes ids that sort by creation, also within one millisecond and when the clock steps back.

    A ULID (48 bits of milliseconds, 80 random bits, Crockford base32) in lowercase, 26 characters;
    see https://github.com/ulid/spec. Not thread-safe: one source per event loop.

    Args:
        clock: Unix time in seconds.
        random_bytes: returns that many random bytes, such as `secrets.token_bytes`.
    """

    def __init__(self, clock: Callable[[], float], random_bytes: Callable[[int], bytes]) -> None:
        self._clock = clock
        self._random_bytes = random_bytes
        self._latest = 0

    def new(self) -> str:
        """Return an id that is greater than every one made by this source before."""
        value = (int(self._clock() * 1000) << _RANDOM_BITS) | self._random(_RANDOM_BITS // 8)
        if value >> _RANDOM_BITS <= self._latest >> _RANDOM_BITS:
            # The same millisecond, or the clock stepped back.
            value = self._latest + 1 + self._random(4)
        self._latest = value
        return _base32(value, _CROCKFORD)

    def _random(self, size: int) -> int:
        return int.from_bytes(self._random_bytes(size), "big")


def _base32(value: int, alphabet: str) -> str:
    """Return the `ID_LENGTH` characters of a number below 2**130, five bits each."""
    return "".join([alphabet[value >> shift & 31] for shift in range(5 * ID_LENGTH - 5, -1, -5)])


def blob_key(owner: Owner, payload_id: str) -> str:
    """Return the key of that owner's blob: three escaped parts, `tenant/user/payload`.

    The result holds only `a-z 0-9 _ - /`: it means the same in a URL path, as an S3 key and on file
    systems that ignore case, and has no `.` or `..` to climb out by.
    """
    return f"{_prefix(owner)}{_escaped(payload_id)}"


def owns(owner: Owner, key: str) -> bool:
    """Whether the key lies below that owner's prefix and has the form that `blob_key` makes."""
    prefix = _prefix(owner)
    return key.startswith(prefix) and _PART.fullmatch(key, len(prefix)) is not None


def is_blob_key(key: str) -> bool:
    """Whether the text has the form of a key made by `blob_key`, for whatever owner."""
    return _KEY.fullmatch(key) is not None


def _framed(part: str) -> bytes:
    encoded = part.encode("utf-8", "surrogatepass")
    return len(encoded).to_bytes(4, "big") + encoded


def _prefix(owner: Owner) -> str:
    return f"{_escaped(owner.tenant_id)}/{_escaped(owner.user_id)}/"


def _escaped(part: str) -> str:
    """Escape all but `a-z 0-9 -` as `_xx`; name what is empty or too long by its hash instead.

    `__` never starts an escape, so a hash is never mistaken for an escaped text.
    """
    encoded = part.encode("utf-8", "surrogatepass")
    escaped = "".join(chr(byte) if byte in _PLAIN else f"_{byte:02x}" for byte in encoded)
    if 0 < len(escaped) <= _MAX_PART:
        return escaped
    return f"__{hashlib.sha256(encoded).hexdigest()}"

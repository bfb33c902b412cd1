"""A JWK set (RFC 7517) in, prepared RS256 verification keys out."""

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from jose import jwk
from jose.backends.base import Key
from jose.constants import ALGORITHMS

from gateway.identity.errors import JwksDocumentError

MAX_DOCUMENT_BYTES: Final = 64 * 1024
"""Largest key document that is read; a set of a hundred keys is about 40 KB."""

MAX_KEY_ID_CHARS: Final = 256
MIN_RSA_BITS: Final = 2048  # RFC 7518 section 3.3
MAX_RSA_BITS: Final = 8192  # the cost of a check grows with the square of the size
MAX_RSA_EXPONENT: Final = 2**32

_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PublicKey:
    """One key of an issuer, built once: building it costs more than using it.

    Attributes:
        kid: the name that tokens know it by.
        modulus: tells two keys of one name apart.
        rs256: python-jose's RSA key, bound to RS256 whatever a token's header says.
    """

    kid: str
    modulus: int
    rs256: Key

    def verifies(self, signed: bytes, signature: bytes) -> bool:
        """Tell whether `signature` is this key's RS256 signature of `signed`."""
        return bool(self.rs256.verify(signed, signature))


KeySet = Mapping[str, PublicKey]


class FixedKeys:
    """Keys that never change while the process lives, such as the server's own."""

    def __init__(self, keys: KeySet) -> None:
        self._keys = keys

    async def find(self, kid: str) -> PublicKey | None:
        """Return the key of that name, or `None`. Never waits."""
        return self._keys.get(kid)

    async def settle(self) -> None:
        """Return at once: nothing is ever under way."""

    async def aclose(self) -> None:
        """Return at once: there is nothing to release."""


def read_jwks(document: bytes) -> KeySet:
    """Read an issuer's key document.

    Entries that cannot be used are skipped one by one, so that an odd key never breaks the others:
    other types than RSA, other uses than `sig`, other algorithms than RS256, sizes outside 2048 to
    8192 bits, a missing or odd `kid`, and private keys (whoever publishes one has lost it). A name
    that two different usable keys share is dropped: nobody could say which one a token means.

    Returns:
        At least one key, by its `kid`.

    Raises:
        JwksDocumentError: too large, not a JWK set, or without one usable key. An issuer's mistake; to
            stop trusting an issuer, remove it from the settings.
    """
    if len(document) > MAX_DOCUMENT_BYTES:
        raise JwksDocumentError("the key document is too large")
    try:
        content = orjson.loads(document)
    except orjson.JSONDecodeError as exc:
        raise JwksDocumentError("the key document is not JSON") from exc
    entries = content.get("keys") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise JwksDocumentError("the key document is not a JWK set")
    keys = _by_name(key for key in map(_prepare, entries) if key is not None)
    if not keys:
        raise JwksDocumentError("the key document holds no usable key")
    return keys


def prepare_key(kid: str, key: rsa.RSAPublicKey) -> PublicKey:
    """Make a verification key of an RSA public key. The caller has judged its size and name."""
    return PublicKey(
        kid=kid, modulus=key.public_numbers().n, rs256=jwk.construct(key, ALGORITHMS.RS256)
    )


def _by_name(prepared: Iterable[PublicKey]) -> KeySet:
    keys: dict[str, PublicKey] = {}
    ambiguous: set[str] = set()
    for key in prepared:
        if keys.setdefault(key.kid, key).modulus != key.modulus:
            ambiguous.add(key.kid)
    return {kid: key for kid, key in keys.items() if kid not in ambiguous}


def _prepare(entry: object) -> PublicKey | None:
    if not isinstance(entry, dict) or not _is_for_rs256_signatures(entry):
        return None
    kid = entry.get("kid")
    if not isinstance(kid, str) or not 1 <= len(kid) <= MAX_KEY_ID_CHARS:
        return None
    modulus, exponent = _number(entry.get("n")), _number(entry.get("e"))
    if not MIN_RSA_BITS <= modulus.bit_length() <= MAX_RSA_BITS:
        return None
    # OpenSSL takes an even modulus and only fails when the key is used.
    if modulus % 2 == 0 or exponent > MAX_RSA_EXPONENT:
        return None
    try:
        return prepare_key(kid, rsa.RSAPublicNumbers(exponent, modulus).public_key())
    except (ValueError, UnsupportedAlgorithm):
        return None


def _is_for_rs256_signatures(entry: Mapping[object, object]) -> bool:
    operations = entry.get("key_ops", ["verify"])
    return (
        entry.get("kty") == "RSA"
        and entry.get("use", "sig") == "sig"
        and entry.get("alg", ALGORITHMS.RS256) == ALGORITHMS.RS256
        and isinstance(operations, list)
        and "verify" in operations
        and "d" not in entry
    )


def _number(text: object) -> int:
    """Decode a Base64urlUInt (RFC 7518 section 2); 0, which no check lets pass, if it is none."""
    if not isinstance(text, str) or not _BASE64URL.fullmatch(text):
        return 0
    try:
        return int.from_bytes(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except ValueError:
        return 0

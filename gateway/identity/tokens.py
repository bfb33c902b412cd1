"""Proving a JSON Web Token (RFC 7519, RS256), given the keys. Pure.

python-jose does the RSA arithmetic; all that is read from a token before and after is read here,
because a token is hostile until its last check. The order is fixed, each step may rely on those
before it, and the first failure ends the matter:

1. size and shape: at most 16 KiB, three segments, each canonical unpadded base64url;
2. header: a JSON object without duplicate names; `alg` is exactly RS256; no extension that changes
   what is signed (`crit`, `b64`, `cty`); a `typ` of an access or id token if any; `kid` a string.
   Keys that a token brings along or points to (`jku`, `jwk`, `x5u`, `x5c`) are never looked at;
3. payload: a JSON object without duplicate names. Until step 5 it is a claim, not knowledge;
4. key: the one prepared under that `kid`;
5. signature;
6. claims: see `gateway.identity.claims`.
"""

import base64
import json
import re
from dataclasses import dataclass
from typing import Final, NoReturn

from gateway.identity.claims import Claims, TokenRules, check_claims
from gateway.identity.errors import Flaw, TokenInvalidError
from gateway.identity.keys import MAX_KEY_ID_CHARS, PublicKey
from gateway.identity.principal import Principal

MAX_TOKEN_BYTES: Final = 16 * 1024

MAX_DEPTH: Final = 256
"""How deep a header or claims may nest: how deep Python's decoder goes depends on its version."""

# RFC 8725 section 3.11: without the type, another token of the same issuer (a logout token, say)
# would pass as proof of identity. RFC 9068 names the access token's type.
_ACCEPTED_TYPES: Final = frozenset({"jwt", "at+jwt", "application/jwt", "application/at+jwt"})

# `crit` asks for extensions (RFC 7515 section 4.1.11), `b64` changes what is signed (RFC 7797), and
# `cty` says that the payload is a token again (RFC 7519 section 5.2). None is implemented here.
_REFUSED_EXTENSIONS: Final = frozenset({"crit", "b64", "cty"})

_SHAPE: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnprovedToken:
    """A well-formed token that nobody has vouched for.

    Attributes:
        kid: the key that it claims to be signed with.
        claims: what it claims; good for choosing among configured issuers and for nothing else.
        signed: the bytes that the signature covers.
        signature: as decoded.
    """

    kid: str
    claims: Claims
    signed: bytes
    signature: bytes


def parse(token: str) -> UnprovedToken:
    """Take a token apart: steps 1 to 3. The outcome must go through `prove`.

    Raises:
        TokenInvalidError: not a token of the form accepted here.
    """
    if len(token) > MAX_TOKEN_BYTES:
        raise TokenInvalidError(Flaw.SIZE)
    shape = _SHAPE.fullmatch(token)
    if shape is None:
        raise TokenInvalidError(Flaw.SHAPE)
    header, payload, signature = (_decode(segment) for segment in shape.groups())
    return UnprovedToken(
        kid=_read_header(_json_object(header, Flaw.HEADER)),
        claims=_json_object(payload, Flaw.PAYLOAD),
        signed=token[: shape.end(2)].encode("ascii"),
        signature=signature,
    )


def prove(token: UnprovedToken, *, key: PublicKey, rules: TokenRules, now: float) -> Principal:
    """Check signature and claims: steps 5 and 6.

    Args:
        token: from `parse`.
        key: the one that the issuer of these rules has published under the token's `kid`.
        rules: the issuer's.
        now: Unix time in seconds.

    Raises:
        TokenInvalidError: the caller's fault; its `flaw` names the check.
        TokenExpiredError: good in every other respect, but its time is over.
    """
    try:
        genuine = key.verifies(token.signed, token.signature)
    except Exception as exc:
        # Whatever a library makes of hostile bytes, it is the token that is at fault.
        raise TokenInvalidError(Flaw.SIGNATURE) from exc
    if not genuine:
        raise TokenInvalidError(Flaw.SIGNATURE)
    return check_claims(token.claims, rules=rules, now=now)


def _decode(segment: str) -> bytes:
    """Decode base64url, accepting one spelling per value (RFC 4648 section 3.5).

    Python ignores stray bits in the last character, so that several texts would be one token.
    """
    encoded = segment.encode("ascii")
    try:
        decoded = base64.urlsafe_b64decode(encoded + b"=" * (-len(encoded) % 4))
    except ValueError as exc:
        raise TokenInvalidError(Flaw.SHAPE) from exc
    if base64.urlsafe_b64encode(decoded).rstrip(b"=") != encoded:
        raise TokenInvalidError(Flaw.SHAPE)
    return decoded


def _read_header(header: Claims) -> str:
    """Return the `kid` of an acceptable header."""
    if header.get("alg") != "RS256":
        raise TokenInvalidError(Flaw.ALGORITHM)
    if not _REFUSED_EXTENSIONS.isdisjoint(header):
        raise TokenInvalidError(Flaw.EXTENSION)
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.lower() not in _ACCEPTED_TYPES:
        raise TokenInvalidError(Flaw.TYPE)
    kid = header.get("kid")
    if not isinstance(kid, str) or not 1 <= len(kid) <= MAX_KEY_ID_CHARS:
        raise TokenInvalidError(Flaw.KEY_ID)
    return kid


def _json_object(encoded: bytes, flaw: Flaw) -> Claims:
    try:
        content = _STRICT_JSON.decode(encoded.decode("utf-8"))
    except (ValueError, RecursionError) as exc:
        raise TokenInvalidError(flaw) from exc
    if not isinstance(content, dict) or _is_too_deep(content):
        raise TokenInvalidError(flaw)
    return content


def _is_too_deep(content: object) -> bool:
    level = [content]
    for _ in range(MAX_DEPTH):
        inside: list[object] = []
        for value in level:
            if isinstance(value, dict):
                inside += value.values()
            elif isinstance(value, list):
                inside += value
        if not inside:
            return False
        level = inside
    return True


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate member name")
    return members


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


# orjson is stricter on numbers and text but keeps the last of two equal names without a word; two
# readers of one token must never see different values (RFC 8725 section 2.4).
_STRICT_JSON: Final = json.JSONDecoder(object_pairs_hook=_members, parse_constant=_refuse_constant)

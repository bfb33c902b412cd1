"""The server as its own issuer, for the embedded default: no account anywhere, same checks as ever."""

import base64
import hashlib
from typing import Final

import orjson
from cryptography.hazmat.primitives.asymmetric import rsa
from jose import jwk, jws
from jose.constants import ALGORITHMS

from gateway.identity.claims import TokenRules
from gateway.identity.keys import FixedKeys, prepare_key
from gateway.identity.principal import USER_ID
from gateway.identity.verifier import TrustedIssuer

MAX_TTL_S: Final = 24 * 3600


class LocalIssuer:
    """Mints and vouches for tokens with a key of its own. Holds nothing that must be released.

    Its tokens have the form of Cognito's access tokens, so that nothing in the gateway tells them apart.

    Args:
        key: from `gateway.identity.local_key.load_or_create_key`.
        issuer: the `iss` of its tokens; a URL of this server by convention.
        audience: the client id that its tokens are for.
        tenant_id: the tenant it speaks for. Another tenant takes another issuer; the key may be shared.

    Raises:
        ValueError: an empty issuer or audience, or a malformed tenant id.
    """

    def __init__(
        self, key: rsa.RSAPrivateKey, *, issuer: str, audience: str, tenant_id: str
    ) -> None:
        self._rules = TokenRules(
            issuer=issuer,
            audience=frozenset({audience}),
            tenant_id=tenant_id,
            token_use="access",  # noqa: S106 - a kind of token
        )
        self._audience = audience
        self._public = key.public_key()
        self._numbers = _published(self._public)
        self._kid = _thumbprint(self._numbers)
        self._signer = jwk.construct(key, ALGORITHMS.RS256)

    def trusted(self) -> TrustedIssuer:
        """Return the entry for the verifier; its keys come from memory, nothing is fetched."""
        return TrustedIssuer(
            rules=self._rules,
            keys=FixedKeys({self._kid: prepare_key(self._kid, self._public)}),
        )

    def jwks_document(self) -> bytes:
        """Return the JWK set to serve: the public key alone."""
        entry = {**self._numbers, "kid": self._kid, "use": "sig", "alg": ALGORITHMS.RS256}
        return orjson.dumps({"keys": [entry]})

    def mint(self, user_id: str, *, ttl_s: int, now: float) -> str:
        """Return a signed token for that user of this issuer's tenant.

        Costs about 0.3 ms of CPU and keeps no record: a token is good until it expires.

        Args:
            user_id: the `sub`.
            ttl_s: lifetime in seconds, 1 to 86,400. Keep it short: nothing takes a token back.
            now: Unix time in seconds.

        Raises:
            ValueError: a malformed user id or a lifetime out of range; the caller's fault.
        """
        if not USER_ID.fullmatch(user_id):
            raise ValueError(f"a user id must match {USER_ID.pattern}")
        if not 1 <= ttl_s <= MAX_TTL_S:
            raise ValueError(f"a token lives 1 to {MAX_TTL_S} seconds, not {ttl_s}")
        issued_at = int(now)
        claims = {
            "iss": self._rules.issuer,
            "sub": user_id,
            "aud": self._audience,
            "client_id": self._audience,
            "token_use": self._rules.token_use,
            "iat": issued_at,
            "nbf": issued_at,
            "exp": issued_at + ttl_s,
        }
        token: str = jws.sign(
            orjson.dumps(claims), self._signer, {"kid": self._kid}, ALGORITHMS.RS256
        )
        return token


def _published(key: rsa.RSAPublicKey) -> dict[str, str]:
    """Return the required members of an RSA JWK (RFC 7518 section 6.3.1)."""
    numbers = key.public_numbers()
    return {"kty": "RSA", "n": _base64url_uint(numbers.n), "e": _base64url_uint(numbers.e)}


def _thumbprint(numbers: dict[str, str]) -> str:
    """Name a key by what it is (RFC 7638): a new key has a new name, the same key keeps its own."""
    return _base64url(hashlib.sha256(orjson.dumps(numbers, option=orjson.OPT_SORT_KEYS)).digest())


def _base64url_uint(value: int) -> str:
    return _base64url(value.to_bytes((value.bit_length() + 7) // 8))


def _base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode("ascii")

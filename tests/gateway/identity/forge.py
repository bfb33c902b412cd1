"""Tokens as issuers make them, and as attackers do.

A forged token is good in every respect but the one that the test names: it carries a true RS256
signature of whatever it says, so that only the check under test can refuse it.
"""

import base64
import functools
import json
from collections.abc import Mapping

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from gateway.identity.claims import TokenRules
from gateway.identity.keys import FixedKeys, KeySet, prepare_key
from gateway.identity.principal import Principal
from gateway.identity.verifier import TokenVerifier, TrustedIssuer

NOW = 1_800_000_000.0
ISSUER = "https://issuer.example/pool"
CLIENT = "client-1"
KID = "key-1"

RULES = TokenRules(
    issuer=ISSUER,
    audience=frozenset({CLIENT, "client-2"}),
    tenant_id="acme",
    token_use="access",
    leeway_s=30,
)
ID_RULES = TokenRules(
    issuer=ISSUER, audience=frozenset({CLIENT}), tenant_id="acme", token_use="id", leeway_s=30
)
OIDC_RULES = TokenRules(issuer=ISSUER, audience=frozenset({CLIENT}), tenant_id="acme", leeway_s=30)

HEADER: Mapping[str, object] = {"alg": "RS256", "kid": KID}
CLAIMS: Mapping[str, object] = {
    "iss": ISSUER,
    "sub": "user-1",
    "client_id": CLIENT,
    "aud": CLIENT,
    "token_use": "access",
    "iat": NOW - 60,
    "nbf": NOW - 60,
    "exp": NOW + 3600,
}

DROP = object()
"""As a value: leave the member out."""


def private_key(name: str = "issuer", bits: int = 2048) -> rsa.RSAPrivateKey:
    """Return the key pair of that name, the same one all through a test run."""
    return _made_once(name, bits)


@functools.cache
def _made_once(_name: str, bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


@functools.cache
def keys() -> KeySet:
    return {KID: prepare_key(KID, private_key().public_key())}


def b64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def number(value: int) -> str:
    return b64(value.to_bytes((value.bit_length() + 7) // 8))


def dumps(members: Mapping[str, object]) -> bytes:
    kept = {name: value for name, value in members.items() if value is not DROP}
    return json.dumps(kept, separators=(",", ":")).encode()


def sign(signed: str, key: str = "issuer") -> str:
    """Sign two segments and return the three."""
    signature = private_key(key).sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{signed}.{b64(signature)}"


def token(
    header: Mapping[str, object] | bytes | None = None,
    claims: Mapping[str, object] | bytes | None = None,
    key: str = "issuer",
) -> str:
    """Return a signed token; mappings override members, bytes replace the whole segment."""
    head = header if isinstance(header, bytes) else dumps({**HEADER, **(header or {})})
    body = claims if isinstance(claims, bytes) else dumps({**CLAIMS, **(claims or {})})
    return sign(f"{b64(head)}.{b64(body)}", key)


def verify(made: str, *, keys: KeySet, rules: TokenRules, now: float) -> Principal:
    """Prove a token as the gateway does, where these keys and rules are all that it trusts."""
    verifier = TokenVerifier([TrustedIssuer(rules=rules, keys=FixedKeys(keys))])
    try:
        verifier.identify(made, now=now).send(None)
    except StopIteration as done:
        proved: Principal = done.value
        return proved
    raise AssertionError("keys that are there are not waited for")


def jwk(
    kid: object = KID, key: str = "issuer", bits: int = 2048, **members: object
) -> dict[str, object]:
    """Return an entry of a key document; `DROP` leaves a member out."""
    public = private_key(key, bits).public_key().public_numbers()
    entry = {
        "kty": "RSA",
        "use": "sig",
        "alg": "RS256",
        "kid": kid,
        "n": number(public.n),
        "e": number(public.e),
        **members,
    }
    return {name: value for name, value in entry.items() if value is not DROP}


def document(*entries: object) -> bytes:
    return json.dumps({"keys": list(entries)}).encode()

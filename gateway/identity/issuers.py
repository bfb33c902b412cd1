"""Which issuers are trusted, as the operator lists them. Pure; without pydantic, for cold starts.

The list is JSON (`MAKOTO_ISSUERS`)::

    [{"issuer": "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_EXAMPLE",
      "audience": ["1example23456789"], "token_use": "access", "tenant": "acme"},
     {"issuer": "https://id.example/", "jwks_url": "https://id.example/keys",
      "audience": ["makoto"], "tenant": "beta"}]

An Amazon Cognito user pool is known by its issuer URL: it publishes its keys below that, so `jwks_url`
may be left out, and it signs two kinds of tokens with the same keys, so `token_use` may not
("Verifying JSON web tokens" in Amazon's Cognito developer guide).
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast, get_args
from urllib.parse import urlsplit

from gateway.identity.claims import TokenRules, TokenUse

MAX_URL_CHARS: Final = 1024

_FIELDS: Final = ("issuer", "jwks_url", "audience", "token_use", "tenant")
_USER_POOL: Final = re.compile(
    r"https://cognito-idp\.[a-z0-9-]+\.amazonaws\.com(?:\.cn)?/[A-Za-z0-9_-]+"
)
_VISIBLE: Final = re.compile(rf"[!-~]{{1,{MAX_URL_CHARS}}}")
_LOOPBACK_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """One trusted issuer.

    Attributes:
        rules: what its tokens must say.
        jwks_url: where it publishes its keys.

    Raises:
        ValueError: the keys could be read or changed on their way.
    """

    rules: TokenRules
    jwks_url: str

    def __post_init__(self) -> None:
        require_safe_url(self.jwks_url)


def make_issuer(
    issuer: str,
    *,
    audience: Sequence[str],
    tenant: str,
    jwks_url: str | None = None,
    token_use: TokenUse | None = None,
) -> Issuer:
    """Make one issuer of what the operator says of it.

    Args:
        issuer: the exact `iss`.
        audience: the accepted audiences or client ids.
        tenant: the tenant it speaks for.
        jwks_url: where it publishes its keys; `None` for a user pool's own place.
        token_use: which of a user pool's two kinds of token; `None` for other issuers.

    Raises:
        ValueError: it cannot be trusted like that; one line.
    """
    if not _VISIBLE.fullmatch(issuer):
        raise ValueError("an issuer is 1 to 1,024 visible ASCII characters")
    if token_use is None and is_user_pool(issuer):
        raise ValueError(f"issuer {issuer}: a user pool needs its token_use, access or id")
    if jwks_url is None and not is_user_pool(issuer):
        raise ValueError(f"issuer {issuer}: its jwks_url is missing")
    rules = TokenRules(
        issuer=issuer, audience=frozenset(audience), tenant_id=tenant, token_use=token_use
    )
    return Issuer(rules=rules, jwks_url=jwks_url or f"{issuer}/.well-known/jwks.json")


def is_user_pool(issuer: str) -> bool:
    """Whether an `iss` is that of an Amazon Cognito user pool."""
    return _USER_POOL.fullmatch(issuer) is not None


def read_issuers(text: str) -> tuple[Issuer, ...]:
    """Read the operator's list.

    Two issuers may speak for one tenant; a `sub` of both is then one person.

    Returns:
        At least one issuer, each `iss` once.

    Raises:
        ValueError: anything else than such a list; one line that names the entry.
    """
    try:
        entries = _JSON.decode(text)
    except RecursionError:
        raise ValueError("not a list of issuers in JSON") from None
    except json.JSONDecodeError as exc:
        raise ValueError(f"not JSON: {exc}") from None
    if not isinstance(entries, list) or not entries:
        raise ValueError("a JSON list with at least one issuer is wanted")
    issuers = [_read_entry(at, entry) for at, entry in enumerate(entries, start=1)]
    named = [issuer.rules.issuer for issuer in issuers]
    for at, name in enumerate(named, start=1):
        if name in named[: at - 1]:
            raise ValueError(f"entry {at}: issuer {name} is listed twice")
    return tuple(issuers)


def require_safe_url(url: str) -> None:
    """Check that keys fetched from there are those that the issuer serves.

    Raises:
        ValueError: not `https`, nor `http` on loopback; or no plain URL. One line.
    """
    parts = urlsplit(url)
    schemes = {"https", "http"} if parts.hostname in _LOOPBACK_HOSTS else {"https"}
    is_plain = _VISIBLE.fullmatch(url) and parts.hostname and "@" not in parts.netloc
    is_plain = is_plain and parts.port != 0  # raises, too, if it is no number
    if not is_plain or parts.scheme not in schemes:
        raise ValueError(f"key document URL must be https, or http on loopback: {ascii(url)[:200]}")


def _read_entry(at: int, entry: object) -> Issuer:
    try:
        fields = _fields(entry)
        return make_issuer(
            _text(fields, "issuer"),
            jwks_url=_text(fields, "jwks_url") if "jwks_url" in fields else None,
            audience=_texts(fields, "audience"),
            token_use=_token_use(fields) if "token_use" in fields else None,
            tenant=_text(fields, "tenant"),
        )
    except ValueError as exc:
        raise ValueError(f"entry {at}: {exc}") from None


def _fields(entry: object) -> Mapping[str, object]:
    named = ", ".join(_FIELDS)
    if not isinstance(entry, dict):
        raise ValueError(f"an object is wanted, with {named}")  # noqa: TRY004 - the operator's value
    for name in entry:
        if name not in _FIELDS:
            raise ValueError(f"{ascii(name)[:40]} is none of {named}")
    return entry


def _text(entry: Mapping[str, object], name: str) -> str:
    value = entry.get(name)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} must be a text that is not empty")
    return value


def _texts(entry: Mapping[str, object], name: str) -> list[str]:
    value = entry.get(name)
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ValueError(f"{name} must be a list of texts")
    return value


def _token_use(entry: Mapping[str, object]) -> TokenUse:
    value = entry["token_use"]
    if value not in get_args(TokenUse):
        raise ValueError("token_use must be access or id")
    return cast("TokenUse", value)


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a JSON object names one member twice")
    return members


# orjson would keep the last of two equal names without a word.
_JSON: Final = json.JSONDecoder(object_pairs_hook=_members)

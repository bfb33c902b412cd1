"""Signature Version 4: how a request to AWS proves who sends it, without the SDK. Pure.

Written after https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from urllib.parse import parse_qsl, quote

ALGORITHM: Final = "AWS4-HMAC-SHA256"
_UNRESERVED: Final = "-_.~"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """An access key, as a Lambda function finds it in its environment.

    Attributes:
        session_token: of temporary credentials.
    """

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a signature is good for: a service, such as `dynamodb`, in a region, on the day it is made."""

    region: str
    service: str


def signed(
    headers: Mapping[str, str],
    *,
    method: str,
    path: str,
    query: str = "",
    body: bytes,
    scope: Scope,
    credentials: Credentials,
    now: float,
) -> dict[str, str]:
    """Return the headers with those that sign the request.

    Args:
        headers: all that shall be signed; `Host` must be among them. Send no other value of these.
        method: in capitals.
        path: as it is sent, percent-encoded, with no empty and no dot segments. (S3 alone signs a path
            in another way, and is not for this function.)
        query: as it is sent, percent-encoded, without the question mark.
        body: the whole body.
        scope: which service is asked.
        credentials: of whoever asks.
        now: Unix time in seconds; AWS accepts five minutes of difference.
    """
    moment = moment_of(now)
    sent = {**headers, "X-Amz-Date": moment}
    if credentials.session_token is not None:
        sent["X-Amz-Security-Token"] = credentials.session_token
    values = {name.lower(): " ".join(value.split()) for name, value in sent.items()}
    names = ";".join(sorted(values))
    request = "\n".join(
        (
            method,
            quote(path, safe=f"/{_UNRESERVED}"),
            _canonical_query(query),
            *(f"{name}:{values[name]}" for name in sorted(values)),
            "",
            names,
            hashlib.sha256(body).hexdigest(),
        )
    )
    reach = reach_of(scope, moment)
    signature = signature_of(text_to_sign(request, moment, reach), reach, credentials)
    sent["Authorization"] = (
        f"{ALGORITHM} Credential={credentials.access_key_id}/{reach},"
        f" SignedHeaders={names}, Signature={signature}"
    )
    return sent


def moment_of(now: float) -> str:
    """Return a Unix time in seconds as signatures name it; fractions are dropped."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")


def reach_of(scope: Scope, moment: str) -> str:
    """Return what follows the access key id in a credential: day, region, service."""
    return f"{moment[:8]}/{scope.region}/{scope.service}/aws4_request"


def text_to_sign(request: str, moment: str, reach: str) -> str:
    """Return what is signed of a canonical request."""
    digest = hashlib.sha256(request.encode()).hexdigest()
    return "\n".join((ALGORITHM, moment, reach, digest))


def signature_of(text: str, reach: str, credentials: Credentials) -> str:
    """Return the signature of a text, in lowercase hexadecimal digits."""
    return _hmac(_signing_key(credentials.secret_access_key, reach), text).hex()


def _canonical_query(query: str) -> str:
    pairs = parse_qsl(query, keep_blank_values=True)
    encoded = sorted((quote(k, safe=_UNRESERVED), quote(v, safe=_UNRESERVED)) for k, v in pairs)
    return "&".join(f"{name}={value}" for name, value in encoded)


def _signing_key(secret: str, reach: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in reach.split("/"):
        key = _hmac(key, part)
    return key


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()

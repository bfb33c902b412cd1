"""What the AWS host is told by its environment; read without pydantic, for cold starts.

The names and places that belong to AWS are here; what a gateway may be told anywhere, such as its model
and characters, stays in `gateway.settings`, which the functions that need it read from `rest`.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from gateway.identity.issuers import Issuer, read_issuers
from storage.sigv4 import Credentials

_ONLY_ON_AWS: Final = {
    "data_table": "MAKOTO_DATA_TABLE",
    "door_table": "MAKOTO_DOOR_TABLE",
    "bucket": "MAKOTO_BUCKET",
    "reply_function": "MAKOTO_REPLY_FUNCTION",
    "connections_url": "MAKOTO_CONNECTIONS_URL",
    "model_secret": "MAKOTO_MODEL_SECRET",
    "posts_per_second": "MAKOTO_POSTS_PER_SECOND",
}
_SHARED: Final = {
    "issuers": "MAKOTO_ISSUERS",
    "allowed_origins": "MAKOTO_ALLOWED_ORIGINS",
    "log_level": "MAKOTO_LOG_LEVEL",
    "region": "AWS_REGION",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsSettings:
    """What the functions on AWS are told. Each needs a part of it; the others may be empty.

    Attributes:
        region: as `eu-central-1`.
        credentials: of the function's role. Lambda puts them into the environment of a process when that
            starts, never renews them there, and ends the process before they expire. SnapStart, which has
            no such variables, is not for these functions; see
            https://docs.aws.amazon.com/lambda/latest/dg/snapstart-activate.html.
        dynamodb_url, s3_url, lambda_url, secretsmanager_url, ssm_url: where these services are, if not at
            AWS.
        data_table: table of all that belongs to owners.
        door_table: table of connections, tickets and key documents.
        bucket: where payloads lie.
        reply_function: name or ARN of the function that generates replies.
        connections_url: `https://{api}.execute-api.{region}.amazonaws.com/{stage}`, where frames are
            posted; empty: told by the event that is handled.
        issuers: whose tokens are accepted; none: nobody can connect.
        allowed_origins: exact origins of the pages that may connect.
        model_secret: where the provider's key is: the ARN of a secret, or `ssm:/name`; empty: none is
            needed, or the ordinary settings hold it.
        posts_per_second: budget of posts, of all functions together; 0 for none.
        log_level: least severe log lines that are written.
        rest: all other variables, for `gateway.settings.read_settings`.
    """

    region: str = ""
    credentials: Credentials | None = None
    dynamodb_url: str | None = None
    s3_url: str | None = None
    lambda_url: str | None = None
    secretsmanager_url: str | None = None
    ssm_url: str | None = None
    data_table: str = ""
    door_table: str = ""
    bucket: str = ""
    reply_function: str = ""
    connections_url: str = ""
    issuers: tuple[Issuer, ...] = ()
    allowed_origins: frozenset[str] = frozenset()
    model_secret: str = ""
    posts_per_second: float = 0.0
    log_level: str = "info"
    rest: Mapping[str, str] = field(default_factory=dict, repr=False)

    def require(self, *fields: str) -> None:
        """Check that these are set.

        Raises:
            ValueError: one is not; the text names its variable.
        """
        for name in fields:
            if not getattr(self, name):
                raise ValueError(f"{(_ONLY_ON_AWS | _SHARED)[name]} is not set")

    def signing(self) -> tuple[str, Credentials]:
        """Return what requests to AWS are signed for and with: the region and the credentials.

        Raises:
            ValueError: one is not set; the text names its variable.
        """
        self.require("region")
        if self.credentials is None:
            raise ValueError("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set")
        return self.region, self.credentials


def read_aws_settings(environ: Mapping[str, str] | None = None) -> AwsSettings:
    """Read the settings.

    Args:
        environ: instead of this process's environment.

    Raises:
        ValueError: a value is not valid; the operator's to mend. The text is one line and names it.
    """
    source = os.environ if environ is None else environ  # noqa: TID251 - see the module's text
    values = {name: source.get(variable, "").strip() for name, variable in _ONLY_ON_AWS.items()}
    shared = {name: source.get(variable, "").strip() for name, variable in _SHARED.items()}
    ours = {*_ONLY_ON_AWS.values(), _SHARED["issuers"]}
    posts = values.pop("posts_per_second")
    connections_url = values.pop("connections_url").rstrip("/")
    if connections_url and urlsplit(connections_url).scheme not in {"https", "http"}:
        raise ValueError("MAKOTO_CONNECTIONS_URL must begin with https:// (or http://)")
    return AwsSettings(
        region=shared["region"] or source.get("AWS_DEFAULT_REGION", ""),
        credentials=_credentials(source),
        dynamodb_url=_endpoint(source, "DYNAMODB"),
        s3_url=_endpoint(source, "S3"),
        lambda_url=_endpoint(source, "LAMBDA"),
        secretsmanager_url=_endpoint(source, "SECRETS_MANAGER"),
        ssm_url=_endpoint(source, "SSM"),
        issuers=_issuers(shared["issuers"]) if shared["issuers"] not in {"", "[]"} else (),
        allowed_origins=frozenset(_listed(shared["allowed_origins"])),
        log_level=shared["log_level"] or "info",
        posts_per_second=_rate(posts) if posts else 0.0,
        connections_url=connections_url,
        rest={name: value for name, value in source.items() if name not in ours},
        **values,
    )


def _credentials(source: Mapping[str, str]) -> Credentials | None:
    key_id, secret = source.get("AWS_ACCESS_KEY_ID"), source.get("AWS_SECRET_ACCESS_KEY")
    if not key_id or not secret:
        return None
    return Credentials(
        access_key_id=key_id,
        secret_access_key=secret,
        session_token=source.get("AWS_SESSION_TOKEN") or None,
    )


def _endpoint(source: Mapping[str, str], service: str) -> str | None:
    """Return what the SDK would go by, too (its "service-specific endpoints")."""
    return source.get(f"AWS_ENDPOINT_URL_{service}") or source.get("AWS_ENDPOINT_URL") or None


def _issuers(text: str) -> tuple[Issuer, ...]:
    try:
        return read_issuers(text)
    except ValueError as exc:
        raise ValueError(f"{_SHARED['issuers']}: {exc}") from None


def _listed(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not 0 <= rate < math.inf:
        raise ValueError("MAKOTO_POSTS_PER_SECOND must be a number, 0 or more")
    return rate

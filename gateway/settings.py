"""The configuration: every setting, its default and unit, read from the environment.

Nothing else reads that, but `gateway.aws_settings` for functions that must start fast. A setting
`data_dir` is read from `MAKOTO_DATA_DIR`; those of the providers keep the names that their own tools use.
Names that end in `_s` are seconds, in `_bytes` bytes. The table in README.md is made from here, by
`gateway.settings_table`.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from gateway.identity.issuers import Issuer, is_user_pool, make_issuer, read_issuers
from gateway.identity.principal import TENANT_ID

PREFIX = "MAKOTO_"

DEFAULT_SYSTEM_TEXT = (
    "You are Makoto, a warm and attentive companion. Answer in the user's language, honestly and to "
    "the point; Markdown is shown as such. Always answer by calling the function `reply`."
)


class SettingsError(Exception):
    """A setting is not valid; the operator's to mend. The text is one line and names it."""


def _listed(value: object) -> object:
    if isinstance(value, str):
        return tuple(item.strip() for item in value.split(",") if item.strip())
    return value


def _parsed(value: object) -> object:
    return orjson.loads(value) if isinstance(value, str) else value


def _issuers(value: object) -> object:
    return read_issuers(value) if isinstance(value, str) else value


Listed = Annotated[tuple[str, ...], BeforeValidator(_listed)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Bytes = Annotated[int, Field(gt=0)]
_ONE_ISSUER = frozenset({"issuer", "jwks_url", "audience", "token_use", "tenant"})
_OTHER_NAMES = {
    "openai_api_key": "OPENAI_API_KEY",
    "openai_base_url": "OPENAI_BASE_URL",
    "openai_model": "OPENAI_MODEL",
    "azure_endpoint": "AZURE_OPENAI_ENDPOINT",
    "azure_api_key": "AZURE_OPENAI_API_KEY",
    "azure_deployment": "AZURE_OPENAI_DEPLOYMENT",
    "azure_api_version": "OPENAI_API_VERSION",
}


def variable(field: str) -> str:
    """Return the environment variable that a setting is read from."""
    return _OTHER_NAMES.get(field, PREFIX + field.upper())


def key_variable(environ: Mapping[str, str]) -> str:
    """Return the variable of the one key that such an environment lacks: Azure's if it names a resource."""
    on_azure = environ.get(variable("azure_endpoint"), "").strip()
    return variable("azure_api_key" if on_azure else "openai_api_key")


class Settings(BaseModel):
    """Everything an operator may set. Lists are comma-separated; an empty value means the default."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    # Where it listens and what it keeps
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8765, ge=0, le=65535, description="port; 0 picks a free one")
    data_dir: Path = Field(
        Path("var"), description="folder of the database, journal, blobs and keys"
    )
    durability: Literal["process", "power"] = Field(
        "process",
        description="what an accepted message survives: `process` its end, `power` a power cut too",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info",
        description="least severe log lines that are written: `debug`, `info`, `warning`, `error`",
    )

    # Who may connect
    allowed_origins: Listed = Field(
        (),
        description="exact origins of the pages that may connect; the server's own on loopback always "
        "may",
    )
    trusted_proxies: Listed = Field(
        (), description="addresses of reverse proxies whose `X-Forwarded-For` counts"
    )
    issuer: str | None = Field(
        None, description="`iss` of the tokens to accept; unset: the server is its own issuer"
    )
    jwks_url: str | None = Field(
        None, description="where it publishes its keys; a Cognito user pool's need not be named"
    )
    audience: Listed = Field((), description="accepted `aud` (or `client_id` of access tokens)")
    token_use: Literal["access", "id"] | None = Field(
        None,
        description="Amazon Cognito's kind of token to accept, `access` or `id`; unset: not checked",
    )
    tenant: str = Field(
        "default",
        pattern=f"^{TENANT_ID.pattern}$",
        description="the tenant that the issuer speaks for",
    )
    issuers: Annotated[tuple[Issuer, ...], BeforeValidator(_issuers)] = Field(
        (),
        description="instead of the five above, several: a JSON list of objects with `issuer`, "
        "`jwks_url`, `audience` (a list), `token_use` and `tenant`",
    )
    query_token: bool = Field(
        False, description="accept a token as `?token=` (URLs end up in logs: leave it off)"
    )

    # Who answers
    openai_api_key: str | None = Field(
        None, repr=False, description="key of OpenAI or a compatible server"
    )
    openai_base_url: str | None = Field(None, description="everything before `/chat/completions`")
    openai_model: str = Field("gpt-4o-mini", description="model to ask")
    azure_endpoint: str | None = Field(None, description="Azure OpenAI resource; wins over OpenAI")
    azure_api_key: str | None = Field(None, repr=False, description="its key")
    azure_deployment: str | None = Field(None, description="its deployment")
    azure_api_version: str = Field("2024-10-21", description="API version of Azure OpenAI")
    scripted_pace: float = Field(
        40.0, ge=0, description="fragments per second of the keyless model; 0 for no pauses"
    )
    first_token_s: Seconds = Field(30.0, description="deadline of the first part of a reply")
    between_chunks_s: Seconds = Field(30.0, description="longest silence within a reply")
    reply_s: Seconds = Field(300.0, description="deadline of a whole reply")
    reply_tokens: Annotated[int, Field(ge=1)] | None = Field(
        None, description="longest reply in the provider's tokens; unset: the provider's own limit"
    )
    unread_run_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        0.0, description="a reply that nobody has read for so long is interrupted; 0 for never"
    )

    # What is asked and answered
    characters: Annotated[dict[str, str], BeforeValidator(_parsed)] = Field(
        {"makoto": DEFAULT_SYSTEM_TEXT},
        min_length=1,
        description="system texts by character name, a JSON object; the first is the default",
    )
    emotions: Listed = Field(
        ("neutral", "happy", "sad", "surprised", "thoughtful", "excited", "concerned"),
        min_length=1,
        description="values of `emotion`; the first replaces unknown ones",
    )
    categories: Listed = Field(
        ("general", "question", "advice", "story", "technical", "personal"),
        min_length=1,
        description="values of `category`; the first replaces unknown ones",
    )
    history_bytes: Bytes = Field(32_768, description="budget of earlier turns in the prompt")
    memories_bytes: Bytes = Field(4_096, description="budget of memories in the prompt")

    # How much
    content_bytes: Bytes = Field(262_144, description="longest message of a user")
    live_runs: int = Field(
        8, ge=1, description="answers of one user waiting or under way at a time"
    )
    sockets: int = Field(10_000, ge=1, description="open sockets at a time")
    user_sockets: int = Field(100, ge=1, description="open sockets of one user at a time")
    user_commands: int = Field(
        50, ge=1, description="commands of one user each second; four times as many at once"
    )
    idle_s: Seconds = Field(600.0, description="a silent socket is closed after so long")
    lifetime_s: Seconds = Field(7200.0, description="every socket is closed after so long")
    heartbeat_s: Seconds = Field(25.0, description="how often clients are asked to ping")
    shutdown_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        20.0, description="how long answers may go on after SIGTERM"
    )
    purge_s: Seconds = Field(300.0, description="how often expired rows and files are deleted")

    @model_validator(mode="after")
    def _whole(self) -> "Settings":
        self._check_issuers()
        if self.azure_endpoint and not (self.azure_api_key and self.azure_deployment):
            raise ValueError(
                "AZURE_OPENAI_ENDPOINT needs AZURE_OPENAI_API_KEY and AZURE_OPENAI_DEPLOYMENT"
            )
        return self

    def _check_issuers(self) -> None:
        if self.issuers and self.model_fields_set & _ONE_ISSUER:
            one = min(self.model_fields_set & _ONE_ISSUER)
            raise ValueError(f"MAKOTO_ISSUERS and {variable(one)} exclude each other")
        if self.issuer is None and (self.jwks_url or self.audience or self.token_use):
            raise ValueError("MAKOTO_ISSUER is missing: the other settings of one are there")
        if self.issuer and not (self.jwks_url or is_user_pool(self.issuer)):
            raise ValueError("MAKOTO_JWKS_URL must say where the issuer publishes its keys")
        if self.issuer and not self.audience:
            raise ValueError("MAKOTO_AUDIENCE must name at least one audience of the issuer")
        self.trusted_issuers()

    @property
    def provider(self) -> Literal["azure", "openai", "scripted"]:
        """Who answers: Azure OpenAI if a resource is named, else OpenAI if there is a key, else a script."""
        if self.azure_endpoint:
            return "azure"
        return "openai" if self.openai_api_key else "scripted"

    def trusted_issuers(self) -> tuple[Issuer, ...]:
        """Return the issuers whose tokens are accepted; none: the server is its own."""
        if self.issuer is None:
            return self.issuers
        return (
            make_issuer(
                self.issuer,
                jwks_url=self.jwks_url,
                audience=self.audience,
                token_use=self.token_use,
                tenant=self.tenant,
            ),
        )


def read_settings(
    overrides: Mapping[str, Any] | None = None, *, environ: Mapping[str, str] | None = None
) -> Settings:
    """Read the settings.

    Args:
        overrides: values by field name that win, such as those of the command line; `None` is unset.
        environ: instead of this process's environment.

    Raises:
        SettingsError: a value is not valid, or a variable with our prefix is unknown (a typing error).
    """
    source = os.environ if environ is None else environ  # noqa: TID251 - the one place
    values: dict[str, Any] = {}
    for field in Settings.model_fields:
        text = source.get(variable(field), "").strip()
        if text:
            values[field] = text
    values.update({name: value for name, value in (overrides or {}).items() if value is not None})
    known = {variable(field) for field in Settings.model_fields}
    unknown = sorted(name for name in source if name.startswith(PREFIX) and name not in known)
    if unknown:
        raise SettingsError(f"{unknown[0]}: there is no such setting")
    try:
        return Settings(**values)
    except ValidationError as exc:
        raise SettingsError(_one_line(exc)) from None


def _one_line(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "too_short":
        message = "must name at least one"
    return f"{variable(str(first['loc'][0]))}: {message}" if first["loc"] else message

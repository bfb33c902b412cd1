"""Where an OpenAI-style model is served, and how to identify oneself there."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from streaming.models.errors import ModelAuthError

__all__ = ["AzureAccount", "Credential", "OpenAIAccount", "current_credential"]

Credential: TypeAlias = str | Callable[[], Awaitable[str]]
"""A key or token; or, if it changes over time, how to get the current one.

Such a function is called before every turn: it should keep what it fetched (the token providers of
``azure-identity`` do). Whatever it raises ends the turn as `ModelAuthError`.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAIAccount:
    """OpenAI, or any other server that speaks its chat completions protocol."""

    credential: Credential = field(repr=False)
    """The API key; a server that wants none still needs a placeholder here."""
    base_url: str = "https://api.openai.com/v1"
    """Everything before ``/chat/completions``."""
    organization: str | None = None
    project: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureAccount:
    """A deployment of Azure OpenAI."""

    credential: Credential = field(repr=False)
    """The resource's key, or a Microsoft Entra token if `credential_is_token`."""
    credential_is_token: bool = False
    endpoint: str
    """For example ``https://my-resource.openai.azure.com``."""
    deployment: str
    api_version: str
    """For example ``2024-10-21``; see
    https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle."""


async def current_credential(credential: Credential) -> str:
    """Return the key or token to use now.

    Raises:
        ModelAuthError: It could not be got, is empty, or has characters no header can carry (a line
            end from a file).
    """
    current = credential if isinstance(credential, str) else await _fetched(credential)
    if not (current and current.isascii() and current.isprintable() and " " not in current):
        raise ModelAuthError("the credential is empty or malformed")
    return current


async def _fetched(source: Callable[[], Awaitable[str]]) -> str:
    try:
        return await source()
    except Exception as error:  # noqa: BLE001 - any library's; its text may quote a secret
        failure = ModelAuthError(f"no credential: {type(error).__name__}")
    raise failure

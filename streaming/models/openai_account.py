"""Where an OpenAI-style model is served, and how to identify oneself there."""

from dataclasses import dataclass, field
from typing import Final

__all__ = ["OPENAI_URL", "AzureAccount", "OpenAIAccount"]

OPENAI_URL: Final = "https://api.openai.com/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAIAccount:
    """OpenAI, or any other server that speaks its chat completions protocol."""

    credential: str = field(repr=False)
    """The API key; a server that wants none still needs a placeholder here."""
    base_url: str = OPENAI_URL
    """Everything before ``/chat/completions``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureAccount:
    """A deployment of Azure OpenAI."""

    credential: str = field(repr=False)
    """The resource's key."""
    endpoint: str
    """For example ``https://my-resource.openai.azure.com``."""
    deployment: str
    api_version: str
    """For example ``2024-10-21``; see
    https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle."""

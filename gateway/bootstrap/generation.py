"""Who answers, and how: the model that the settings name, and what generates replies with it."""

import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from importlib import import_module
from typing import TYPE_CHECKING

from gateway.bootstrap.handlers import prompt_rules
from gateway.frames.spill import Spill
from gateway.settings import Settings, SettingsError
from gateway.turns.finish import Finisher
from gateway.turns.generate import Generator
from gateway.turns.reply import ReplyShape
from gateway.turns.seal import Sealer
from storage.keys import IdSource
from storage.repositories import Store
from streaming.models.chat_model import ChatModel, Deadlines
from streaming.models.errors import ModelError

if TYPE_CHECKING:
    from streaming.models.openai_account import AzureAccount, OpenAIAccount


def make_generator(
    settings: Settings,
    *,
    store: Store,
    spill: Spill,
    model: ChatModel,
    ids: IdSource,
    clock: Callable[[], float],
) -> Generator:
    """Return what generates replies."""
    rules = prompt_rules(settings)
    return Generator(
        store=store,
        finisher=Finisher(store=store, clock=clock),
        sealer=Sealer(store=store, spill=spill, rules=rules, new_id=ids.new, clock=clock),
        model=model,
        shape=ReplyShape(emotions=settings.emotions, categories=settings.categories),
        rules=rules,
        new_id=ids.new,
        clock=clock,
        monotonic=time.perf_counter,
    )


async def open_model(settings: Settings, *, stack: AsyncExitStack) -> ChatModel:
    """Return the model that the settings name: Azure OpenAI, OpenAI, or the keyless scripted one.

    An OpenAI model is warm: its first turn does not wait for the SDK (0.8 s) to be loaded.

    Raises:
        SettingsError: no request can be made with them.
    """
    deadlines = Deadlines(
        first_token=settings.first_token_s,
        between_chunks=settings.between_chunks_s,
        total=settings.reply_s,
    )
    if settings.provider == "scripted":
        from streaming.models.scripted import ScriptedModel

        pace = settings.scripted_pace or None
        return ScriptedModel(
            fragments_per_second=pace,
            max_output_tokens=settings.reply_tokens,
            deadlines=deadlines,
        )

    from streaming.models.openai import OpenAIModel

    name, account = _served(settings)
    model = OpenAIModel(
        name,
        account,
        max_output_tokens=settings.reply_tokens,
        deadlines=deadlines,
    )
    stack.push_async_callback(model.aclose)
    try:
        await model.warm()
    except ModelError as exc:
        whose = "AZURE_OPENAI_*" if settings.provider == "azure" else "OPENAI_*"
        raise SettingsError(f"{whose}: {exc}") from None
    return model


def load_provider() -> None:
    """Import what `open_model` would for a provider's model: half a second of CPU at a good moment."""
    import_module("streaming.models.openai")
    import_module("streaming.models.openai_head")


def _served(settings: Settings) -> "tuple[str, AzureAccount | OpenAIAccount]":
    """Return the name of a provider's model, and where it is served."""
    from streaming.models.openai_account import OPENAI_URL, AzureAccount, OpenAIAccount

    if settings.provider == "azure":
        assert settings.azure_endpoint is not None
        assert settings.azure_api_key is not None
        assert settings.azure_deployment is not None
        return settings.azure_deployment, AzureAccount(
            credential=settings.azure_api_key,
            endpoint=settings.azure_endpoint,
            deployment=settings.azure_deployment,
            api_version=settings.azure_api_version,
        )
    assert settings.openai_api_key is not None
    return settings.openai_model, OpenAIAccount(
        credential=settings.openai_api_key, base_url=settings.openai_base_url or OPENAI_URL
    )

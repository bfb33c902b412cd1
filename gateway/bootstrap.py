"""The composition root: settings in, a working gateway out. Nothing else builds things.

Lifetimes belong to the `AsyncExitStack` that the host hands in: what is opened here is closed with it, in
reverse order.
"""

import asyncio
import secrets
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.account.account import Account
from gateway.app import Gateway
from gateway.frames.spill import Spill
from gateway.identity.admission import Admission
from gateway.identity.claims import TokenRules
from gateway.identity.handshake import HandshakePolicy
from gateway.identity.jwks import JwksCache
from gateway.identity.jwks_http import fetch_jwks
from gateway.identity.local_issuer import LocalIssuer
from gateway.identity.local_key import load_or_create_key
from gateway.identity.verifier import TokenVerifier, TrustedIssuer
from gateway.runs.live_run import LiveRun
from gateway.runs.live_runs import LiveRuns
from gateway.runs.resume import Resumer
from gateway.runs.run_starter import RunStarter
from gateway.runs.transport import Transport
from gateway.settings import Settings, SettingsError
from gateway.tenants.tier import Tier
from gateway.turns.accept import Acceptor
from gateway.turns.conversation import Conversation
from gateway.turns.finish import Finisher
from gateway.turns.generate import Generator
from gateway.turns.prompt import PromptRules
from gateway.turns.recover import Recovery
from gateway.turns.reply import ReplyShape
from gateway.turns.seal import Sealer
from gateway.turns.uploads import Uploads
from storage import ttl
from storage.blobs.files import FileBlobs, open_file_blobs
from storage.keys import IdSource
from storage.records import Owner, Run
from storage.repositories import Store
from storage.sqlite.store import SqliteStore, open_store
from streaming.models.chat_model import ChatModel, Deadlines
from streaming.models.errors import ModelError

if TYPE_CHECKING:
    from streaming.models.openai import AzureAccount, OpenAIAccount

LOCAL_ISSUER = "urn:makoto:local"
LOCAL_AUDIENCE = "makoto"
KEY_FILE = "signing-key.pem"


@dataclass(frozen=True, slots=True, kw_only=True)
class Foundation:
    """What a gateway stands on; lives as long as the stack it was opened on."""

    settings: Settings
    store: SqliteStore
    blobs: FileBlobs
    transport: Transport
    admission: Admission
    live: LiveRuns
    generator: Generator
    spill: Spill
    ids: IdSource
    local_issuer: LocalIssuer | None
    clock: Callable[[], float]


async def open_foundation(
    settings: Settings,
    *,
    stack: AsyncExitStack,
    transport: Transport,
    own_origins: frozenset[str],
    model: ChatModel | None = None,
    clock: Callable[[], float] = time.time,
    random_bytes: Callable[[int], bytes] = secrets.token_bytes,
) -> Foundation:
    """Open the embedded backend and everything that outlives a command.

    Args:
        settings: what the operator wants.
        stack: closes what is opened here, in reverse order.
        transport: where frames leave.
        own_origins: origins of the pages that the server itself shows.
        model: who answers, instead of the one that the settings name; the caller closes it.
        clock: Unix time in seconds.
        random_bytes: a cryptographic source.

    Raises:
        SettingsError, UnusableDataError, LocalKeyError: it cannot start; the text is one line.
    """
    policy = _policy(settings, own_origins)
    store = await open_store(settings.data_dir, durability=settings.durability, clock=clock)
    stack.push_async_callback(store.aclose)
    blobs = await open_file_blobs(settings.data_dir)
    stack.push_async_callback(blobs.aclose)
    issuer = None if settings.issuer else await local_issuer(settings)
    verifier = TokenVerifier([issuer.trusted() if issuer else _trusted(settings)])
    stack.push_async_callback(verifier.aclose)
    model = model or await open_model(settings, stack=stack)

    ids = IdSource(clock, random_bytes)
    spill = Spill(store=store, blobs=blobs, clock=clock)

    def make_live(owner: Owner, run: Run) -> LiveRun:
        return LiveRun(
            owner=owner,
            run=run,
            claimed_by=run.claimed_by or ids.new(),
            log=store.of(owner).log,
            transport=transport,
            spill=spill,
            spill_until=clock() + ttl.SPILL,
        )

    return Foundation(
        settings=settings,
        store=store,
        blobs=blobs,
        transport=transport,
        admission=Admission(store=store, verifier=verifier, policy=policy, clock=clock),
        live=LiveRuns(make_live),
        generator=_generator(settings, store, model, ids, clock),
        spill=spill,
        ids=ids,
        local_issuer=issuer,
        clock=clock,
    )


def make_gateway(on: Foundation, *, starter: RunStarter, recovery: Recovery) -> Gateway:
    """Return the handlers, with the host's way of generating replies."""
    store, blobs, ids, clock = on.store, on.blobs, on.ids, on.clock
    conversation = Conversation(
        store=store,
        acceptor=Acceptor(
            store=store,
            blobs=blobs,
            ids=ids,
            clock=clock,
            new_claim=lambda: on.generator.new_claim() if starter.may_claim else None,
        ),
        live=on.live,
        resumer=Resumer(
            store=store, live=on.live, transport=on.transport, spill=on.spill, clock=clock
        ),
        starter=starter,
        recovery=recovery,
        characters=frozenset(on.settings.characters),
        clock=clock,
    )
    return Gateway(
        store=store,
        admission=on.admission,
        conversation=conversation,
        account=Account(store=store),
        uploads=Uploads(store=store, blobs=blobs, ids=ids, clock=clock),
        live=on.live,
        transport=on.transport,
        spill=on.spill,
        ids=ids,
        tier=Tier(content_bytes=on.settings.content_bytes, live_runs=on.settings.live_runs),
        heartbeat_s=on.settings.heartbeat_s,
        clock=clock,
    )


def make_recovery(on: Foundation, *, starter: RunStarter) -> Recovery:
    """Return what takes up the runs that nobody generates; its `at_start` goes before any connection."""
    sealer = Sealer(store=on.store, spill=on.spill, new_id=on.ids.new, clock=on.clock)
    return Recovery(store=on.store, sealer=sealer, live=on.live, starter=starter)


def _generator(
    settings: Settings,
    store: Store,
    model: ChatModel,
    ids: IdSource,
    clock: Callable[[], float],
) -> Generator:
    return Generator(
        store=store,
        finisher=Finisher(store=store, clock=clock),
        model=model,
        shape=ReplyShape(emotions=settings.emotions, categories=settings.categories),
        rules=PromptRules(
            characters=settings.characters,
            history_bytes=settings.history_bytes,
            memories_bytes=settings.memories_bytes,
        ),
        new_id=ids.new,
        clock=clock,
        monotonic=time.perf_counter,
    )


async def local_issuer(settings: Settings) -> LocalIssuer:
    """Return the server as its own issuer, with the key of its data folder.

    Raises:
        LocalKeyError: the key cannot be used.
    """
    key = await asyncio.to_thread(load_or_create_key, Path(settings.data_dir) / KEY_FILE)
    return LocalIssuer(key, issuer=LOCAL_ISSUER, audience=LOCAL_AUDIENCE, tenant_id=settings.tenant)


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
    if not settings.azure_endpoint and not settings.openai_api_key:
        from streaming.models.scripted import ScriptedModel

        pace = settings.scripted_pace or None
        return ScriptedModel(fragments_per_second=pace, deadlines=deadlines)

    from streaming.models.openai import OpenAIModel

    name = settings.azure_deployment if settings.azure_endpoint else settings.openai_model
    model = OpenAIModel(name or "", _account(settings), deadlines=deadlines)
    stack.push_async_callback(model.aclose)
    try:
        await model.warm()
    except ModelError as exc:
        whose = "AZURE_OPENAI_*" if settings.azure_endpoint else "OPENAI_*"
        raise SettingsError(f"{whose}: {exc}") from None
    return model


def _account(settings: Settings) -> "AzureAccount | OpenAIAccount":
    from streaming.models.openai import AzureAccount, OpenAIAccount

    if settings.azure_endpoint:
        assert settings.azure_api_key is not None
        assert settings.azure_deployment is not None
        return AzureAccount(
            credential=settings.azure_api_key,
            endpoint=settings.azure_endpoint,
            deployment=settings.azure_deployment,
            api_version=settings.azure_api_version,
        )
    assert settings.openai_api_key is not None
    if settings.openai_base_url is None:
        return OpenAIAccount(credential=settings.openai_api_key)
    return OpenAIAccount(credential=settings.openai_api_key, base_url=settings.openai_base_url)


def _trusted(settings: Settings) -> TrustedIssuer:
    assert settings.issuer is not None
    assert settings.jwks_url is not None
    try:
        return TrustedIssuer(
            rules=TokenRules(
                issuer=settings.issuer,
                audience=frozenset(settings.audience),
                tenant_id=settings.tenant,
                token_use=settings.token_use,
            ),
            keys=JwksCache(settings.jwks_url, fetch=fetch_jwks, clock=time.monotonic),
        )
    except ValueError as exc:
        raise SettingsError(str(exc)) from None


def _policy(settings: Settings, own_origins: frozenset[str]) -> HandshakePolicy:
    try:
        return HandshakePolicy(
            origins=own_origins | frozenset(settings.allowed_origins),
            admits_unidentified=True,
            reads_query_token=settings.query_token,
        )
    except ValueError as exc:
        raise SettingsError(str(exc)) from None

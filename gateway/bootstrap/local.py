"""The local host's backend: SQLite, files, and the server as its own issuer unless one is named."""

import asyncio
import secrets
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from gateway.bootstrap.generation import make_generator, open_model
from gateway.bootstrap.handlers import Foundation, make_live_runs
from gateway.bootstrap.identity import make_verifier
from gateway.frames.spill import Spill
from gateway.identity.admission import Admission
from gateway.identity.handshake import HandshakePolicy
from gateway.identity.local_issuer import LocalIssuer
from gateway.identity.local_key import load_or_create_key
from gateway.identity.verifier import TokenVerifier
from gateway.runs.local_finder import LocalFinder
from gateway.runs.neighbours import LocalNeighbours
from gateway.runs.replay import Replayer
from gateway.runs.transport import Transport
from gateway.settings import Settings, SettingsError
from gateway.tenants.allowance import Allowance
from gateway.turns.generate import Generator
from storage.blobs.files import FileBlobs, open_file_blobs
from storage.keys import IdSource
from storage.records import Owner
from storage.sqlite.store import SqliteStore, open_store
from streaming.models.chat_model import ChatModel

LOCAL_ISSUER = "urn:makoto:local"
LOCAL_AUDIENCE = "makoto"
KEY_FILE = "signing-key.pem"


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalFoundation(Foundation):
    """What the local host stands on; lives as long as the stack it was opened on."""

    store: SqliteStore
    blobs: FileBlobs
    generator: Generator
    local_issuer: LocalIssuer | None


async def open_foundation(
    settings: Settings,
    *,
    stack: AsyncExitStack,
    transport: Transport,
    own_origins: frozenset[str],
    model: ChatModel | None = None,
    clock: Callable[[], float] = time.time,
    allow: Callable[[Owner], None] = lambda owner: None,
    uploads: Allowance | None = None,
    long_answers: Allowance | None = None,
    random_bytes: Callable[[int], bytes] = secrets.token_bytes,
) -> LocalFoundation:
    """Open the embedded backend and everything that outlives a command.

    Args:
        settings: what the operator wants.
        stack: closes what is opened here, in reverse order.
        transport: where frames leave.
        own_origins: origins of the pages that the server itself shows.
        model: who answers, instead of the one that the settings name; the caller closes it.
        clock: Unix time in seconds.
        allow: see `Admission`.
        uploads: see `Foundation`.
        long_answers: see `Spill`.
        random_bytes: a cryptographic source.

    Raises:
        SettingsError, UnusableDataError, LocalKeyError: it cannot start; the text is one line.
    """
    policy = _policy(settings, own_origins)
    store = await open_store(settings.data_dir, durability=settings.durability, clock=clock)
    stack.push_async_callback(store.aclose)
    blobs = await open_file_blobs(settings.data_dir)
    stack.push_async_callback(blobs.aclose)
    trusted = settings.trusted_issuers()
    issuer = None if trusted else await local_issuer(settings)
    verifier = TokenVerifier([issuer.trusted()]) if issuer else make_verifier(trusted, clock=clock)
    stack.push_async_callback(verifier.aclose)
    model = model or await open_model(settings, stack=stack)

    ids = IdSource(clock, random_bytes)
    spill = Spill(store=store, blobs=blobs, clock=clock, set_aside=long_answers)

    live = make_live_runs(store=store, transport=transport, spill=spill, ids=ids, clock=clock)
    return LocalFoundation(
        settings=settings,
        store=store,
        blobs=blobs,
        transport=transport,
        admission=Admission(
            store=store, verifier=verifier, policy=policy, clock=clock, allow=allow
        ),
        live=live,
        finder=LocalFinder(
            store=store,
            live=live,
            replayer=Replayer(store=store, transport=transport, spill=spill, clock=clock),
        ),
        neighbours=LocalNeighbours(live.followers),
        generator=make_generator(
            settings, store=store, spill=spill, model=model, ids=ids, clock=clock
        ),
        spill=spill,
        ids=ids,
        local_issuer=issuer,
        clock=clock,
        uploads=uploads,
    )


async def local_issuer(settings: Settings) -> LocalIssuer:
    """Return the server as its own issuer, with the key of its data folder.

    Raises:
        LocalKeyError: the key cannot be used.
    """
    key = await asyncio.to_thread(load_or_create_key, Path(settings.data_dir) / KEY_FILE)
    return LocalIssuer(key, issuer=LOCAL_ISSUER, audience=LOCAL_AUDIENCE, tenant_id=settings.tenant)


def _policy(settings: Settings, own_origins: frozenset[str]) -> HandshakePolicy:
    try:
        return HandshakePolicy(
            origins=own_origins | frozenset(settings.allowed_origins),
            admits_unidentified=True,
            reads_query_token=settings.query_token,
        )
    except ValueError as exc:
        raise SettingsError(str(exc)) from None

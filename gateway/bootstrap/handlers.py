"""The handlers, over a backend that a host has opened."""

from collections.abc import Callable
from dataclasses import dataclass

from gateway.account.account import Account
from gateway.app import Gateway
from gateway.frames.pace import Pace, PaceRules
from gateway.frames.spill import Spill
from gateway.identity.admission import Admission
from gateway.runs.live_run import LiveRun
from gateway.runs.live_runs import LiveRuns
from gateway.runs.run_starter import RunStarter
from gateway.runs.transport import Transport
from gateway.settings import Settings
from gateway.tenants.allowance import Allowance
from gateway.tenants.tier import Tier
from gateway.turns.accept import Acceptor
from gateway.turns.conversation import Conversation
from gateway.turns.following import Following, RunFinder
from gateway.turns.notices import Neighbours, Notices
from gateway.turns.prompt import PromptRules
from gateway.turns.recover import Recovery
from gateway.turns.seal import Sealer
from gateway.turns.uploads import Uploads
from storage import ttl
from storage.blobs.blob_store import BlobStore
from storage.keys import IdSource
from storage.records import Claim, Connection, Owner, Run, RunReader
from storage.repositories import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Foundation:
    """What the handlers stand on, whichever the host.

    Attributes:
        uploads: how many bytes each user may announce as uploads; `None` for any number.
    """

    settings: Settings
    store: Store
    blobs: BlobStore
    transport: Transport
    admission: Admission
    live: LiveRuns
    finder: RunFinder
    neighbours: Neighbours
    spill: Spill
    ids: IdSource
    clock: Callable[[], float]
    uploads: Allowance | None = None


def make_live_runs(
    *,
    store: Store,
    transport: Transport,
    spill: Spill,
    ids: IdSource,
    clock: Callable[[], float],
    pace: PaceRules | None = None,
) -> LiveRuns:
    """Return the runs of a process, none yet.

    Args:
        store: holds their logs.
        transport: what their readers are posted with.
        spill: keeps what is too large for a frame.
        ids: makes the claims of those that are not claimed yet.
        clock: Unix time in seconds.
        pace: the rhythm of their writes; `None` where those cost nothing.
    """

    def make(owner: Owner, run: Run) -> LiveRun:
        return LiveRun(
            owner=owner,
            run=run,
            claimed_by=run.claimed_by or ids.new(),
            log=store.of(owner).log,
            transport=transport,
            spill=spill,
            spill_until=clock() + ttl.SPILL,
            pace=Pace(pace) if pace else None,
        )

    return LiveRuns(make)


def make_gateway(
    on: Foundation,
    *,
    starter: RunStarter,
    recovery: Recovery,
    new_claim: Callable[[], Claim | None] = lambda: None,
    new_reader: Callable[[Connection], RunReader | None] = lambda connection: None,
) -> Gateway:
    """Return the handlers.

    Args:
        on: what they stand on.
        starter: the host's way of generating replies.
        recovery: takes up runs that nobody generates.
        new_claim: see `Acceptor`; of a host that generates replies itself.
        new_reader: see `Acceptor`; of a host where other processes do.
    """
    store, blobs, ids, clock = on.store, on.blobs, on.ids, on.clock
    following = Following(finder=on.finder, live=on.live, recovery=recovery)
    conversation = Conversation(
        store=store,
        acceptor=Acceptor(
            store=store,
            blobs=blobs,
            ids=ids,
            clock=clock,
            new_claim=new_claim,
            new_reader=new_reader,
            recovery=recovery,
        ),
        live=on.live,
        following=following,
        starter=starter,
        recovery=recovery,
        characters=frozenset(on.settings.characters),
        clock=clock,
    )
    return Gateway(
        store=store,
        admission=on.admission,
        conversation=conversation,
        following=following,
        notices=Notices(neighbours=on.neighbours, transport=on.transport),
        account=Account(store=store, clock=clock),
        uploads=Uploads(store=store, blobs=blobs, ids=ids, clock=clock, set_aside=on.uploads),
        live=on.live,
        transport=on.transport,
        spill=on.spill,
        ids=ids,
        tier=Tier(content_bytes=on.settings.content_bytes, live_runs=on.settings.live_runs),
        heartbeat_s=on.settings.heartbeat_s,
        clock=clock,
    )


def make_recovery(on: Foundation, *, starter: RunStarter, begun_within_s: float = 0.0) -> Recovery:
    """Return what takes up the runs that nobody generates; its `at_start` goes before any connection.

    Args:
        on: what it stands on.
        starter: generates what was never begun.
        begun_within_s: so long a run is left alone that another process was told to begin.
    """
    return Recovery(
        store=on.store,
        sealer=make_sealer(on),
        live=on.live,
        starter=starter,
        clock=on.clock,
        begun_within_s=begun_within_s,
    )


def make_sealer(on: Foundation) -> Sealer:
    """Return what ends the runs whose generation died."""
    return Sealer(
        store=on.store,
        spill=on.spill,
        rules=prompt_rules(on.settings),
        new_id=on.ids.new,
        clock=on.clock,
    )


def prompt_rules(settings: Settings) -> PromptRules:
    """Return what goes into every prompt."""
    return PromptRules(
        characters=settings.characters,
        history_bytes=settings.history_bytes,
        memories_bytes=settings.memories_bytes,
    )

"""The AWS host's backend: DynamoDB and S3, shared by many processes that each live for one invocation.

What connects or must be fetched outlives an invocation (`AwsBackend`); everything that would remember a run
or a connection is made afresh for each (`make_foundation`).
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gateway.aws_settings import AwsSettings
from gateway.bootstrap.door import (
    DynamoDoor,
    make_admission,
    make_door_verifier,
    open_door,
)
from gateway.bootstrap.generation import make_generator
from gateway.bootstrap.handlers import Foundation, make_live_runs, make_recovery, make_sealer
from gateway.frames.pace import PER_WRITE
from gateway.frames.spill import Spill
from gateway.identity.admission import Admission
from gateway.identity.verifier import TokenVerifier
from gateway.jobs.reply import ReplyJob
from gateway.jobs.seal import SealJob
from gateway.runs.neighbours import SharedNeighbours
from gateway.runs.replay import Replayer
from gateway.runs.run_starter import BEGUN_WITHIN_S, RunStarter
from gateway.runs.shared_finder import SharedFinder
from gateway.runs.transport import Transport
from gateway.settings import Settings, read_settings, variable
from storage.blobs.blob_store import BlobStore
from storage.blobs.s3 import S3Blobs
from storage.dynamodb.client import DynamoClient
from storage.dynamodb.store import DynamoStore
from storage.keys import IdSource
from streaming.models.chat_model import ChatModel

HEARTBEAT_S = 240.0
"""API Gateway closes a connection that was silent for 10 minutes; each ping there is billed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsBackend:
    """What invocations of one process share, on one event loop. Never closed: AWS ends the process."""

    aws: AwsSettings
    settings: Settings
    client: DynamoClient
    door: DynamoDoor
    blobs: BlobStore
    verifier: TokenVerifier
    admission: Admission
    clock: Callable[[], float]

    def new_store(self) -> DynamoStore:
        """Return a store for one invocation, which closes it."""
        return DynamoStore(
            self.client,
            data=self.aws.data_table,
            door=self.aws.door_table,
            blobs=self.blobs,
            clock=self.clock,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsFoundation(Foundation):
    """What one invocation stands on."""

    store: DynamoStore
    finder: SharedFinder
    replayer: Replayer


def open_backend(
    aws: AwsSettings,
    *,
    client: DynamoClient,
    apart: Mapping[str, str],
    clock: Callable[[], float],
) -> AwsBackend:
    """Return what outlives an invocation. Asks nobody.

    Args:
        aws: what the functions are told.
        client: of DynamoDB.
        apart: variables of the ordinary settings that are kept apart from the environment.
        clock: Unix time in seconds.

    Raises:
        ValueError, SettingsError: a setting is missing or not valid; the text is one line.
    """
    aws.require("data_table", "door_table", "bucket")
    region, credentials = aws.signing()
    settings = ordinary_settings(aws, apart)
    door = open_door(aws, client=client, clock=clock)
    verifier = make_door_verifier(aws, door=door, clock=clock)
    return AwsBackend(
        aws=aws,
        settings=settings,
        client=client,
        door=door,
        blobs=S3Blobs(
            bucket=aws.bucket, region=region, credentials=credentials, endpoint_url=aws.s3_url
        ),
        verifier=verifier,
        admission=make_admission(aws, door=door, verifier=verifier, clock=clock),
        clock=clock,
    )


def ordinary_settings(aws: AwsSettings, apart: Mapping[str, str]) -> Settings:
    """Read the settings that no host has for itself; see `open_backend`.

    Raises:
        SettingsError: one is not valid.
    """
    return read_settings(environ={variable("heartbeat_s"): str(HEARTBEAT_S), **aws.rest, **apart})


def make_foundation(
    backend: AwsBackend, *, store: DynamoStore, transport: Transport
) -> AwsFoundation:
    """Return what one invocation stands on."""
    blobs, clock = backend.blobs, backend.clock
    ids = IdSource(clock, secrets.token_bytes)
    spill = Spill(store=store, blobs=blobs, clock=clock)
    replayer = Replayer(store=store, transport=transport, spill=spill, clock=clock)
    finder = SharedFinder(store=store, replayer=replayer, new_id=ids.new, clock=clock)
    return AwsFoundation(
        settings=backend.settings,
        store=store,
        blobs=blobs,
        transport=transport,
        admission=backend.admission,
        live=make_live_runs(
            store=store, transport=transport, spill=spill, ids=ids, clock=clock, pace=PER_WRITE
        ),
        finder=finder,
        neighbours=SharedNeighbours(store=store, new_reader=finder.reader, clock=clock),
        replayer=replayer,
        spill=spill,
        ids=ids,
        clock=clock,
    )


def make_reply_job(on: AwsFoundation, *, model: ChatModel, starter: RunStarter) -> ReplyJob:
    """Return what generates one reply."""
    return ReplyJob(
        store=on.store,
        generator=make_generator(
            on.settings, store=on.store, spill=on.spill, model=model, ids=on.ids, clock=on.clock
        ),
        live=on.live,
        starter=starter,
        recovery=make_recovery(on, starter=starter, begun_within_s=BEGUN_WITHIN_S),
        new_id=on.ids.new,
        clock=on.clock,
        unread_run_s=on.settings.unread_run_s,
    )


def make_seal_job(on: AwsFoundation, *, starter: RunStarter) -> SealJob:
    """Return what ends runs that failed for good."""
    return SealJob(
        store=on.store,
        sealer=make_sealer(on),
        replayer=on.replayer,
        live=on.live,
        starter=starter,
        recovery=make_recovery(on, starter=starter, begun_within_s=BEGUN_WITHIN_S),
        clock=on.clock,
    )

"""The door on AWS: all that a connect, a disconnect and a ticket need, and nothing that starts slowly.

Apart from `aws`, since whoever imports this waits for no SDK, no model and no pydantic (a fifth of a second
instead of one).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.aws_settings import AwsSettings
from storage.dynamodb.client import DynamoClient
from storage.dynamodb.connections import DynamoConnections
from storage.dynamodb.key_documents import DynamoKeyDocuments
from storage.dynamodb.signed_client import SignedClient
from storage.dynamodb.tickets import DynamoTickets

if TYPE_CHECKING:
    from gateway.identity.admission import Admission
    from gateway.identity.verifier import TokenVerifier


@dataclass(frozen=True, slots=True, kw_only=True)
class DynamoDoor:
    """The table at the door: whoever has this alone cannot read a message."""

    connections: DynamoConnections
    tickets: DynamoTickets
    keys: DynamoKeyDocuments


def open_client(settings: AwsSettings) -> SignedClient:
    """Return a client of DynamoDB for the current event loop. Asks nobody.

    Raises:
        ValueError: a setting is missing.
    """
    region, credentials = settings.signing()
    return SignedClient(region=region, credentials=credentials, endpoint_url=settings.dynamodb_url)


def open_door(
    settings: AwsSettings, *, client: DynamoClient, clock: Callable[[], float]
) -> DynamoDoor:
    """Return the door's repositories. Asks nobody.

    Raises:
        ValueError: a setting is missing.
    """
    settings.require("door_table")
    return DynamoDoor(
        connections=DynamoConnections(client, settings.door_table, clock=clock),
        tickets=DynamoTickets(client, settings.door_table),
        keys=DynamoKeyDocuments(client, settings.door_table),
    )


def make_door_verifier(
    settings: AwsSettings, *, door: DynamoDoor, clock: Callable[[], float]
) -> "TokenVerifier":
    """Return who proves tokens; the keys it fetches are shared with other processes."""
    # Here and not above: a disconnect proves nothing, and the cryptography takes 50 ms to load.
    from gateway.bootstrap.identity import make_verifier

    return make_verifier(settings.issuers, clock=clock, documents=door.keys)


def make_admission(
    settings: AwsSettings,
    *,
    door: DynamoDoor,
    verifier: "TokenVerifier",
    clock: Callable[[], float],
) -> "Admission":
    """Return who decides who comes in. Nothing runs here that would time out a socket without a name.

    Raises:
        ValueError: an origin that no browser would send.
    """
    from gateway.identity.admission import Admission
    from gateway.identity.handshake import HandshakePolicy

    policy = HandshakePolicy(origins=settings.allowed_origins, admits_unidentified=False)
    return Admission(store=door, verifier=verifier, policy=policy, clock=clock)

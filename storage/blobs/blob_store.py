"""What the gateway may ask of a blob store."""

from dataclasses import dataclass, field
from typing import Literal, Protocol

from storage.records import BlobRef, Owner


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedUpload:
    """How a client stores one body: `PUT` it, or `POST` it as a form with `fields` before the file.

    Attributes:
        url: absolute, or a path on the gateway's own HTTP origin.
        expires_at: Unix time in seconds; after it the URL is refused.
    """

    url: str
    method: Literal["PUT", "POST"]
    fields: dict[str, str] = field(default_factory=dict)
    expires_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedDownload:
    """How a client fetches one body: a plain `GET`; forms as in `SignedUpload`."""

    url: str
    expires_at: float


class BlobStore(Protocol):
    """Bodies under keys that the server made (`storage.keys.blob_key`: the owner is their prefix).

    Every coroutine raises `StorageUnavailableError` when the store refuses, within 5 seconds, and never
    blocks the event loop.
    """

    async def put(self, key: str, body: bytes, *, passing: bool = False) -> BlobRef:
        """Store the body; a second put of the same key replaces it whole, never in part.

        Args:
            key: made by the server.
            body: of any size that fits into memory.
            passing: it is of no use after `ttl.SPILL`, so that the store may delete it by itself then.
                What is uploaded always passes.
        """
        ...

    async def get(self, key: str) -> bytes:
        """Return the body.

        Raises:
            BlobMissingError: there is none.
        """
        ...

    async def delete(self, key: str) -> None:
        """Delete the body; harmless when there is none."""
        ...

    def sign_download(self, owner: Owner, ref: BlobRef, *, now: float) -> SignedDownload:
        """Return a fresh URL, good for minutes, that answers the body as an attachment of JSON type.

        Raises:
            BlobMissingError: the key is not below that owner's prefix.
            StorageUnavailableError: there is nothing to sign with for so long.
        """
        ...

    def sign_upload(self, owner: Owner, ref: BlobRef, *, now: float) -> SignedUpload:
        """Return how to upload a body of exactly `ref.bytes` bytes to exactly `ref.key`.

        Raises:
            BlobMissingError, StorageUnavailableError: as for `sign_download`.
        """
        ...

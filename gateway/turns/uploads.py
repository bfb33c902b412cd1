"""Uploads: text too long for one frame is put beside the socket first, then named by a `send`."""

from collections.abc import Callable

from gateway.tenants.allowance import Allowance
from gateway.tenants.tier import Tier
from gateway.wire.answers import UploadReady, milliseconds
from gateway.wire.commands import Upload
from gateway.wire.errors import PayloadTooLargeError
from storage import ttl
from storage.blobs.blob_store import BlobStore
from storage.keys import IdSource, blob_key
from storage.records import BlobRef, Owner, Payload
from storage.repositories import Store


class Uploads:
    """Hands out places to upload to.

    Args:
        store: keeps who owns which upload.
        blobs: signs where its body goes.
        ids: makes their ids.
        clock: Unix time in seconds.
        set_aside: how many bytes each user may announce; `None` for any number.
    """

    def __init__(
        self,
        *,
        store: Store,
        blobs: BlobStore,
        ids: IdSource,
        clock: Callable[[], float],
        set_aside: Allowance | None = None,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._ids = ids
        self._clock = clock
        self._set_aside = set_aside

    async def prepare(self, owner: Owner, tier: Tier, command: Upload) -> UploadReady:
        """Reserve an upload and say where its body goes.

        Raises:
            PayloadTooLargeError: more than the tier allows.
            RateLimitedError: the user has announced too much lately.
            StorageUnavailableError: it cannot be reserved.
        """
        if command.bytes > tier.content_bytes:
            raise PayloadTooLargeError
        if self._set_aside is not None:
            self._set_aside.take(owner, command.bytes)
        now, upload_id = self._clock(), self._ids.new()
        ref = BlobRef(key=blob_key(owner, upload_id), bytes=command.bytes, sha256=command.sha256)
        await self._store.of(owner).payloads.reserve(
            Payload(
                payload_id=upload_id,
                kind="upload",
                ref=ref,
                created_at=now,
                expires_at=now + ttl.UPLOAD,
            )
        )
        signed = self._blobs.sign_upload(owner, ref, now=now)
        return UploadReady(
            id=command.id,
            upload_id=upload_id,
            url=signed.url,
            method=signed.method,
            fields=signed.fields,
            expires_at=milliseconds(signed.expires_at),
        )

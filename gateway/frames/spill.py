"""The claim check: a frame too large to send is stored as a blob and announced by a `payload` frame.

Source of the pattern: Hohpe and Woolf, "Enterprise Integration Patterns", Claim Check.
"""

import hashlib
from collections.abc import Callable, Iterator
from typing import Literal

import orjson

from gateway.tenants.allowance import Allowance
from gateway.wire.answers import Payload as PayloadAnswer
from gateway.wire.answers import milliseconds
from gateway.wire.events import content_delta
from gateway.wire.limits import FRAME_TARGET_BYTES
from storage import ttl
from storage.blobs.blob_store import BlobStore
from storage.errors import BlobMissingError
from storage.keys import blob_key
from storage.records import BlobRef, Owner, Payload
from storage.repositories import Store


class Spill:
    """Stores frames as blobs and makes the frames that announce them.

    Args:
        store: keeps who owns which blob.
        blobs: keeps the bodies.
        clock: Unix time in seconds.
        set_aside: how many bytes of answers each user may have stored; `None` for any number.
    """

    def __init__(
        self,
        *,
        store: Store,
        blobs: BlobStore,
        clock: Callable[[], float],
        set_aside: Allowance | None = None,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._clock = clock
        self._set_aside = set_aside

    async def keep_answer(self, owner: Owner, payload_id: str, frame: bytes) -> BlobRef:
        """Store the answer to a command for as long as the URL works that is signed for it now.

        Raises:
            RateLimitedError: the user has had too much stored lately.
            StorageUnavailableError: see `keep`.
        """
        if self._set_aside is not None:
            self._set_aside.take(owner, len(frame))
        expires_at = self._clock() + ttl.DOWNLOAD_URL + ttl.MINUTE
        return await self.keep(owner, payload_id, frame, expires_at=expires_at)

    async def keep(
        self, owner: Owner, payload_id: str, frame: bytes, *, expires_at: float
    ) -> BlobRef:
        """Store a frame under an id that was not used before.

        Raises:
            StorageUnavailableError: the database or the blob store refuses.
        """
        ref = BlobRef(
            key=blob_key(owner, payload_id),
            bytes=len(frame),
            sha256=hashlib.sha256(frame).hexdigest(),
        )
        payload = Payload(
            payload_id=payload_id,
            kind="spill",
            ref=ref,
            created_at=self._clock(),
            expires_at=expires_at,
        )
        await self._store.of(owner).payloads.reserve(payload)
        return await self._blobs.put(ref.key, frame, passing=True)

    def announce(
        self,
        owner: Owner,
        ref: BlobRef,
        *,
        of: Literal["events", "page", "error"],
        id: str | None = None,  # noqa: A002 - the wire's own word
        run_id: str | None = None,
        seq: int | None = None,
        volatile: bool | None = None,
    ) -> bytes:
        """Return the frame that stands for a kept one, with a fresh URL.

        Args:
            owner: whose it is.
            ref: where it lies.
            of: the type of the frame it stands for.
            id: the command's id, of a page.
            run_id: of events and errors.
            seq: the number of the one event.
            volatile: true if that event could not be logged.
        """
        signed = self._blobs.sign_download(owner, ref, now=self._clock())
        return PayloadAnswer(
            of=of,
            url=signed.url,
            bytes=ref.bytes,
            sha256=ref.sha256,
            expires_at=milliseconds(signed.expires_at),
            run_id=run_id,
            first_seq=seq,
            last_seq=seq,
            id=id,
            volatile=volatile,
        ).encode()

    async def fetch(self, ref: BlobRef) -> bytes:
        """Return a kept frame.

        Raises:
            BlobMissingError: it is gone, or is not what was kept.
        """
        frame = await self._blobs.get(ref.key)
        if hashlib.sha256(frame).hexdigest() != ref.sha256:
            raise BlobMissingError
        return frame


def split_text_event(event: bytes) -> list[bytes]:
    """Cut one large event into several that need no blob, for when the blob store fails.

    Text is cut between code points. Events without growing text are returned as they are: they stay
    below the limit of a message by how they are made.
    """
    fields = orjson.loads(event)
    match fields["type"]:
        case "content.delta":
            return [content_delta(piece) for piece in _pieces(fields["text"])]
        case "tool_call.delta":
            pieces = []
            for piece in _pieces(fields["arguments"]):
                pieces.append(orjson.dumps({**fields, "arguments": piece}))
                fields.pop("name", None)  # it comes with the first fragment of a call
            return pieces
    return [event]


def _pieces(text: str) -> Iterator[str]:
    # A character takes at most 6 bytes once escaped as JSON, so this never exceeds the target.
    step = FRAME_TARGET_BYTES // 6
    for start in range(0, len(text), step):
        yield text[start : start + step]

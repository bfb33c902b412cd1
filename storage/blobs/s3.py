"""Blobs as objects of an S3 bucket; clients fetch and store them there themselves, by signed URLs."""

import asyncio
import base64
import hashlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from typing import Any, Final, TypeVar

from storage.attempts import ATTEMPTS, CONNECT_TIMEOUT_S, READ_TIMEOUT_S, WITHIN_S
from storage.blobs.blob_store import SignedDownload, SignedUpload
from storage.blobs.presigned import PASSING_TAG, Presigner
from storage.errors import BlobMissingError, StorageUnavailableError
from storage.keys import is_blob_key, owns
from storage.records import BlobRef, Owner
from storage.sigv4 import Credentials

T = TypeVar("T")

STORED_TYPE: Final = "application/octet-stream"
"""What a body is stored as: what it is, is said by the URL that it is fetched by."""

_CONNECTIONS: Final = 50


class S3Blobs:
    """`BlobStore` on S3, for one event loop from its first call until `aclose`. Making it asks S3 nothing.

    The first body that is stored or fetched imports the SDK (0.3 s of CPU); who only signs URLs never does.

    The credentials' role needs `s3:GetObject`, `s3:PutObject`, `s3:PutObjectTagging` and `s3:DeleteObject`
    on the bucket's objects, which signed URLs borrow, and `s3:ListBucket` on the bucket: without it S3
    answers 403 for a missing object, which then looks like a failure. The bucket needs CORS for the pages'
    origins, and a lifecycle rule that expires objects with the `PASSING_TAG` after `ttl.SPILL`.

    Args:
        bucket: its name, best without dots.
        region: that it is in.
        credentials: of whoever asks; they must outlive this. A URL ends with those that signed it.
        endpoint_url: where S3 is, if not at AWS.
    """

    def __init__(
        self,
        *,
        bucket: str,
        region: str,
        credentials: Credentials,
        endpoint_url: str | None = None,
    ) -> None:
        self._bucket = bucket
        self._region = region
        self._credentials = credentials
        self._endpoint_url = endpoint_url
        self._presigner = Presigner(bucket=bucket, region=region, endpoint_url=endpoint_url)
        self._client: Any = None
        self._closed = False
        self._opening = asyncio.Lock()
        self._opened = AsyncExitStack()

    async def put(self, key: str, body: bytes, *, passing: bool = False) -> BlobRef:
        """Store the body; see `BlobStore.put`. S3 refuses one that was damaged on its way."""
        digest = hashlib.sha256(body)
        tags = {"Tagging": f"{PASSING_TAG[0]}={PASSING_TAG[1]}"} if passing else {}
        await self._ask(
            key,
            lambda client, place: client.put_object(
                **place,
                Body=body,
                ContentType=STORED_TYPE,
                ChecksumSHA256=base64.b64encode(digest.digest()).decode(),
                **tags,
            ),
        )
        return BlobRef(key=key, bytes=len(body), sha256=digest.hexdigest())

    async def get(self, key: str) -> bytes:
        """Return the body; see `BlobStore.get`."""
        return await self._ask(key, _read)

    async def delete(self, key: str) -> None:
        """Delete the body; harmless when there is none."""
        with suppress(BlobMissingError):
            await self._ask(key, lambda client, place: client.delete_object(**place))

    def sign_download(self, owner: Owner, ref: BlobRef, *, now: float) -> SignedDownload:
        """Return a URL for a plain `GET`; see `BlobStore.sign_download`."""
        _require(owner, ref)
        return self._presigner.download(self._credentials, ref, now=now)

    def sign_upload(self, owner: Owner, ref: BlobRef, *, now: float) -> SignedUpload:
        """Return a form for one `POST`; see `BlobStore.sign_upload`."""
        _require(owner, ref)
        return self._presigner.upload(self._credentials, ref, now=now)

    async def aclose(self) -> None:
        """Close the connections; harmless when repeated."""
        self._closed = True
        self._client = None
        await self._opened.aclose()

    async def _ask(self, key: str, ask: Callable[[Any, dict[str, str]], Awaitable[T]]) -> T:
        if not is_blob_key(key):
            raise BlobMissingError("no such blob")
        if self._closed:
            raise StorageUnavailableError("the blob store is closed")
        with _storage_errors():
            async with asyncio.timeout(WITHIN_S):
                client = self._client or await self._open()
                return await ask(client, {"Bucket": self._bucket, "Key": key})

    async def _open(self) -> Any:
        async with self._opening:
            if self._client is None:
                self._client = await self._opened.enter_async_context(self._new_client())
            return self._client

    def _new_client(self) -> Any:
        """Return a client of the SDK, to be entered."""
        # Here and not above: who only passes through this module shall not pay for the SDK.
        from aiobotocore.config import AioConfig
        from aiobotocore.session import get_session

        return get_session().create_client(
            "s3",
            region_name=self._region,
            endpoint_url=self._endpoint_url,
            aws_access_key_id=self._credentials.access_key_id,
            aws_secret_access_key=self._credentials.secret_access_key,
            aws_session_token=self._credentials.session_token,
            config=AioConfig(
                connect_timeout=CONNECT_TIMEOUT_S,
                read_timeout=READ_TIMEOUT_S,
                max_pool_connections=_CONNECTIONS,
                warm_up_loader_caches=True,  # reads its models in a thread
                retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
                signature_version="s3v4",
                s3={"addressing_style": "path" if self._endpoint_url else "auto"},
                # `put` names a SHA-256, which is checked; another checksum on top breaks S3's likenesses.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )


async def _read(client: Any, place: dict[str, str]) -> bytes:
    answer = await client.get_object(**place)
    async with answer["Body"] as stream:
        body: bytes = await stream.read()
        return body


def _require(owner: Owner, ref: BlobRef) -> None:
    if not owns(owner, ref.key):
        raise BlobMissingError("no such blob")


@contextmanager
def _storage_errors() -> Iterator[None]:
    """Turn the SDK's errors into ours, with the service's code at most."""
    import aiohttp
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    try:
        yield
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code == "NoSuchKey":
            raise BlobMissingError("no such blob") from error
        raise StorageUnavailableError(f"S3 refuses: {code}") from error
    except (BotoCoreError, ResponseParserError, aiohttp.ClientError, OSError) as error:
        name = type(error).__name__  # a TimeoutError is an OSError
        raise StorageUnavailableError(f"S3 does not answer: {name}") from error

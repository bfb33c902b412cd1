"""Expiring URLs on the gateway's own origin: whoever holds one may do what it says, once it verifies.

Pure: the same secret, key and time give the same URL, and checking one touches nothing.
"""

import base64
import hmac
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode

from storage.blobs.blob_store import SignedDownload, SignedUpload
from storage.errors import BlobMissingError
from storage.keys import is_blob_key, owns
from storage.records import BlobRef, Owner
from storage.ttl import DOWNLOAD_URL, UPLOAD_URL

PATH: Final = "/v1/payloads/"
"""What the path of every URL starts with; the rest of it is the blob's key."""

SECRET_BYTES: Final = 32

_NUMBER: Final = re.compile(r"[0-9]{1,15}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class UrlSigner:
    """Makes and checks URLs with HMAC-SHA256 (RFC 2104).

    Args:
        secret: `SECRET_BYTES` random bytes, the same for as long as URLs shall stay good.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def sign_download(self, owner: Owner, ref: BlobRef, *, now: float) -> SignedDownload:
        """Return the URL to `GET` that owner's blob; see `BlobStore.sign_download`."""
        _require(owner, ref)
        expires = int(now + DOWNLOAD_URL)
        query = {"expires": str(expires), "sig": self._signature("GET", ref.key, str(expires))}
        return SignedDownload(url=_url(ref.key, query), expires_at=float(expires))

    def sign_upload(self, owner: Owner, ref: BlobRef, *, now: float) -> SignedUpload:
        """Return the URL to `PUT` exactly that body to that owner's key; see `BlobStore.sign_upload`."""
        _require(owner, ref)
        expires = int(now + UPLOAD_URL)
        covered = {"expires": str(expires), "bytes": str(ref.bytes), "sha256": ref.sha256}
        query = covered | {"sig": self._signature("PUT", ref.key, *covered.values())}
        return SignedUpload(url=_url(ref.key, query), method="PUT", expires_at=float(expires))

    def verify_download(self, key: str, query: Mapping[str, str], *, now: float) -> bool:
        """Whether the query lets its bearer `GET` that key now.

        Args:
            key: what follows `PATH`, percent-decoded.
            query: the decoded parameters, one value each.
            now: Unix time in seconds.
        """
        expires = query.get("expires", "")
        return self._holds(query, now, "GET", key, expires)

    def verify_upload(self, key: str, query: Mapping[str, str], *, now: float) -> BlobRef | None:
        """Return what the query lets its bearer `PUT` to that key now, or `None`; as above."""
        expires, size, sha256 = (query.get(name, "") for name in ("expires", "bytes", "sha256"))
        if not _NUMBER.fullmatch(size) or not _SHA256.fullmatch(sha256):
            return None
        if not self._holds(query, now, "PUT", key, expires, size, sha256):
            return None
        return BlobRef(key=key, bytes=int(size), sha256=sha256)

    def _holds(
        self, query: Mapping[str, str], now: float, method: str, key: str, expires: str, *more: str
    ) -> bool:
        if not is_blob_key(key) or not _NUMBER.fullmatch(expires):
            return False
        expected = self._signature(method, key, expires, *more).encode()
        given = query.get("sig", "").encode("utf-8", "replace")
        return hmac.compare_digest(given, expected) and now < int(expires)

    def _signature(self, *parts: str) -> str:
        """Return the signature over the parts, none of which holds a newline."""
        digest = hmac.digest(self._secret, "\n".join(parts).encode(), "sha256")
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def _require(owner: Owner, ref: BlobRef) -> None:
    if not owns(owner, ref.key):
        raise BlobMissingError("no such blob")


def _url(key: str, query: Mapping[str, str]) -> str:
    return f"{PATH}{key}?{urlencode(query)}"

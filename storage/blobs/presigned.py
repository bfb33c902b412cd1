"""URLs and forms by which whoever holds one may fetch or store one body in S3, for minutes. Pure.

Written after https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html and
https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-HTTPPOSTConstructPolicy.html. The SDK signs by a
coroutine, by its own clock and in 270 microseconds; this takes the caller's clock and 30.
"""

import base64
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote, urlencode, urlsplit

import orjson

from storage.blobs.blob_store import SignedDownload, SignedUpload
from storage.records import BlobRef
from storage.sigv4 import (
    ALGORITHM,
    Credentials,
    Scope,
    moment_of,
    reach_of,
    signature_of,
    text_to_sign,
)
from storage.ttl import DOWNLOAD_URL, UPLOAD_URL

UPLOAD_TYPE: Final = "text/plain;charset=utf-8"
"""What an uploaded body is stored as."""

PASSING_TAG: Final = ("expires", "soon")
"""What tells the bucket's lifecycle rule that an object is of no use after `ttl.SPILL`."""

_TAGS: Final = "<Tag><Key>{}</Key><Value>{}</Value></Tag>".format(*PASSING_TAG)
_TAGGING: Final = f"<Tagging><TagSet>{_TAGS}</TagSet></Tagging>"

_ANSWERED_WITH: Final = {
    "response-cache-control": "private, no-store",
    "response-content-disposition": "attachment",
    "response-content-type": "application/json",
}
"""Headers that S3 answers a download with; as part of the URL they are signed too."""


class Presigner:
    """Signs for one bucket. What it signs is good for no longer than the credentials are.

    Args:
        bucket: its name.
        region: that the bucket is in.
        endpoint_url: where S3 is, if not at AWS; the bucket is then the first part of the path.
    """

    def __init__(self, *, bucket: str, region: str, endpoint_url: str | None = None) -> None:
        self._bucket = bucket
        self._scope = Scope(region=region, service="s3")
        self._url = _bucket_url(bucket, region, endpoint_url)
        split = urlsplit(self._url)
        self._host, self._path = split.netloc, split.path

    def download(self, credentials: Credentials, ref: BlobRef, *, now: float) -> SignedDownload:
        """Return the URL to `GET` that body; see `BlobStore.sign_download`."""
        moment, reach = self._when(now)
        path = f"{self._path}/{ref.key}"  # a blob key and a bucket's name need no escapes
        query = {
            **_ANSWERED_WITH,
            "X-Amz-Algorithm": ALGORITHM,
            "X-Amz-Credential": f"{credentials.access_key_id}/{reach}",
            "X-Amz-Date": moment,
            "X-Amz-Expires": str(int(DOWNLOAD_URL)),
            "X-Amz-SignedHeaders": "host",
        }
        if credentials.session_token is not None:
            query["X-Amz-Security-Token"] = credentials.session_token
        encoded = urlencode(sorted(query.items()), quote_via=quote)
        request = f"GET\n{path}\n{encoded}\nhost:{self._host}\n\nhost\nUNSIGNED-PAYLOAD"
        signature = signature_of(text_to_sign(request, moment, reach), reach, credentials)
        return SignedDownload(
            url=f"{self._url}/{ref.key}?{encoded}&X-Amz-Signature={signature}",
            expires_at=int(now) + DOWNLOAD_URL,
        )

    def upload(self, credentials: Credentials, ref: BlobRef, *, now: float) -> SignedUpload:
        """Return the form to `POST` exactly that body with; see `BlobStore.sign_upload`.

        S3 refuses a form with another field, or another value of one, than the signed policy names, a
        body of another size, and one of another SHA-256.
        """
        moment, reach = self._when(now)
        expires_at = int(now) + UPLOAD_URL
        fields = {
            "key": ref.key,
            "Content-Type": UPLOAD_TYPE,
            "tagging": _TAGGING,
            "x-amz-checksum-sha256": base64.b64encode(bytes.fromhex(ref.sha256)).decode(),
            "x-amz-algorithm": ALGORITHM,
            "x-amz-credential": f"{credentials.access_key_id}/{reach}",
            "x-amz-date": moment,
        }
        if credentials.session_token is not None:
            fields["x-amz-security-token"] = credentials.session_token
        policy = orjson.dumps(
            {
                "expiration": f"{datetime.fromtimestamp(expires_at, UTC):%Y-%m-%dT%H:%M:%S.000Z}",
                "conditions": [
                    {"bucket": self._bucket},
                    ["content-length-range", ref.bytes, ref.bytes],
                    *({name: value} for name, value in fields.items()),
                ],
            }
        )
        fields["policy"] = base64.b64encode(policy).decode()
        fields["x-amz-signature"] = signature_of(fields["policy"], reach, credentials)
        return SignedUpload(url=self._url, method="POST", fields=fields, expires_at=expires_at)

    def _when(self, now: float) -> tuple[str, str]:
        moment = moment_of(now)
        return moment, reach_of(self._scope, moment)


def _bucket_url(bucket: str, region: str, endpoint_url: str | None) -> str:
    """Return the URL of a bucket, without a slash at its end.

    A regional name, since the global one answers for a new bucket with a redirect, which a browser may
    not follow to another origin.
    """
    if endpoint_url is not None:
        return f"{endpoint_url.rstrip('/')}/{bucket}"
    service = f"s3.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}"
    # The certificate covers one label before the service, so a name with dots goes into the path; see
    # https://docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html.
    return f"https://{service}/{bucket}" if "." in bucket else f"https://{bucket}.{service}"

"""Signed URLs and forms beside those of the SDK, which signs the same by its own clock."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from unittest.mock import patch
from urllib.parse import parse_qsl, urlsplit

import orjson
import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.auth import S3SigV4PostAuth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as SdkCredentials
from hypothesis import given
from hypothesis import strategies as st

from storage.blobs.presigned import Presigner
from storage.keys import blob_key
from storage.records import BlobRef
from storage.sigv4 import Credentials, signature_of, text_to_sign
from tests.storage.samples import ANNA

NOW = 1_795_270_000.75
MOMENT = datetime.fromtimestamp(NOW, UTC).replace(tzinfo=None)
LASTING = Credentials(access_key_id="AKIDEXAMPLE", secret_access_key="wJalrXUtn/FEMI+K7MDENG")
TEMPORARY = replace(LASTING, session_token="IQoJb3JpZ2luX2VjE/+a=b==")
REF = BlobRef(key=blob_key(ANNA, "p1"), bytes=13, sha256=sha256(b"a body").hexdigest())
ENDPOINTS = pytest.mark.parametrize("endpoint", [None, "http://127.0.0.1:9000", "https://s3.test/"])
KEYS = pytest.mark.parametrize("keys", [LASTING, TEMPORARY], ids=["lasting", "temporary"])


def presigner(endpoint: str | None = None) -> Presigner:
    return Presigner(bucket="payloads-dev", region="eu-central-1", endpoint_url=endpoint)


@contextmanager
def sdk_clock() -> Iterator[None]:
    with patch("botocore.auth.get_current_datetime", return_value=MOMENT):
        yield


def sdk_keys(keys: Credentials) -> SdkCredentials:
    return SdkCredentials(keys.access_key_id, keys.secret_access_key, keys.session_token)


@ENDPOINTS
@KEYS
def test_a_download_url_is_signed_as_the_sdk_signs_it(
    keys: Credentials, endpoint: str | None
) -> None:
    ours = presigner(endpoint).download(keys, REF, now=NOW)
    split = urlsplit(ours.url)
    asked = {k: v for k, v in parse_qsl(split.query) if not k.startswith("X-Amz-")}
    request = AWSRequest("GET", f"{split.scheme}://{split.netloc}{split.path}", params=asked)
    with sdk_clock():
        S3SigV4QueryAuth(sdk_keys(keys), "s3", "eu-central-1", expires=300).add_auth(request)

    assert sorted(parse_qsl(split.query)) == sorted(parse_qsl(urlsplit(request.url).query))
    assert ours.expires_at == int(NOW) + 300
    assert asked == {
        "response-cache-control": "private, no-store",
        "response-content-disposition": "attachment",
        "response-content-type": "application/json",
    }


def test_a_signature_of_a_url_is_the_published_one() -> None:
    """See https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html."""
    reach = "20130524/us-east-1/s3/aws4_request"
    request = "\n".join(
        (
            "GET",
            "/test.txt",
            "X-Amz-Algorithm=AWS4-HMAC-SHA256"
            "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
            "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host",
            "host:examplebucket.s3.amazonaws.com",
            "",
            "host",
            "UNSIGNED-PAYLOAD",
        )
    )
    keys = Credentials(
        access_key_id="AKIAIOSFODNN7EXAMPLE",
        secret_access_key="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    )

    assert (
        signature_of(text_to_sign(request, "20130524T000000Z", reach), reach, keys)
        == "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )


@KEYS
def test_a_form_is_signed_as_the_sdk_signs_it(keys: Credentials) -> None:
    ours = presigner().upload(keys, REF, now=NOW)
    policy = orjson.loads(base64.b64decode(ours.fields["policy"]))
    by_us = {"policy", "x-amz-signature"}
    request = AWSRequest("POST", ours.url)
    request.context["s3-presign-post-fields"] = {
        name: ours.fields[name]
        for name in ("key", "Content-Type", "tagging", "x-amz-checksum-sha256")
    }
    request.context["s3-presign-post-policy"] = {"expiration": policy["expiration"]}
    with sdk_clock():
        S3SigV4PostAuth(sdk_keys(keys), "s3", "eu-central-1").add_auth(request)
    theirs = request.context["s3-presign-post-fields"]

    assert {k: v for k, v in ours.fields.items() if k not in by_us} == {
        k: v for k, v in theirs.items() if k not in by_us
    }
    reach = ours.fields["x-amz-credential"].partition("/")[2]
    assert ours.fields["x-amz-signature"] == signature_of(ours.fields["policy"], reach, keys)
    with sdk_clock():
        signer = S3SigV4PostAuth(sdk_keys(keys), "s3", "eu-central-1")
        request.context["timestamp"] = ours.fields["x-amz-date"]
        assert ours.fields["x-amz-signature"] == signer.signature(ours.fields["policy"], request)


@KEYS
def test_a_policy_leaves_nothing_open(keys: Credentials) -> None:
    ours = presigner().upload(keys, REF, now=NOW)
    policy = orjson.loads(base64.b64decode(ours.fields["policy"]))
    exact = {
        k: v for each in policy["conditions"] if isinstance(each, dict) for k, v in each.items()
    }
    ranges = [each for each in policy["conditions"] if isinstance(each, list)]

    assert exact.pop("bucket") == "payloads-dev"
    assert exact == {
        name: value
        for name, value in ours.fields.items()
        if name not in {"policy", "x-amz-signature"}
    }
    assert ranges == [["content-length-range", 13, 13]]
    assert datetime.fromisoformat(policy["expiration"]).timestamp() == ours.expires_at
    assert ours.expires_at == int(NOW) + 300
    assert ours.method == "POST"
    assert base64.b64decode(ours.fields["x-amz-checksum-sha256"]).hex() == REF.sha256
    assert "${" not in ours.fields["key"]


@pytest.mark.parametrize(
    "region", ["eu-central-1", "ap-northeast-1", "us-gov-west-1", "cn-north-1"]
)
@pytest.mark.parametrize("bucket", ["payloads-dev", "with.dots"])
async def test_a_bucket_is_where_the_sdk_finds_it(region: str, bucket: str) -> None:
    session = get_session()
    session.set_credentials("a", "b")
    # Told how, for by itself it presigns with the global name, which answers with a redirect.
    config = AioConfig(s3={"addressing_style": "path" if "." in bucket else "virtual"})
    async with session.create_client("s3", region_name=region, config=config) as client:
        asked = {"Bucket": bucket, "Key": REF.key}
        theirs = urlsplit(await client.generate_presigned_url("get_object", Params=asked))
    ours = urlsplit(Presigner(bucket=bucket, region=region).download(LASTING, REF, now=NOW).url)

    assert (ours.scheme, ours.netloc, ours.path) == (theirs.scheme, theirs.netloc, theirs.path)


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9000", "http://127.0.0.1:9000/"])
def test_elsewhere_a_bucket_is_the_first_part_of_the_path(endpoint: str) -> None:
    url = presigner(endpoint).download(LASTING, REF, now=NOW).url
    assert url.startswith(f"http://127.0.0.1:9000/payloads-dev/{REF.key}?")
    assert (
        presigner(endpoint).upload(LASTING, REF, now=NOW).url
        == "http://127.0.0.1:9000/payloads-dev"
    )


def test_a_bucket_in_the_first_region_has_a_regional_name_too() -> None:
    url = Presigner(bucket="b", region="us-east-1").upload(LASTING, REF, now=NOW).url
    assert url == "https://b.s3.us-east-1.amazonaws.com"


@given(user=st.text(max_size=12), now=st.floats(0, 4e9), secret=st.from_regex(r"[!-~]{40}"))
def test_what_is_signed_shows_no_secret(user: str, now: float, secret: str) -> None:
    keys = replace(TEMPORARY, secret_access_key=secret)
    ref = replace(REF, key=blob_key(replace(ANNA, user_id=user), "p"))
    signed = presigner().upload(keys, ref, now=now)

    assert secret not in presigner().download(keys, ref, now=now).url
    assert secret not in str(signed)

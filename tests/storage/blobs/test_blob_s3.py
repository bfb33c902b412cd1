import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from storage.attempts import READ_TIMEOUT_S
from storage.blobs.presigned import PASSING_TAG
from storage.blobs.s3 import S3Blobs
from storage.errors import BlobMissingError, StorageUnavailableError
from storage.keys import blob_key
from storage.records import BlobRef
from storage.sigv4 import Credentials
from storage.ttl import DAY, SPILL
from tests.engines.fault_proxy import SLOW_DOWN, Answer, Fault, FaultProxy, fault_proxy
from tests.engines.processes import Engine
from tests.storage.blobs.s3_hosts import KEYS, fetch, make_bucket, opened, tags_of
from tests.storage.samples import ANNA, BEN, NOW

KEY = blob_key(ANNA, "payload")
PASSING = blob_key(ANNA, "passing")
REF = BlobRef(key=KEY, bytes=4, sha256="0" * 64)
BODY = b"body" * 1000


@pytest.fixture
async def bucket(s3rver: Engine) -> str:
    return await make_bucket(s3rver.url, KEYS["s3rver"])


@pytest.fixture
def proxy(s3rver: Engine) -> Iterator[FaultProxy]:
    with fault_proxy(s3rver) as proxy:
        yield proxy


@pytest.fixture
async def blobs(proxy: FaultProxy, bucket: str) -> AsyncIterator[S3Blobs]:
    async with opened(proxy.url, KEYS["s3rver"], bucket) as blobs:
        yield blobs


@asynccontextmanager
async def watched() -> AsyncIterator[None]:
    """Fail if the block takes 5 seconds, or keeps the event loop from others while it waits.

    What waited in the loop for an answer would keep it for `READ_TIMEOUT_S`; a busy machine does for less.
    """
    loop = asyncio.get_running_loop()
    longest, began = 0.0, loop.time()

    async def tick() -> None:
        nonlocal longest
        while True:
            before = loop.time()
            await asyncio.sleep(0.01)
            longest = max(longest, loop.time() - before)

    ticking = asyncio.create_task(tick())
    try:
        yield
    finally:
        ticking.cancel()
        assert loop.time() - began < 5
        assert longest < READ_TIMEOUT_S


# What a client gets


async def test_a_download_is_an_attachment_that_nobody_keeps(s3rver: Engine, bucket: str) -> None:
    async with opened(s3rver.url, KEYS["s3rver"], bucket) as blobs:
        ref = await blobs.put(KEY, b"{}")
        answer = await fetch(blobs.sign_download(ANNA, ref, now=time.time()))

    assert answer.body == b"{}"
    assert answer.headers["content-disposition"] == "attachment"
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "private, no-store"


@pytest.mark.parametrize(
    "key", ["", "..", "a/b", "a/b/c/d", "/etc/passwd", "a/../../x", "a/b/C"], ids=repr
)
async def test_what_is_no_key_is_not_asked_for(blobs: S3Blobs, proxy: FaultProxy, key: str) -> None:
    with pytest.raises(BlobMissingError):
        await blobs.get(key)
    with pytest.raises(BlobMissingError):
        await blobs.put(key, b"x")
    await blobs.delete(key)
    assert proxy.asked == []


async def test_signing_asks_nobody(blobs: S3Blobs, proxy: FaultProxy) -> None:
    blobs.sign_download(ANNA, REF, now=NOW)
    blobs.sign_upload(ANNA, REF, now=NOW)
    with pytest.raises(BlobMissingError):
        blobs.sign_download(BEN, REF, now=NOW)
    assert proxy.asked == []


# What the bucket does by itself


@pytest.mark.parametrize("engine", ["moto_server", "strict_ministack"])
async def test_what_passes_is_told_from_what_stays(
    request: pytest.FixtureRequest, engine: str
) -> None:
    url, keys = request.getfixturevalue(engine).url, KEYS["ministack"]
    bucket = await make_bucket(url, keys)
    async with opened(url, keys, bucket) as blobs:
        await blobs.put(KEY, BODY)
        await blobs.put(PASSING, BODY, passing=True)

    assert await tags_of(url, keys, bucket, KEY) == {}
    assert await tags_of(url, keys, bucket, PASSING) == dict([PASSING_TAG])


async def test_an_upload_passes(blobs: S3Blobs) -> None:
    tagging = blobs.sign_upload(ANNA, REF, now=NOW).fields["tagging"]
    assert tuple(each.text for each in ET.fromstring(tagging).iter() if each.text) == PASSING_TAG


def test_the_template_expires_what_passes() -> None:
    template = (Path(__file__).parents[3] / "infra/template.yaml").read_text()
    rule = "TagFilters:\n              - {{ Key: {}, Value: {} }}\n".format(*PASSING_TAG)
    days = re.search(re.escape(rule) + r" +ExpirationInDays: (\d+)", template)

    assert days is not None
    assert int(days[1]) * DAY >= SPILL
    assert "s3:PutObject]" not in template, "whoever writes tags too"


# What can go wrong

Call = Callable[[S3Blobs], Awaitable[Any]]
CALLS: dict[str, Call] = {
    "GET": lambda blobs: blobs.get(KEY),
    "PUT": lambda blobs: blobs.put(KEY, BODY),
    "DELETE": lambda blobs: blobs.delete(KEY),
}
FAILURES: dict[str, Answer | Fault] = {
    "slow down": SLOW_DOWN,
    "500": Answer(status=500, body=b"<Error><Code>InternalError</Code></Error>"),
    "503 of something between": Answer(status=503, body=b"<html>no"),
    "not XML": Answer(status=403, body=b"\xff\xfe<"),
    "cut": Fault.CUT,
    "hang": Fault.HANG,
}


@pytest.mark.parametrize(
    ("method", "failure"),
    [
        *(pytest.param("GET", failure, id=f"GET: {name}") for name, failure in FAILURES.items()),
        pytest.param("PUT", SLOW_DOWN, id="PUT: slow down"),
        pytest.param("PUT", Fault.HANG_AFTER, id="PUT: hang"),
        pytest.param("DELETE", Fault.CUT, id="DELETE: cut"),
    ],
)
async def test_a_failure_that_lasts_is_told_within_five_seconds(
    blobs: S3Blobs, proxy: FaultProxy, method: str, failure: Answer | Fault
) -> None:
    await blobs.put(KEY, BODY)  # the SDK has started
    proxy.fail(method, failure, times=99)
    async with watched():
        with pytest.raises(StorageUnavailableError) as raised:
            await CALLS[method](blobs)
    assert raised.value.retryable
    assert KEY not in str(raised.value)


@pytest.mark.parametrize("method", CALLS)
@pytest.mark.parametrize(
    "failure", [SLOW_DOWN, Fault.LOSE_REPLY, Fault.HANG], ids=["slow down", "lost reply", "hang"]
)
async def test_a_failure_that_passes_is_not_noticed(
    blobs: S3Blobs, proxy: FaultProxy, method: str, failure: Answer | Fault
) -> None:
    ref = await blobs.put(KEY, BODY)
    proxy.fail(method, failure)
    async with watched():
        answer = await CALLS[method](blobs)

    assert answer == {"GET": BODY, "PUT": ref, "DELETE": None}[method]
    assert proxy.asked[-2:] == [method, method]


async def test_a_body_that_breaks_off_is_no_body(blobs: S3Blobs, proxy: FaultProxy) -> None:
    await blobs.put(KEY, BODY)
    proxy.fail("GET", Fault.HALF_REPLY, times=99)

    with pytest.raises(StorageUnavailableError):
        await blobs.get(KEY)


async def test_an_idle_connection_that_was_closed_is_not_noticed(
    blobs: S3Blobs, proxy: FaultProxy
) -> None:
    for _ in range(3):
        await blobs.put(KEY, BODY)
        assert await blobs.get(KEY) == BODY
        proxy.cut_idle()


@pytest.mark.parametrize("code", ["AccessDenied", "NoSuchBucket", "ExpiredToken"])
async def test_a_refusal_is_not_taken_for_a_missing_body(
    blobs: S3Blobs, proxy: FaultProxy, code: str
) -> None:
    status = 404 if code == "NoSuchBucket" else 403
    body = f"<Error><Code>{code}</Code><Message>m</Message></Error>".encode()
    proxy.fail("GET", Answer(status=status, body=body))

    with pytest.raises(StorageUnavailableError, match=f"^S3 refuses: {code}$"):
        await blobs.get(KEY)


async def test_a_service_that_is_not_there() -> None:
    async with opened("http://127.0.0.1:9", KEYS["s3rver"], "bucket") as blobs:
        await blobs._open()
        async with watched():
            with pytest.raises(StorageUnavailableError):
                await blobs.get(KEY)


async def test_calls_at_once_share_one_client(blobs: S3Blobs) -> None:
    made = []
    make = blobs._new_client
    blobs._new_client = lambda: made.append(1) or make()
    await asyncio.gather(*(blobs.put(blob_key(ANNA, f"p{n}"), b"x") for n in range(30)))

    assert len(made) == 1


async def test_a_closed_store_opens_no_new_connections(blobs: S3Blobs, proxy: FaultProxy) -> None:
    await blobs.put(KEY, BODY)
    await blobs.aclose()
    await blobs.aclose()

    with pytest.raises(StorageUnavailableError):
        await blobs.get(KEY)
    assert proxy.asked == ["PUT"]


# What it signs with


async def test_a_functions_temporary_credentials_are_handed_on() -> None:
    keys = Credentials(
        access_key_id="ASIA", secret_access_key="hidden", session_token="token+of/it="
    )
    async with opened("http://127.0.0.1:9", keys, "bucket") as blobs:
        download = blobs.sign_download(ANNA, REF, now=NOW)
        upload = blobs.sign_upload(ANNA, REF, now=NOW)

    assert "X-Amz-Security-Token=token%2Bof%2Fit%3D" in download.url
    assert upload.fields["x-amz-security-token"] == "token+of/it="
    assert "hidden" not in download.url + str(upload)


async def test_they_alone_sign_whatever_else_the_sdk_would_find(
    monkeypatch: pytest.MonkeyPatch, s3rver: Engine, bucket: str
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "of-somebody-else")
    async with opened(s3rver.url, KEYS["s3rver"], bucket) as blobs:
        await blobs.put(KEY, BODY)
        assert await blobs.get(KEY) == BODY

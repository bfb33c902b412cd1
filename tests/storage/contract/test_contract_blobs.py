import asyncio
import re
from dataclasses import replace
from hashlib import sha256

import pytest

from storage.errors import BlobMissingError
from storage.keys import blob_key
from storage.records import BlobRef, Owner
from storage.ttl import DOWNLOAD_URL, UPLOAD_URL
from tests.storage.contract.blob_stores import BlobHost
from tests.storage.samples import ANNA, BEN, GREETING, NOW

KEY = blob_key(ANNA, "payload-1")
BODY = (GREETING * 2000).encode()

MARGIN = 30
"""Seconds before a URL's end at which it must still be good: engines have clocks of their own."""


def ref_of(body: bytes, key: str = KEY) -> BlobRef:
    return BlobRef(key=key, bytes=len(body), sha256=sha256(body).hexdigest())


async def past(host: BlobHost, moment: float) -> None:
    """Wait until it is later than that, by a second at most."""
    async with asyncio.timeout(5):
        while host.now() < moment:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("body", [BODY, b"", b"\0\xff" * 500_000], ids=["text", "empty", "binary"])
async def test_a_body_comes_back_as_it_was_put(host: BlobHost, body: bytes) -> None:
    assert await host.blobs.put(KEY, body) == ref_of(body)
    assert await host.blobs.get(KEY) == body


async def test_a_second_put_replaces_the_first(host: BlobHost) -> None:
    await host.blobs.put(KEY, b"first, and longer")
    await host.blobs.put(KEY, b"second")

    assert await host.blobs.get(KEY) == b"second"


async def test_readers_during_a_put_see_the_old_or_the_new_body(host: BlobHost) -> None:
    old, new = b"o" * 300_000, b"n" * 300_000
    await host.blobs.put(KEY, old)
    seen = await asyncio.gather(
        *(host.blobs.get(KEY) for _ in range(5)),
        host.blobs.put(KEY, new),
        *(host.blobs.get(KEY) for _ in range(5)),
    )

    assert {body for body in seen if isinstance(body, bytes)} <= {old, new}


async def test_what_is_not_there_is_missing(host: BlobHost) -> None:
    with pytest.raises(BlobMissingError):
        await host.blobs.get(KEY)
    await host.blobs.delete(KEY)


async def test_a_deleted_body_is_missing_and_its_neighbours_are_not(host: BlobHost) -> None:
    other = blob_key(ANNA, "payload-2")
    await host.blobs.put(KEY, b"one")
    await host.blobs.put(other, b"two")
    await host.blobs.delete(KEY)

    with pytest.raises(BlobMissingError):
        await host.blobs.get(KEY)
    assert await host.blobs.get(other) == b"two"


@pytest.mark.parametrize(
    "user_id", ["..", ".", "a/../../b", "A", "あ" * 128, "", "nul\0"], ids=repr
)
async def test_whatever_the_owner_is_called_the_body_comes_back(
    host: BlobHost, user_id: str
) -> None:
    key = blob_key(Owner(tenant_id="..", user_id=user_id), "../../etc/passwd")
    await host.blobs.put(key, b"body")

    assert await host.blobs.get(key) == b"body"
    await host.blobs.delete(key)


async def test_a_download_url_gives_the_body(host: BlobHost) -> None:
    ref = await host.blobs.put(KEY, BODY)
    signed = host.blobs.sign_download(ANNA, ref, now=NOW)
    assert signed.expires_at == NOW + DOWNLOAD_URL

    almost_over = host.now() - DOWNLOAD_URL + MARGIN
    for at in (host.now(), almost_over):
        assert await host.download(host.blobs.sign_download(ANNA, ref, now=at)) == BODY


async def test_a_download_url_is_refused_when_its_time_is_over(host: BlobHost) -> None:
    ref = await host.blobs.put(KEY, BODY)
    signed = host.blobs.sign_download(ANNA, ref, now=host.now() - DOWNLOAD_URL)
    await past(host, signed.expires_at)

    assert await host.download(signed) is None


async def test_a_download_url_is_good_for_nothing_else(host: BlobHost) -> None:
    other = blob_key(ANNA, "payload-2")
    ref = await host.blobs.put(KEY, BODY)
    await host.blobs.put(other, b"not this")
    signed = host.blobs.sign_download(ANNA, ref, now=host.now())

    assert await host.download(signed) == BODY
    assert await host.download(replace(signed, url=signed.url.replace(KEY, other))) is None
    later = re.sub(r"(?i)(expires=)3", r"\g<1>4", signed.url)  # relative in S3
    later = re.sub(r"(expires=)1", r"\g<1>2", later)
    assert later != signed.url
    assert await host.download(replace(signed, url=later)) is None


async def test_an_upload_url_takes_the_body_it_was_signed_for(host: BlobHost) -> None:
    signed = host.blobs.sign_upload(ANNA, ref_of(BODY), now=NOW)
    assert signed.expires_at == NOW + UPLOAD_URL

    almost_over = host.now() - UPLOAD_URL + MARGIN
    for at in (host.now(), almost_over):
        await host.blobs.delete(KEY)
        assert await host.upload(host.blobs.sign_upload(ANNA, ref_of(BODY), now=at), BODY) is True
        assert await host.blobs.get(KEY) == BODY


@pytest.mark.parametrize(
    "body",
    [b"", b"0123456789x", b"012345678", b"0123456780"],
    ids=["empty", "longer", "shorter", "other"],
)
async def test_another_body_is_refused_and_not_kept(host: BlobHost, body: bytes) -> None:
    signed = host.blobs.sign_upload(ANNA, ref_of(b"0123456789"), now=host.now())

    assert await host.upload(signed, body) is False
    with pytest.raises(BlobMissingError):
        await host.blobs.get(KEY)


async def test_an_upload_url_is_refused_when_its_time_is_over(host: BlobHost) -> None:
    signed = host.blobs.sign_upload(ANNA, ref_of(b"body"), now=host.now() - UPLOAD_URL)
    await past(host, signed.expires_at)

    assert await host.upload(signed, b"body") is False


async def test_an_upload_url_is_good_for_nothing_else(host: BlobHost) -> None:
    other = blob_key(BEN, "payload-1")
    signed = host.blobs.sign_upload(ANNA, ref_of(b"body"), now=host.now())
    elsewhere = {name: value.replace(KEY, other) for name, value in signed.fields.items()}
    elsewhere = replace(signed, url=signed.url.replace(KEY, other), fields=elsewhere)

    assert await host.upload(elsewhere, b"body") is False
    with pytest.raises(BlobMissingError):
        await host.blobs.get(other)


async def test_nobody_gets_a_url_for_anothers_key(host: BlobHost) -> None:
    ref = await host.blobs.put(KEY, b"hers")

    with pytest.raises(BlobMissingError):
        host.blobs.sign_download(BEN, ref, now=NOW)
    with pytest.raises(BlobMissingError):
        host.blobs.sign_upload(BEN, ref, now=NOW)

"""Where a text goes that is too long for one frame."""

from pathlib import Path

import pytest

from gateway.tenants.tier import Tier
from gateway.turns.uploads import Uploads
from gateway.wire.commands import Upload
from gateway.wire.errors import PayloadTooLargeError
from storage import ttl
from storage.blobs.files import open_file_blobs
from storage.keys import IdSource, blob_key
from tests.gateway.runs.fakes import ANNA, NOW, FakePayloads

SHA256 = "ab" * 32


def command(size: int = 100) -> Upload:
    return Upload(type="upload", id="u1", bytes=size, sha256=SHA256)


async def test_a_place_is_reserved_and_named(tmp_path: Path) -> None:
    blobs, payloads = await open_file_blobs(tmp_path), FakePayloads()
    uploads = Uploads(
        store=payloads,  # type: ignore[arg-type] # only the payload rows are used
        blobs=blobs,
        ids=IdSource(lambda: NOW, bytes),
        clock=lambda: NOW,
    )
    answer = await uploads.prepare(ANNA, Tier(), command())
    (row,) = payloads.rows.values()
    assert (row.payload_id, row.kind, row.created_at, row.expires_at) == (
        answer.upload_id,
        "upload",
        NOW,
        NOW + ttl.UPLOAD,
    )
    assert (row.ref.key, row.ref.bytes, row.ref.sha256) == (
        blob_key(ANNA, answer.upload_id),
        100,
        SHA256,
    )
    assert (answer.id, answer.method) == ("u1", "PUT")
    assert answer.expires_at == int((NOW + ttl.UPLOAD_URL) * 1000)
    assert answer.url
    await blobs.aclose()


@pytest.mark.parametrize(("size", "fits"), [(30, True), (31, False)])
async def test_no_more_than_the_tier_allows(tmp_path: Path, size: int, fits: bool) -> None:
    blobs, payloads = await open_file_blobs(tmp_path), FakePayloads()
    uploads = Uploads(
        store=payloads,  # type: ignore[arg-type] # only the payload rows are used
        blobs=blobs,
        ids=IdSource(lambda: NOW, bytes),
        clock=lambda: NOW,
    )
    if fits:
        await uploads.prepare(ANNA, Tier(content_bytes=30), command(size))
    else:
        with pytest.raises(PayloadTooLargeError):
            await uploads.prepare(ANNA, Tier(content_bytes=30), command(size))
    assert bool(payloads.rows) is fits
    await blobs.aclose()

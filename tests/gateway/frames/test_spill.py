"""What is too large for a frame: kept as a blob and announced, or cut where that fails."""

import hashlib

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from gateway.frames.spill import Spill, split_text_event
from gateway.tenants.allowance import Allowance
from gateway.wire.answers import Payload as PayloadAnswer
from gateway.wire.errors import RateLimitedError
from gateway.wire.events import AnyEvent, ContentDone, MemoryNoted, ToolCallDelta, content_delta
from gateway.wire.limits import FRAME_TARGET_BYTES
from storage import ttl
from storage.blobs.files import FileBlobs, open_file_blobs
from storage.errors import BlobMissingError, StorageUnavailableError
from storage.records import BlobRef
from tests.gateway.runs.fakes import ANNA, BEN, NOW, FakeBlobs, FakePayloads

EVENT: TypeAdapter[AnyEvent] = TypeAdapter(AnyEvent)
PIECE_BYTES = FRAME_TARGET_BYTES + 100


@pytest.fixture
def blobs() -> FakeBlobs:
    return FakeBlobs()


@pytest.fixture
def payloads() -> FakePayloads:
    return FakePayloads()


@pytest.fixture
def spill(blobs: FakeBlobs, payloads: FakePayloads) -> Spill:
    return Spill(store=payloads, blobs=blobs, clock=lambda: NOW)  # type: ignore[arg-type] # fakes


# Keeping


async def test_a_kept_frame_can_be_fetched(spill: Spill, payloads: FakePayloads) -> None:
    frame = "春".encode() * 5_000
    ref = await spill.keep(ANNA, "run-1.2", frame, expires_at=NOW + 60)
    assert await spill.fetch(ref) == frame
    assert ref.bytes == len(frame)
    (row,) = payloads.rows.values()
    assert (row.payload_id, row.kind, row.created_at, row.expires_at) == (
        "run-1.2",
        "spill",
        NOW,
        NOW + 60,
    )
    assert (row.ref.key, row.ref.sha256) == (ref.key, hashlib.sha256(frame).hexdigest())


async def test_an_answer_is_kept_until_no_url_for_it_works(
    spill: Spill, payloads: FakePayloads
) -> None:
    ref = await spill.keep_answer(ANNA, "p1", b"a page")
    assert await spill.fetch(ref) == b"a page"
    (row,) = payloads.rows.values()
    signed = orjson.loads(spill.announce(ANNA, ref, of="page", id="c1"))
    assert row.expires_at > NOW + ttl.DOWNLOAD_URL
    assert row.expires_at > signed["expires_at"] / 1000


async def test_answers_above_an_allowance_are_not_kept_but_events_are(
    blobs: FakeBlobs, payloads: FakePayloads
) -> None:
    """What a model says is bounded elsewhere, and must not be lost."""
    spill = Spill(
        store=payloads,  # type: ignore[arg-type] # a fake
        blobs=blobs,
        clock=lambda: NOW,
        set_aside=Allowance(burst=10, per_s=0.001),
    )
    await spill.keep_answer(ANNA, "p1", b"x" * 10)
    with pytest.raises(RateLimitedError):
        await spill.keep_answer(ANNA, "p2", b"x")
    await spill.keep_answer(BEN, "p3", b"x")
    await spill.keep(ANNA, "run-1.2", b"x", expires_at=NOW)
    assert list(payloads.rows) == ["p1", "p3", "run-1.2"]


async def test_the_row_is_there_before_the_blob(
    spill: Spill, blobs: FakeBlobs, payloads: FakePayloads
) -> None:
    """So that whatever happens between, a purge finds the blob."""
    blobs.failing = True
    with pytest.raises(StorageUnavailableError):
        await spill.keep(ANNA, "run-1.2", b"x", expires_at=NOW)
    assert list(payloads.rows) == ["run-1.2"]


async def test_people_do_not_share_a_key(spill: Spill) -> None:
    hers = await spill.keep(ANNA, "run-1.2", b"hers", expires_at=NOW)
    his = await spill.keep(BEN, "run-1.2", b"his", expires_at=NOW)
    assert hers.key != his.key
    assert await spill.fetch(hers) == b"hers"


async def test_a_frame_that_is_gone_is_missing(spill: Spill) -> None:
    with pytest.raises(BlobMissingError):
        await spill.fetch(BlobRef(key="acme/anna/none", bytes=1, sha256="0" * 64))


async def test_a_frame_that_is_not_what_was_kept_is_missing(spill: Spill, blobs: FakeBlobs) -> None:
    ref = await spill.keep(ANNA, "run-1.2", b'{"events":[]}', expires_at=NOW)
    await blobs.put(ref.key, b'{"eve')
    with pytest.raises(BlobMissingError):
        await spill.fetch(ref)


# Announcing


@pytest.mark.parametrize(
    ("named", "told"),
    [
        (
            {"of": "events", "run_id": "r1", "seq": 7},
            {"of": "events", "run_id": "r1", "first_seq": 7, "last_seq": 7},
        ),
        ({"of": "page", "id": "c1"}, {"of": "page", "id": "c1"}),
        ({"of": "error", "run_id": "r1"}, {"of": "error", "run_id": "r1"}),
    ],
    ids=["events", "page", "error"],
)
async def test_what_an_announcement_says(
    spill: Spill, named: dict[str, object], told: dict[str, object]
) -> None:
    ref = await spill.keep(ANNA, "p1", b"a frame", expires_at=NOW + 60)
    frame = orjson.loads(spill.announce(ANNA, ref, **named))  # type: ignore[arg-type] # a table
    assert frame == {
        "type": "payload",
        "url": f"/blobs/{ref.key}",
        "bytes": 7,
        "sha256": ref.sha256,
        "expires_at": int((NOW + 300) * 1000),
        **told,
    }
    PayloadAnswer.model_validate(frame)


async def test_an_announcement_of_somebody_elses_blob_is_not_made(
    tmp_path, payloads: FakePayloads
) -> None:
    files: FileBlobs = await open_file_blobs(tmp_path)
    spill = Spill(store=payloads, blobs=files, clock=lambda: NOW)  # type: ignore[arg-type] # a fake
    ref = await spill.keep(ANNA, "p1", b"hers", expires_at=NOW)
    with pytest.raises(BlobMissingError):
        spill.announce(BEN, ref, of="page", id="c1")
    await files.aclose()


# Cutting


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9_000))
def test_cut_text_is_the_same_text_in_small_events(text: str) -> None:
    pieces = split_text_event(content_delta(text))
    assert all(len(piece) <= PIECE_BYTES for piece in pieces)
    texts = [orjson.loads(piece)["text"] for piece in pieces]
    assert "".join(texts) == text
    assert all(texts)


@pytest.mark.parametrize("character", ["a", "é", "春", "😀", "\x01", '"', "\\", "\u2028"])
def test_no_script_makes_a_piece_too_large(character: str) -> None:
    pieces = split_text_event(content_delta(character * 30_000))
    assert max(map(len, pieces)) <= PIECE_BYTES
    assert sum(orjson.loads(piece)["text"].count(character) for piece in pieces) == 30_000


def test_a_cut_call_says_its_name_once_and_keeps_its_arguments() -> None:
    arguments = '{"query":"' + "春" * 5_000 + '"}'
    pieces = split_text_event(ToolCallDelta(call=2, name="search", arguments=arguments).encode())
    read = [EVENT.validate_json(piece) for piece in pieces]
    assert all(isinstance(each, ToolCallDelta) and each.call == 2 for each in read)
    assert [each.name for each in read if isinstance(each, ToolCallDelta)] == [
        "search",
        *[None] * (len(read) - 1),
    ]
    assert "".join(orjson.loads(piece)["arguments"] for piece in pieces) == arguments


@pytest.mark.parametrize(
    "event",
    [MemoryNoted(memory_id="m1", value="x" * 4_096), ContentDone()],
    ids=["memory", "content.done"],
)
def test_other_events_stay_whole(event: MemoryNoted | ContentDone) -> None:
    assert split_text_event(event.encode()) == [event.encode()]

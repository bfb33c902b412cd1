"""Sizes and shapes of what a client sends."""

import asyncio
import socket
from collections.abc import AsyncIterator

import orjson
import pytest
import pytest_asyncio

from tests.gateway.hosts.client import Client
from tests.gateway.hosts.local_host import LocalHost, local_host
from tests.gateway.hosts.puppet import Puppet

pytestmark = pytest.mark.asyncio(loop_scope="module")

FRAME = 32_768
MESSAGE = 131_072


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def host(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalHost]:
    folder = tmp_path_factory.mktemp("data")
    async with local_host(folder, model=Puppet(), user_commands=10_000) as running:
        yield running


def sending(size: int, letter: str = "x") -> bytes:
    """Return a `send` of exactly that many bytes."""
    fields = {"type": "send", "id": f"c{size}{ord(letter)}", "content": ""}
    room = size - len(orjson.dumps(fields))
    fields["content"] = letter * (room // len(letter.encode())) + "x" * (
        room % len(letter.encode())
    )
    frame = orjson.dumps(fields)
    assert len(frame) == size
    return frame


def cut(frame: bytes, size: int) -> list[bytes]:
    return [frame[at : at + size] for at in range(0, len(frame), size)]


@pytest.mark.parametrize("letter", ["x", "あ", "😀"])
async def test_a_frame_may_have_32768_bytes(host: LocalHost, letter: str) -> None:
    async with host.client() as client:
        await client.ws.send(sending(FRAME, letter).decode())
        accepted = await client.hear("accepted")
        assert (await client.events(accepted["run_id"]))[-1]["reason"] == "stop"


@pytest.mark.parametrize("letter", ["x", "あ"])
async def test_a_larger_frame_closes_the_connection(host: LocalHost, letter: str) -> None:
    async with host.client() as client:
        await client.ws.send(sending(FRAME + 1, letter).decode())
        assert (await client.closed())[0] == 1009


async def test_a_message_in_fragments_may_have_131072_bytes(host: LocalHost) -> None:
    async with host.client() as client:
        await client.ws.send(cut(sending(MESSAGE), FRAME), text=True)
        accepted = await client.hear("accepted")
        assert (await client.events(accepted["run_id"]))[-1]["reason"] == "stop"


async def test_a_fragment_may_end_inside_a_character(host: LocalHost) -> None:
    async with host.client() as client:
        await client.ws.send(cut(sending(50_000, "あ"), 7_001), text=True)
        accepted = await client.hear("accepted")
        await client.events(accepted["run_id"])
        question, _ = await client.history(accepted["session_id"])
        assert set(question["content"].rstrip("x")) == {"あ"}


@pytest.mark.parametrize("size", [FRAME, 1000], ids=["in-large-fragments", "in-small-fragments"])
async def test_a_larger_message_in_fragments_closes_the_connection(
    host: LocalHost, size: int
) -> None:
    async with host.client() as client:
        await client.ws.send(cut(sending(MESSAGE + 1), size), text=True)
        assert (await client.closed())[0] == 1009


async def test_a_fragment_above_a_frames_size_closes_the_connection(host: LocalHost) -> None:
    async with host.client() as client:
        await client.ws.send(cut(sending(40_000), FRAME + 1), text=True)
        assert (await client.closed())[0] == 1009


async def test_text_that_is_not_utf8_closes_the_connection(host: LocalHost) -> None:
    async with host.client() as client:
        await client.ws.send(b'{"type":"ping","x":"\xff"}', text=True)
        assert (await client.closed())[0] == 1007


BAD = {
    "binary": (b'{"type":"ping"}', "bad_request"),
    "empty": ("", "bad_request"),
    "not-json": ("{", "bad_request"),
    "list": ("[]", "bad_request"),
    "string": ('"ping"', "bad_request"),
    "no-type": ("{}", "bad_request"),
    "type-not-text": ('{"type":1}', "bad_request"),
    "unknown-type": ('{"type":"dance"}', "unsupported"),
    "unknown": ('{"type":"teleport","session_id":"s"}', "unsupported"),
    "answers-type": ('{"type":"ready"}', "unsupported"),
    "nan": ('{"type":"ping","t":NaN}', "bad_request"),
    "huge-number": ('{"type":"ping","t":1e999}', "bad_request"),
    "byte-order-mark": ('\ufeff{"type":"ping"}', "bad_request"),
    "lone-surrogate": (r'{"type":"send","id":"a","content":"\ud83d"}', "bad_request"),
    "deep": ("[" * 30_000, "bad_request"),
    "deep-inside": ('{"type":"ping","x":' + "[" * 5000 + "]" * 5000 + "}", "bad_request"),
    "missing-field": ('{"type":"send","id":"a"}', "bad_request"),
    "blank": ('{"type":"send","id":"a","content":" \\n"}', "bad_request"),
    "two-sources": ('{"type":"send","id":"a","content":"x","upload_id":"u"}', "bad_request"),
    "bad-id": ('{"type":"send","id":"a b","content":"x"}', "bad_request"),
    "newline-in-id": ('{"type":"send","id":"a\\n","content":"x"}', "bad_request"),
    "long-id": ('{"type":"send","id":"%s","content":"x"}' % ("a" * 65), "bad_request"),
    "null-field": ('{"type":"send","id":"a","content":null}', "bad_request"),
    "number-as-text": ('{"type":"send","id":"a","content":1}', "bad_request"),
    "negative": ('{"type":"resume","run_id":"r","after":-1}', "bad_request"),
    "fraction": ('{"type":"resume","run_id":"r","after":1.5}', "bad_request"),
    "beyond-64-bits": ('{"type":"resume","run_id":"r","after":1e300}', "bad_request"),
    "bool": ('{"type":"resume","run_id":"r","after":true}', "bad_request"),
    "limit-0": ('{"type":"sessions","id":"a","limit":0}', "bad_request"),
    "limit-101": ('{"type":"sessions","id":"a","limit":101}', "bad_request"),
    "bad-cursor": ('{"type":"sessions","id":"a","before":"x"}', "bad_request"),
    "cursor-of-others": ('{"type":"memories","id":"a","before":"eyJ1IjoxfQ"}', "bad_request"),
    "no-sha256": ('{"type":"upload","id":"a","bytes":1,"sha256":"x"}', "bad_request"),
    "role": ('{"type":"send","id":"a","content":"x","role":"system"}', "bad_request"),
    "tools-in-ping": ('{"type":"ping","tools":[]}', "bad_request"),
}


@pytest.mark.parametrize(("frame", "code"), BAD.values(), ids=BAD)
async def test_a_bad_frame_is_answered_and_the_socket_stays(
    host: LocalHost, caplog: pytest.LogCaptureFixture, frame: str | bytes, code: str
) -> None:
    async with host.client() as client:
        await client.ws.send(frame)
        told = await client.hear()
        assert (told["type"], told["code"]) == ("error", code)
        assert told.keys() <= {"type", "code", "message", "retryable", "id"}
        await client.say("ping", t=1)
        assert (await client.hear())["type"] == "pong"
    assert not [record for record in caplog.records if record.exc_info]


async def test_an_error_carries_the_id_that_could_be_read(client: Client) -> None:
    await client.ws.send('{"type":"dance","id":"a-1"}')
    assert (await client.hear())["id"] == "a-1"
    await client.ws.send('{"type":"dance","id":"<script>"}')
    assert "id" not in await client.hear()


async def test_twenty_bad_frames_in_a_row_close_the_socket(client: Client) -> None:
    for _ in range(20):
        await client.ws.send("x")
    assert await client.closed() == (4400, "too many bad messages")
    errors = client.frames[1:]
    assert [error["code"] for error in errors] == ["bad_request"] * 21
    assert [error.get("fatal", False) for error in errors] == [False] * 20 + [True]


async def test_a_good_frame_in_between_starts_the_count_anew(client: Client) -> None:
    for _ in range(3):
        for _ in range(19):
            await client.ws.send("x")
        await client.say("ping")
        await client.hear("pong")


async def test_what_is_refused_for_its_meaning_is_no_bad_frame(client: Client) -> None:
    for _ in range(25):
        await client.say("resume", run_id="nothing", after=0)
        assert (await client.hear("error"))["code"] == "not_found"


@pytest_asyncio.fixture(loop_scope="module")
async def client(host: LocalHost) -> AsyncIterator[Client]:
    async with host.client() as connected:
        yield connected


async def test_a_flood_of_frames_is_answered_in_order(client: Client) -> None:
    for n in range(500):
        await client.say("ping", t=n)
    async with asyncio.timeout(10):
        answers = [(await client.hear("pong"))["t"] for _ in range(500)]
    assert answers == list(range(500))


async def test_no_frame_is_ever_larger_than_a_message_may_be(
    host: LocalHost, client: Client
) -> None:
    """The client itself refuses larger ones; here it is given every chance to see one."""
    accepted = await client.send("x" * 30_000)
    await client.events(accepted["run_id"])
    await client.history(accepted["session_id"])
    title = "あ" * 200
    for _ in range(3):
        sessions = [(await client.exchange("x"))[0]["session_id"] for _ in range(5)]
        for session_id in sessions:
            await client.ask("session", session_id=session_id, title=title)
        page = await client.ask("sessions", limit=100)
        assert page["type"] == "page"
    assert max(len(orjson.dumps(frame)) for frame in client.frames) <= 10_240


async def test_a_small_frame_waits_for_no_other_to_arrive(host: LocalHost) -> None:
    async with host.client():
        (opened,) = host.sockets
        raw = opened.ws.transport.get_extra_info("socket")
        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1

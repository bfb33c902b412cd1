"""What is too large for a frame: spilled on its way out, uploaded on its way in."""

import errno
import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch
from urllib.parse import parse_qsl, urlencode, urlsplit

import orjson
import pytest

from storage import ttl
from storage.blobs import files
from streaming.parts import ArgumentsDelta, CallStarted
from tests.gateway.hosts.client import Client, Frame, text_of
from tests.gateway.hosts.local_host import Answered, Clock, LocalHost, local_host
from tests.gateway.hosts.puppet import Puppet, reply
from tests.gateway.hosts.raw_http import line_to

LARGE = "大きい" * 5000
"""45,000 bytes in one event."""


@contextmanager
def full_disk() -> Iterator[None]:
    """Refuse to write any blob."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with patch.object(files, "_write_new", refuse):
        yield


# On the way out


@pytest.mark.parametrize(
    ("text", "spilled"),
    [
        ("x" * (10_240 - 34), False),
        ("x" * (10_240 - 33), True),
        ("あ" * 3402, False),
        ("あ" * 3403, True),
        ('"' * 5103, False),
        ('"' * 5104, True),
    ],
    ids=["ascii", "ascii-more", "japanese", "japanese-more", "escaped", "escaped-more"],
)
async def test_an_event_above_10240_bytes_is_spilled(
    host: LocalHost, puppet: Puppet, text: str, spilled: bool
) -> None:
    event = orjson.dumps({"type": "content.delta", "text": text})
    assert (len(event) > 10_240) is spilled, "the case itself"
    puppet.says(*reply("Before. ", text, " After."))
    async with host.client() as client:
        accepted, events = await client.exchange("Hi")
        assert text_of(events) == f"Before. {text} After."
        payloads = [frame for frame in client.frames if frame["type"] == "payload"]
        assert len(payloads) == spilled
        if spilled:
            (payload,) = payloads
            assert payload["of"] == "events"
            assert payload["run_id"] == accepted["run_id"]
            assert (payload["first_seq"], payload["last_seq"]) == (3, 3)
            assert await client.fetch(payload) == {
                "type": "events",
                "run_id": accepted["run_id"],
                "first_seq": 3,
                "last_seq": 3,
                "events": [{"type": "content.delta", "text": text}],
            }


async def test_a_spilled_event_is_replayed_with_a_fresh_url_after_a_restart(
    folder: Path, puppet: Puppet
) -> None:
    clock = Clock()
    puppet.says(*reply("Before. ", LARGE, " After."))
    async with local_host(folder, model=puppet, clock=clock) as host, host.client() as client:
        run, events = await client.exchange("Hi")
        first = await url_of(client)
    clock.advance(ttl.DOWNLOAD_URL + 1)
    async with local_host(folder, model=puppet, clock=clock) as host, host.client() as client:
        assert (await host.http("GET", first)).status == 404, "its time is over"
        await client.say("resume", run_id=run["run_id"], after=0)
        await client.hear("resumed")
        assert await client.events(run["run_id"]) == events
        assert await url_of(client) != first


async def url_of(client: Client) -> str:
    (payload,) = [frame for frame in client.frames if frame["type"] == "payload"]
    url: str = payload["url"]
    return url


async def test_when_blobs_cannot_be_written_the_text_comes_in_smaller_events(
    host: LocalHost, puppet: Puppet
) -> None:
    puppet.says(
        [CallStarted(1, "x", "search"), ArgumentsDelta(1, f'"{LARGE}"')],
        *reply("Before. ", LARGE + "\x00" * 5000, " After."),
    )
    with full_disk():
        async with host.client() as client:
            run, events = await client.exchange("Hi")
            await client.say("resume", run_id=run["run_id"], after=0)
            await client.hear("resumed")
            assert await client.events(run["run_id"]) == events
    assert text_of(events) == f"Before. {LARGE}{chr(0) * 5000} After."
    calls = [event for event in events if event["type"] == "tool_call.delta"]
    assert "".join(call["arguments"] for call in calls) == f'"{LARGE}"'
    assert ["name" in call for call in calls] == [True, *[False] * (len(calls) - 1)]
    assert events[-1]["saved"] is True
    assert "payload" not in {frame["type"] for frame in client.frames}
    assert max(len(orjson.dumps(frame)) for frame in client.frames) <= 10_240 + 200


async def test_a_page_with_a_large_message_is_spilled(host: LocalHost, puppet: Puppet) -> None:
    puppet.says(*reply("Once ", LARGE))
    async with host.client() as client:
        session_id = (await client.exchange("Hi"))[0]["session_id"]
        payload = await client.ask("history", session_id=session_id)
        assert (payload["type"], payload["of"]) == ("payload", "page")
        assert "run_id" not in payload
        page = await client.fetch(payload)
        assert page["id"] == payload["id"]
        assert [item["content"] for item in page["items"]] == [f"Once {LARGE}"]
        assert len(await client.history(session_id)) == 2


async def test_pages_end_between_items_at_about_8_kb(host: LocalHost, puppet: Puppet) -> None:
    puppet.says(*reply("い" * 1000))
    async with host.client() as client:
        session: dict[str, str] = {}
        for turn in range(6):
            accepted, _ = await client.exchange(f"{turn}" * 1000, **session)
            session = {"session_id": accepted["session_id"]}
        whole = await client.history(accepted["session_id"])
        assert [item["content"][0] for item in whole] == [*"0い1い2い3い4い5い"]
        pages = [frame for frame in client.frames if frame["type"] == "page"]
    assert len(pages) == 4
    assert max(len(orjson.dumps(page)) for page in pages) < 10_240


async def test_a_large_message_that_stands_for_an_expired_log_is_spilled(
    folder: Path, puppet: Puppet
) -> None:
    clock = Clock()
    puppet.says(*reply("Once ", LARGE))
    async with local_host(folder, model=puppet, clock=clock) as host, host.client() as client:
        run, _ = await client.exchange("Hi")
    clock.advance(ttl.LOG + 1)
    async with local_host(folder, model=puppet, clock=clock) as host, host.client() as client:
        await client.say("resume", run_id=run["run_id"], after=0)
        payload = await client.hear("payload")
        assert (payload["of"], payload["run_id"]) == ("error", run["run_id"])
        told = await client.fetch(payload)
        assert told["code"] == "not_resumable"
        assert told["stored"]["content"] == f"Once {LARGE}"


@pytest.fixture
async def spilled(host: LocalHost, puppet: Puppet) -> str:
    puppet.says(*reply("Once ", LARGE))
    async with host.client() as client:
        await client.exchange("Hi")
        return await url_of(client)


async def test_a_payload_is_served_as_a_download_of_json(host: LocalHost, spilled: str) -> None:
    answered = await host.http("GET", spilled)
    assert answered.status == 200
    assert answered.headers["Content-Type"] == "application/json"
    assert answered.headers["Content-Disposition"] == "attachment"
    assert answered.headers["X-Content-Type-Options"] == "nosniff"
    assert answered.headers["Cache-Control"] == "private, no-store"


def changed(url: str, **query: str) -> str:
    parts = urlsplit(url)
    return parts._replace(query=urlencode({**dict(parse_qsl(parts.query)), **query})).geturl()


async def test_a_url_that_was_altered_opens_nothing(host: LocalHost, spilled: str) -> None:
    parts = urlsplit(spilled)
    query = dict(parse_qsl(parts.query))
    other = "B" if query["sig"][-2] == "A" else "A"
    altered = [
        changed(spilled, sig=query["sig"][:-2] + other + query["sig"][-1]),
        changed(spilled, sig=""),
        changed(spilled, sig="ä"),
        changed(spilled, expires=str(int(query["expires"]) + 1)),
        changed(spilled, expires="x"),
        f"{parts.path}?expires={query['expires']}",
        parts.path,
        parts._replace(path=parts.path[:-1] + "x").geturl(),
        parts._replace(path=parts.path.rpartition("/")[0] + "/..%2f..%2fmakoto.db").geturl(),
        parts._replace(path="/v1/payloads/").geturl(),
    ]
    for url in altered:
        answered = await host.http("GET", url)
        assert answered.status == 404, url
        assert orjson.loads(answered.body)["error"]["code"] == "not_found"


async def test_a_download_url_does_not_upload(host: LocalHost, spilled: str) -> None:
    assert (await host.http("PUT", spilled, body=b"x")).status == 404


async def test_a_url_expires(host: LocalHost, spilled: str, clock: Clock) -> None:
    clock.advance(ttl.DOWNLOAD_URL + 1)
    answered = await host.http("GET", spilled)
    assert answered.status == 404


# On the way in


@pytest.fixture
async def client(host: LocalHost) -> AsyncIterator[Client]:
    async with host.client() as connected:
        yield connected


async def ask_to_upload(client: Client, body: bytes) -> Frame:
    digest = hashlib.sha256(body).hexdigest()
    ready = await client.ask("upload", bytes=len(body), sha256=digest)
    assert ready["type"] == "upload_ready", ready
    return ready


async def put(host: LocalHost, ready: Frame, body: bytes) -> Answered:
    return await host.http(ready["method"], ready["url"], body=body)


@pytest.mark.parametrize(
    "text",
    ["x" * 100_000, "日本語👩‍👩‍👧\n" * 5000, "あ" * 87_381 + "x"],
    ids=["ascii", "japanese", "the-largest"],
)
async def test_a_text_too_long_for_a_frame_is_uploaded(
    host: LocalHost, client: Client, puppet: Puppet, text: str
) -> None:
    body = text.encode()
    ready = await ask_to_upload(client, body)
    assert (ready["method"], ready["fields"]) == ("PUT", {})
    assert (await put(host, ready, body)).status == 204
    accepted = await client.ask("send", upload_id=ready["upload_id"], id="c1")
    assert text_of(await client.events(accepted["run_id"])) == "Hello"
    assert puppet.requests[0].messages[-1].content == text
    question, _ = await client.history(accepted["session_id"])
    assert question["content"] == text
    again = await client.ask("send", upload_id=ready["upload_id"], id="c1")
    assert again["duplicate"] is True


async def test_a_text_may_be_longer_than_allowed_by_no_byte(client: Client) -> None:
    limit = client.ready["limits"]["content_bytes"]
    told = await client.ask("upload", bytes=limit + 1, sha256="0" * 64)
    assert told["code"] == "payload.too_large"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"other text", 400, "bad_request"),
        (b"short", 400, "bad_request"),
        (b"", 400, "bad_request"),
        (b"longer than announced", 413, "payload.too_large"),
    ],
    ids=["other-hash", "too-short", "empty", "too-long"],
)
async def test_a_body_that_is_not_as_announced_is_refused(
    host: LocalHost, client: Client, body: bytes, status: int, code: str
) -> None:
    ready = await ask_to_upload(client, b"these text")
    answered = await put(host, ready, body)
    assert answered.status == status
    assert orjson.loads(answered.body)["error"]["code"] == code
    told = await client.ask("send", upload_id=ready["upload_id"])
    assert told["code"] == "not_found"
    assert (await put(host, ready, b"these text")).status == 204, "the right one still may come"


async def test_a_body_without_an_announced_length_is_counted(
    host: LocalHost, client: Client
) -> None:
    ready = await ask_to_upload(client, b"these text")
    async with line_to(host.port) as line:
        head = f"PUT {ready['url']} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        await line.say(head.encode() + b"b\r\nthese text!\r\n0\r\n\r\n")
        answer = await line.head()
        assert answer.status == 400
        assert await line.error_code(answer) == "bad_request"


async def test_the_same_body_may_be_uploaded_twice(host: LocalHost, client: Client) -> None:
    ready = await ask_to_upload(client, b"once")
    for _ in range(2):
        assert (await put(host, ready, b"once")).status == 204
    accepted = await client.ask("send", upload_id=ready["upload_id"])
    assert (await client.events(accepted["run_id"]))[-1]["reason"] == "stop"


async def test_an_upload_that_has_not_arrived_is_not_found(client: Client) -> None:
    ready = await ask_to_upload(client, b"once")
    told = await client.ask("send", upload_id=ready["upload_id"])
    assert told["code"] == "not_found"


async def test_an_upload_is_its_owners_alone(host: LocalHost, client: Client) -> None:
    ready = await ask_to_upload(client, b"once")
    await put(host, ready, b"once")
    async with host.client("hana") as other:
        told = await other.ask("send", upload_id=ready["upload_id"])
        assert told["code"] == "not_found"


async def test_a_spilled_frame_is_no_upload(host: LocalHost, client: Client, spilled: str) -> None:
    payload_id = urlsplit(spilled).path.rpartition("/")[2].replace("_2e", ".")
    told = await client.ask("send", upload_id=payload_id)
    assert told["code"] == "not_found"


@pytest.mark.parametrize("body", [b"\xff\xfe", b" \n\t ", "\ufeff".encode()[:2]])
async def test_an_upload_that_is_no_text_is_refused(
    host: LocalHost, client: Client, body: bytes
) -> None:
    ready = await ask_to_upload(client, body)
    assert (await put(host, ready, body)).status == 204
    told = await client.ask("send", upload_id=ready["upload_id"])
    assert told["code"] == "bad_request"


async def test_an_upload_url_expires_and_cannot_be_altered(
    host: LocalHost, client: Client, clock: Clock
) -> None:
    ready = await ask_to_upload(client, b"once")
    for change in ({"bytes": "400000"}, {"sha256": "0" * 64}, {"expires": "9999999999"}):
        altered = changed(ready["url"], **change)
        assert (await host.http("PUT", altered, body=b"once")).status == 404
    assert (await host.http("GET", ready["url"])).status == 404
    clock.advance(ttl.UPLOAD_URL + 1)
    assert (await put(host, ready, b"once")).status == 404


async def test_a_message_may_be_sent_again_after_its_upload_is_gone(
    folder: Path, puppet: Puppet
) -> None:
    clock = Clock()
    async with local_host(folder, model=puppet, clock=clock) as host, host.client() as client:
        ready = await ask_to_upload(client, b"once")
        await put(host, ready, b"once")
        accepted = await client.ask("send", upload_id=ready["upload_id"], id="c1")
        await client.events(accepted["run_id"])
    clock.advance(ttl.UPLOAD + 1)
    async with local_host(folder, model=puppet, clock=clock) as host, host.client() as client:
        again = await client.ask("send", upload_id=ready["upload_id"], id="c1")
        assert again == accepted | {"duplicate": True}
        new = await client.ask("send", upload_id=ready["upload_id"], id="c2")
        assert new["code"] == "not_found"


async def test_a_full_disk_is_told_to_the_uploader(host: LocalHost, client: Client) -> None:
    ready = await ask_to_upload(client, b"once")

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with patch.object(files, "_write_all", refuse):
        answered = await put(host, ready, b"once")
    assert answered.status == 503
    assert orjson.loads(answered.body)["error"]["code"] == "storage.unavailable"

"""The terminal's client: each event once, whatever becomes of the connection."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import BodyPartReader, web
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Response

from gateway.cli import client as client_module
from gateway.cli import reading as reading_module
from gateway.cli.client import CUTS_MAX, TerminalClient
from gateway.cli.failure import CommandFailedError
from gateway.wire.errors import AuthInvalidError
from tests.gateway.cli.fake_gateway import (
    DONE,
    STARTED,
    Client,
    FakeGateway,
    Script,
    delta,
    fake_gateway,
    whole_answer,
)
from tests.gateway.hosts.local_host import local_host
from tests.gateway.hosts.puppet import Puppet, reply
from tests.gateway.web.cutting_proxy import Fate, Line, cutting_proxy

Refusal = Callable[[ServerConnection, object], Response]


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "RETRIES_S", (0.0, 0.0))


async def ask(gateway: FakeGateway, content: str = "Hi", session: str | None = None) -> list[Any]:
    """Send one message and return the events of its answer."""
    async with asyncio.timeout(5), TerminalClient(gateway.url, "t0ken") as client:
        return [event async for event in client.answer("c1", content, session)]


def texts(events: list[Any]) -> str:
    return "".join(event["text"] for event in events if event["type"] == "content.delta")


# A whole exchange


async def test_an_answer() -> None:
    async with fake_gateway(whole_answer) as gateway:
        events = await ask(gateway, "こんにちは 🌸")
    assert [event["type"] for event in events] == ["started", "content.delta", "done"]
    assert texts(events) == "こんにちは 🌸"
    assert gateway.heard == [
        {"type": "hello", "client": "makoto chat"},
        {"type": "send", "id": "c1", "content": "こんにちは 🌸"},
    ]


async def test_the_token_is_in_the_handshake_alone() -> None:
    async with fake_gateway(whole_answer) as gateway:
        await ask(gateway)
    headers = gateway.headers[0]
    assert headers["Authorization"] == "Bearer t0ken"
    assert headers["Sec-WebSocket-Protocol"] == "makoto.v1"
    assert "Sec-WebSocket-Extensions" not in headers
    assert "t0ken" not in str(gateway.heard)


async def test_a_session_is_named() -> None:
    async with fake_gateway(whole_answer) as gateway:
        await ask(gateway, session="s9")
    assert gateway.heard[1]["session_id"] == "s9"


async def test_several_answers_on_one_connection() -> None:
    async with fake_gateway(whole_answer) as gateway:
        async with TerminalClient(gateway.url, "t") as client:
            for number in range(3):
                stream = client.answer(f"c{number}", f"m{number}", None)
                assert texts([event async for event in stream]) == f"m{number}"
        assert gateway.kinds() == ["hello", "send", "send", "send"]


async def test_events_may_come_before_accepted() -> None:
    async def script(client: Client) -> None:
        await client.hello()
        await client.hear("send")
        await client.events(1, STARTED, delta("One"))
        await client.say(type="accepted", id="c1", run_id="r1", session_id="s1", message_id="m1")
        await client.events(3, delta(" two"), DONE)

    async with fake_gateway(script) as gateway:
        assert texts(await ask(gateway)) == "One two"


async def test_other_frames_and_other_runs_are_passed_over() -> None:
    async def script(client: Client) -> None:
        await client.hello()
        await client.say(type="goaway", reason="max_age", deadline=1)
        await client.events(1, {**STARTED, "id": "other"}, delta("not this"), run_id="r9")
        await client.accept()
        await client.say(type="pong")
        await client.events(1, STARTED, delta("this"), DONE)

    async with fake_gateway(script) as gateway:
        assert texts(await ask(gateway)) == "this"


async def test_what_is_known_already_is_dropped() -> None:
    async def script(client: Client) -> None:
        await client.hello()
        await client.accept()
        await client.events(1, STARTED, delta("a"))
        await client.events(1, STARTED, delta("a"), delta("b"))
        await client.events(2, delta("a"))
        await client.events(3, delta("b"), delta("c"), DONE)

    async with fake_gateway(script) as gateway:
        events = await ask(gateway)
    assert texts(events) == "abc"
    assert len(events) == 5


async def test_cancel() -> None:
    async def script(client: Client) -> None:
        await client.hello()
        await client.accept()
        await client.events(1, STARTED)
        await client.hear("cancel")
        await client.events(2, {**DONE, "reason": "cancelled"})

    async with fake_gateway(script) as gateway, TerminalClient(gateway.url, "t") as client:
        events = []
        async for event in client.answer("c1", "Hi", None):
            events.append(event)
            if event["type"] == "started":
                await client.cancel("c1")
    assert events[-1]["reason"] == "cancelled"
    assert gateway.heard[-1] == {"type": "cancel", "id": "c1"}


# Cut connections


async def test_a_cut_answer_is_resumed_and_nothing_is_yielded_twice() -> None:
    async def first(client: Client) -> None:
        await client.hello()
        await client.accept()
        await client.events(1, STARTED, delta("One"))

    async def second(client: Client) -> None:
        await client.hello()
        assert await client.hear("resume") == {"type": "resume", "run_id": "r1", "after": 2}
        await client.say(type="resumed", run_id="r1", state="running", last_seq=3)
        await client.events(2, delta("One"), delta(" two"))
        await client.events(4, DONE)

    async with fake_gateway(first, second) as gateway:
        events = await ask(gateway)
    assert texts(events) == "One two"
    assert [event["type"] for event in events].count("done") == 1


async def test_what_a_crashed_server_had_not_logged_is_taken_back() -> None:
    at = {"first_seq": 4, "last_seq": 4}
    body = orjson.dumps({"type": "events", "run_id": "r1", **at, "events": [delta(" all")]})
    interrupted = {**DONE, "reason": "interrupted"}
    async with served(body) as (origin, _):

        async def first(client: Client) -> None:
            await client.hello()
            await client.accept()
            await client.events(1, STARTED, delta("One"))
            await client.events(3, delta(" for"), volatile=True)
            await client.say(**spilled(body, f"{origin}/x", **at), volatile=True)
            await client.events(5, delta(" that"), volatile=True)

        async def second(client: Client) -> None:
            await client.hello()
            assert (await client.hear("resume"))["after"] == 2
            await client.say(type="resumed", run_id="r1", state="ended", last_seq=3)
            await client.events(3, interrupted)

        async with fake_gateway(first, second) as gateway:
            events = await ask(gateway)
    anew = events.index({"type": "restarted"})
    assert texts(events[:anew]) == "One for all that"
    assert events[anew + 1 :] == [STARTED, delta("One"), interrupted]


async def test_a_message_that_was_not_accepted_is_sent_again() -> None:
    async def first(client: Client) -> None:
        await client.hello()
        await client.hear("send")

    async with fake_gateway(first, whole_answer) as gateway:
        assert texts(await ask(gateway)) == "Hi"
    assert gateway.kinds() == ["hello", "send", "hello", "send"]
    assert gateway.heard[1] == gateway.heard[3]


async def test_a_server_that_comes_back_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "RETRIES_S", (0.0,) * 5)

    async def first(client: Client) -> None:
        await client.hello()
        await client.accept()
        await client.events(1, STARTED, delta("One"))

    async def not_yet(client: Client) -> None:
        await client.ws.close(1012)

    async def last(client: Client) -> None:
        await client.hello()
        await client.hear("resume")
        await client.events(3, DONE)

    async with fake_gateway(first, not_yet, not_yet, last) as gateway:
        assert texts(await ask(gateway)) == "One"


async def test_a_server_that_does_not_come_back() -> None:
    async def first(client: Client) -> None:
        await client.hello()
        await client.accept()

    async def never(client: Client) -> None:
        await client.ws.close(1012)

    async with fake_gateway(first, never) as gateway:
        with pytest.raises(CommandFailedError, match="was lost"):
            await ask(gateway)


async def test_a_connection_that_is_cut_again_and_again_is_given_up() -> None:
    async def cut(client: Client) -> None:
        await client.hello()
        await client.ws.recv()

    async with fake_gateway(cut) as gateway:
        with pytest.raises(CommandFailedError, match="again and again"):
            await ask(gateway)
    assert gateway.kinds() == ["hello"] * (CUTS_MAX + 1)


@dataclass
class CutEachPart:
    """Cuts each connection after the first part of the answer that it has brought."""

    lines: int = 0

    def opened(self, line: Line) -> bool:
        self.lines += 1
        return True

    def judge(self, line: Line, sender: str, frame: dict[str, Any]) -> Fate:
        return "carry and cut" if frame["type"] == "events" else "carry"


async def test_a_real_answer_that_is_cut_after_each_part_is_whole(tmp_path: Path) -> None:
    puppet, plan = Puppet(), CutEachPart()
    gates = [asyncio.Event() for _ in range(6)]
    pieces = [step for n, gate in enumerate(gates) for step in (f"{n} 春🌸 ", gate)]
    puppet.says(*reply(*pieces))
    async with local_host(tmp_path / "data", model=puppet) as host:
        with cutting_proxy() as proxy:
            proxy.target, proxy.plans["cli"] = host.port, plan
            url = f"{proxy.origin.replace('http', 'ws')}/v1/ws?plan=cli"
            events = []
            async with asyncio.timeout(20), TerminalClient(url, host.token()) as client:
                async for event in client.answer("c1", "Hi", None):
                    events.append(event)
                    if event["type"] == "content.delta":
                        gates.pop(0).set()
    assert texts(events) == "".join(f"{n} 春🌸 " for n in range(6))
    assert [event["type"] for event in events].count("done") == 1
    assert plan.lines >= 6
    assert len(puppet.requests) == 1


# What is missing


async def test_a_gap_is_asked_for_at_once_and_not_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_module, "RESUME_GAP_S", 60.0)

    async def script(client: Client) -> None:
        await client.hello()
        await client.accept()
        await client.events(1, STARTED, delta("One"))
        await client.events(5, delta(" four"))
        assert await client.hear("resume") == {"type": "resume", "run_id": "r1", "after": 2}
        await client.events(6, delta(" five"))
        await client.events(3, delta(" two"), delta(" three"), delta(" four"), delta(" five"))
        await client.events(7, DONE)

    async with fake_gateway(script) as gateway:
        assert texts(await ask(gateway)) == "One two three four five"
    assert gateway.kinds().count("resume") == 1


async def test_a_gap_that_stays_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_module, "RESUME_GAP_S", 0.02)

    async def script(client: Client) -> None:
        await client.hello()
        await client.accept()
        await client.events(3, DONE)
        for _ in range(2):
            assert (await client.hear("resume"))["after"] == 0
            await client.events(3, DONE)
        await client.hear("resume")
        await client.events(1, STARTED, delta("One"), DONE)

    async with fake_gateway(script) as gateway:
        assert texts(await ask(gateway)) == "One"


async def test_an_answer_that_is_silent_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_module, "SILENCE_S", 0.02)

    async def script(client: Client) -> None:
        await client.hello()
        first = await client.hear("send")
        assert await client.hear("send") == first, "it is not known which run answers"
        await client.events(1, STARTED, delta("One"))
        while (await client.hear("resume"))["after"] != 2:
            pass
        await client.events(3, DONE)

    async with fake_gateway(script) as gateway:
        assert texts(await ask(gateway)) == "One"


async def test_a_refusal_that_passes_is_outlived(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_module, "RESUME_GAP_S", 0.02)

    async def script(client: Client) -> None:
        await client.hello()
        await client.accept()
        await client.events(2, DONE)
        await client.hear("resume")
        refusal = {"code": "storage.unavailable", "message": "Later.", "retryable": True}
        await client.say(type="error", run_id="r1", **refusal)
        await client.hear("resume")
        await client.events(1, STARTED, DONE)

    async with fake_gateway(script) as gateway:
        assert (await ask(gateway))[-1] == DONE


GONE = {
    "type": "error",
    "code": "not_resumable",
    "message": "This answer can no longer be replayed.",
    "retryable": False,
    "run_id": "r1",
}
STORED = {"message_id": "m2", "content": "One, two", "emotion": "happy", "end": "interrupted"}
REPLACED = [
    {"type": "replaced", "message": STORED},
    {"type": "done", "message_id": "m2", "reason": "interrupted", "saved": True},
]


async def test_the_stored_message_stands_for_an_answer_that_is_gone() -> None:
    async def first(client: Client) -> None:
        await client.hello()
        await client.accept()
        await client.events(1, STARTED, delta("One"))

    async def second(client: Client) -> None:
        await client.hello()
        await client.hear("resume")
        await client.say(**GONE, stored=STORED)

    async with fake_gateway(first, second) as gateway:
        assert (await ask(gateway))[2:] == REPLACED


async def test_a_stored_message_too_large_for_a_frame_is_fetched() -> None:
    body = orjson.dumps({**GONE, "stored": STORED})
    async with served(body) as (origin, _):

        async def script(client: Client) -> None:
            await client.hello()
            await client.accept()
            fields = spilled(body, f"{origin}/x", of="error")
            del fields["first_seq"], fields["last_seq"]
            await client.say(**fields)

        async with fake_gateway(script) as gateway:
            assert await ask(gateway) == REPLACED


async def test_an_answer_that_is_gone_and_was_not_stored_is_told_in_the_servers_words() -> None:
    async def script(client: Client) -> None:
        await client.hello()
        await client.accept()
        await client.say(**GONE)

    async with fake_gateway(script) as gateway:
        with pytest.raises(CommandFailedError, match="no longer be replayed"):
            await ask(gateway)


# Payloads


@asynccontextmanager
async def served(body: bytes | None) -> AsyncIterator[tuple[str, list[str]]]:
    """Serve a body over HTTP; yield the origin and the paths that were asked for."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.raw_path)
        return web.Response(status=404) if body is None else web.Response(body=body)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield f"http://127.0.0.1:{port}", asked
    finally:
        await runner.cleanup()


def spilled(body: bytes, url: str, **changes: Any) -> dict[str, Any]:
    return {
        "type": "payload",
        "of": "events",
        "run_id": "r1",
        "first_seq": 2,
        "last_seq": 2,
        "url": url,
        "bytes": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
        **changes,
    }


LARGE = orjson.dumps(
    {
        "type": "events",
        "run_id": "r1",
        "first_seq": 2,
        "last_seq": 2,
        "events": [delta("春" * 4_000)],
    }
)


@pytest.mark.parametrize("served_body", [LARGE, b"other bytes", None])
async def test_a_large_event_is_fetched(served_body: bytes | None) -> None:
    async with served(served_body) as (origin, asked):

        async def script(client: Client) -> None:
            await client.hello()
            await client.accept()
            await client.events(1, STARTED)
            await client.say(**spilled(LARGE, f"{origin}/v1/payloads/x?sig=1"))
            await client.events(3, delta(" after"), DONE)

        async with fake_gateway(script) as gateway:
            if served_body == LARGE:
                assert texts(await ask(gateway)) == "春" * 4_000 + " after"
            else:
                with pytest.raises(CommandFailedError, match="could not be fetched"):
                    await ask(gateway)
        assert asked == ["/v1/payloads/x?sig=1"]


async def test_a_payload_that_nobody_serves() -> None:
    async def script(client: Client) -> None:
        await client.hello()
        await client.accept()
        await client.events(1, STARTED)
        await client.say(**spilled(LARGE, "http://127.0.0.1:9/x"))

    async with fake_gateway(script) as gateway:
        with pytest.raises(CommandFailedError, match="could not be fetched"):
            await ask(gateway)


# Refusals


async def test_an_error_of_the_server_is_told_in_its_words() -> None:
    async def script(client: Client) -> None:
        await client.hello()
        await client.hear("send")
        await client.say(type="error", code="busy", message="An answer is being written.")

    async with fake_gateway(script) as gateway:
        with pytest.raises(CommandFailedError, match="An answer is being written"):
            await ask(gateway)


async def test_a_token_that_is_not_accepted() -> None:
    async def script(client: Client) -> None:
        await client.hear("hello")
        await client.say(type="error", code="auth.expired", message="The token has expired.")

    async with fake_gateway(script) as gateway:
        with pytest.raises(CommandFailedError, match="The token has expired"):
            await ask(gateway)


def refusing(status: int, body: str) -> Refusal:
    def refuse(ws: ServerConnection, _: object) -> Response:
        return ws.respond(status, body)

    return refuse


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (
            401,
            '{"error": {"message": "The token is not valid."}}',
            "the gateway refuses this token: The token is not valid.",
        ),
        (
            503,
            '{"error": {"message": "It is going down."}}',
            "the gateway lets nobody in at URL: It is going down.",
        ),
        (401, "<html>", "cannot connect to URL: server rejected WebSocket connection: HTTP 401"),
        (404, '["x"]', "cannot connect to URL: server rejected WebSocket connection: HTTP 404"),
    ],
)
async def test_a_handshake_that_is_refused(status: int, body: str, says: str) -> None:
    async with serve(
        lambda ws: ws.wait_closed(), "127.0.0.1", 0, process_request=refusing(status, body)
    ) as server:
        url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/v1/ws"
        with pytest.raises(CommandFailedError) as caught:
            async with asyncio.timeout(5), TerminalClient(url, "t0ken"):
                pass
    assert str(caught.value) == says.replace("URL", url)


async def test_a_real_host_says_what_is_wrong_with_a_token(tmp_path: Path) -> None:
    async with local_host(tmp_path) as host:
        with pytest.raises(CommandFailedError) as caught:
            async with asyncio.timeout(5), TerminalClient(host.socket_url, "garbage"):
                pass
    assert (
        str(caught.value) == f"the gateway refuses this token: {AuthInvalidError.default_message}"
    )


async def test_a_session_that_is_not_there_is_named(tmp_path: Path) -> None:
    async with local_host(tmp_path) as host:
        with pytest.raises(CommandFailedError) as caught:
            async with (
                asyncio.timeout(5),
                TerminalClient(host.socket_url, host.token()) as client,
            ):
                [event async for event in client.answer("c1", "Hi", "nosuch")]
    assert str(caught.value) == "no such session: nosuch"


async def test_a_connection_that_is_closed_at_once() -> None:
    async def script(client: Client) -> None:
        await client.ws.close(4401)

    async with fake_gateway(script) as gateway:
        with pytest.raises(CommandFailedError, match="no `ready` came"):
            await ask(gateway)


@pytest.mark.parametrize("frame", ["not json", "[]", "{}", "null"])
async def test_a_server_of_another_protocol(frame: str) -> None:
    async def script(client: Client) -> None:
        await client.hear("hello")
        await client.ws.send(frame)

    async with fake_gateway(script) as gateway:
        with pytest.raises(CommandFailedError, match=r"does not speak makoto\.v1"):
            await ask(gateway)


@pytest.mark.parametrize(
    "url",
    [
        "ws://127.0.0.1:9/v1/ws",
        "http://127.0.0.1:9/",
        "not a url",
        "ws://127.0.0.1:99999/",
        "ws://a..b/",
        "",
    ],
)
async def test_an_address_that_nobody_answers(url: str) -> None:
    with pytest.raises(CommandFailedError) as caught:
        async with TerminalClient(url, "t"):
            pass
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bad", ["two\nlines", "春", "a b", ""])
async def test_a_token_that_fits_no_header(bad: str) -> None:
    async with fake_gateway(whole_answer) as gateway:
        with pytest.raises(CommandFailedError) as caught:
            async with TerminalClient(gateway.url, bad):
                pass
    assert str(caught.value) == "the token is empty, or no token"
    assert gateway.headers == []


# Uploads


@dataclass
class Storage:
    """An object store on another port: takes bodies by `PUT` and by form, as `status` says."""

    status: int = 204
    origin: str = ""
    took: list[tuple[str, str, list[str], bytes]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        names, body = [], b""
        if request.method == "POST":
            async for part in await request.multipart():
                assert isinstance(part, BodyPartReader)
                names.append(f"{part.name}={(await part.text()) if not part.filename else ''}")
                body = await part.read() if part.filename else b""
        else:
            body = await request.read()
        self.took.append((request.method, request.raw_path, names, body))
        self.headers.append(dict(request.headers))
        return web.Response(status=self.status)


@pytest.fixture
async def storage() -> AsyncIterator[Storage]:
    storage = Storage()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", storage.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    storage.origin = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield storage
    await runner.cleanup()


SIGNED = "/bucket/k?X-Amz-Credential=A%2F2&X-Amz-Security-Token=a%2Bb%3D%3D&x=%7e"
"""Written as no library would write it again."""


def uploading(url: str, method: str, **fields: str) -> Script:
    async def script(client: Client) -> None:
        await client.hello()
        command = await client.hear("upload")
        await client.say(type="pong")
        await client.say(
            type="upload_ready",
            id=command["id"],
            upload_id="u1",
            url=url,
            method=method,
            fields=fields,
            expires_at=1,
        )
        await client.accept()
        await client.events(1, STARTED, DONE)

    return script


@pytest.mark.parametrize("content", ["x" * 33_000, "春" * 11_000, "\x01" * 6_000])
@pytest.mark.parametrize(
    ("method", "fields", "form"),
    [
        ("PUT", {}, []),
        ("POST", {"key": "a/b", "policy": "e30="}, ["key=a/b", "policy=e30=", "file="]),
    ],
)
async def test_a_message_that_fits_no_frame_is_uploaded(
    storage: Storage, content: str, method: str, fields: dict[str, str], form: list[str]
) -> None:
    async with fake_gateway(uploading(storage.origin + SIGNED, method, **fields)) as gateway:
        events = await ask(gateway, content, session="s9")
    assert events[-1]["type"] == "done"
    body = content.encode()
    assert storage.took == [(method, SIGNED, form, body)]
    assert gateway.heard[1:] == [
        {
            "type": "upload",
            "id": "c1-text",
            "bytes": len(body),
            "sha256": hashlib.sha256(body).hexdigest(),
        },
        {"type": "send", "id": "c1", "session_id": "s9", "upload_id": "u1"},
    ]
    assert not {"Authorization", "Cookie"} & set(storage.headers[0])


async def test_a_signed_url_is_fetched_as_it_was_written() -> None:
    async with served(LARGE) as (origin, asked):

        async def script(client: Client) -> None:
            await client.hello()
            await client.accept()
            await client.events(1, STARTED)
            await client.say(**spilled(LARGE, origin + SIGNED))
            await client.events(3, DONE)

        async with fake_gateway(script) as gateway:
            await ask(gateway)
    assert asked == [SIGNED]


@pytest.mark.parametrize("method", ["PUT", "POST"])
async def test_an_upload_that_is_refused(storage: Storage, method: str) -> None:
    storage.status = 403
    async with fake_gateway(uploading(storage.origin + "/x", method)) as gateway:
        with pytest.raises(CommandFailedError, match="could not be uploaded"):
            await ask(gateway, "x" * 33_000)
    assert gateway.kinds() == ["hello", "upload"]


async def test_an_upload_that_nobody_takes() -> None:
    async with fake_gateway(uploading("http://127.0.0.1:9/x", "POST")) as gateway:
        with pytest.raises(CommandFailedError, match="could not be uploaded"):
            await ask(gateway, "x" * 33_000)


async def test_a_message_longer_than_the_server_takes_is_told_in_its_words() -> None:
    async def script(client: Client) -> None:
        await client.hello()
        command = await client.hear("upload")
        await client.say(
            type="error", id=command["id"], code="payload.too_large", message="Too long."
        )

    async with fake_gateway(script) as gateway:
        with pytest.raises(CommandFailedError, match="Too long"):
            await ask(gateway, "x" * 33_000)


async def test_an_upload_is_asked_for_again_after_a_cut(storage: Storage) -> None:
    async def first(client: Client) -> None:
        await client.hello()
        await client.hear("upload")

    async with fake_gateway(first, uploading(storage.origin + "/x", "PUT")) as gateway:
        await ask(gateway, "x" * 33_000)
    assert gateway.kinds() == ["hello", "upload", "hello", "upload", "send"]

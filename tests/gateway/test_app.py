"""The handlers: who may say what, where each command goes, what a client is told when it goes wrong."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from gateway.app import Gateway, Handled
from gateway.frames.spill import Spill
from gateway.identity.errors import Flaw, KeysUnavailableError, TokenInvalidError
from gateway.identity.principal import AUTH_GRACE_S
from gateway.runs.found import Expired
from gateway.runs.live_runs import LiveRuns
from gateway.runs.transport import GoneError
from gateway.tenants.tier import Tier
from gateway.wire.answers import Page, UploadReady
from gateway.wire.errors import BusyError, NotFoundError, RateLimitedError
from gateway.wire.events import content_delta
from gateway.wire.limits import MESSAGE_BYTES, SPILL_ABOVE_BYTES
from storage.errors import StorageUnavailableError
from storage.keys import IdSource
from storage.records import Connection, Message, Run
from tests.gateway.runs.fakes import (
    ANNA,
    NOW,
    FakeBlobs,
    FakePayloads,
    FakeTransport,
    Surroundings,
    a_run,
)

KNOWN = Connection(
    connection_id="c1",
    owner=ANNA,
    issuer="urn:issuer",
    auth_expires_at=NOW + 600,
    opened_at=NOW,
    expires_at=NOW + 7_200,
)
UNKNOWN = replace(KNOWN, owner=None, issuer="", auth_expires_at=0.0)
LATER = NOW + 9_999
DIGEST = "0" * 64


@dataclass
class Called:
    """Notes every call; each returns, posts or raises what the test has laid down."""

    calls: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)
    results: dict[str, Any] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def call(*arguments: Any, **named: Any) -> Any:
            self.calls.append((name, (*arguments, *named.values())))
            result = self.results.get(name)
            if isinstance(result, BaseException):
                raise result
            return result

        return call

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.calls]


class House:
    """A gateway whose rooms are empty but for what the test puts there."""

    def __init__(self) -> None:
        self.now = NOW
        self.transport = FakeTransport()
        self.blobs = FakeBlobs()
        self.payloads = FakePayloads()
        self.conversation, self.following, self.account = Called(), Called(), Called()
        self.uploads, self.admission, self.notices = Called(), Called(), Called()
        self.connections = Called()
        self.runs: list[Run] = []
        self.messages: dict[str, Message] = {}
        self.around = Surroundings(at_once=True)
        self.live = LiveRuns(lambda owner, run: self.around.make(run, owner))
        self.spill = Spill(store=self, blobs=self.blobs, clock=lambda: self.now)  # type: ignore[arg-type]
        self.gateway = Gateway(
            store=self,  # type: ignore[arg-type] # has what the handlers ask a store for
            admission=self.admission,  # type: ignore[arg-type] # notes what it is asked
            conversation=self.conversation,  # type: ignore[arg-type]
            following=self.following,  # type: ignore[arg-type]
            notices=self.notices,  # type: ignore[arg-type]
            account=self.account,  # type: ignore[arg-type]
            uploads=self.uploads,  # type: ignore[arg-type]
            live=self.live,
            transport=self.transport,
            spill=self.spill,
            ids=IdSource(lambda: NOW, bytes),
            tier=Tier(name="gold", content_bytes=1_000, live_runs=3),
            heartbeat_s=25.0,
            clock=lambda: self.now,
        )

    def of(self, _: object) -> Any:
        async def live() -> list[Run]:
            return self.runs

        async def get(message_id: str) -> Message | None:
            return self.messages.get(message_id)

        return SimpleNamespace(
            runs=SimpleNamespace(live=live),
            messages=SimpleNamespace(get=get),
            payloads=self.payloads,
        )

    async def say(self, connection: Connection = KNOWN, /, **command: Any) -> Handled:
        return await self.gateway.message(connection, orjson.dumps(command).decode())

    @property
    def answers(self) -> list[dict[str, Any]]:
        return self.transport.answers("c1")

    @property
    def answer(self) -> dict[str, Any]:
        (answer,) = self.answers
        return answer


@pytest.fixture
def house() -> House:
    return House()


COMMANDS: dict[str, dict[str, Any]] = {
    "hello": {"type": "hello"},
    "auth": {"type": "auth", "id": "a1", "token": "t"},
    "send": {"type": "send", "id": "s1", "content": "Hi"},
    "regenerate": {"type": "regenerate", "id": "g1", "message_id": "m1"},
    "cancel": {"type": "cancel", "id": "s1"},
    "resume": {"type": "resume", "run_id": "r1", "after": 0},
    "subscribe": {"type": "subscribe", "session_id": "s"},
    "unsubscribe": {"type": "unsubscribe", "session_id": "s"},
    "history": {"type": "history", "id": "q1", "session_id": "s"},
    "sessions": {"type": "sessions", "id": "q2"},
    "session": {"type": "session", "id": "q3", "session_id": "s"},
    "memories": {"type": "memories", "id": "q4"},
    "forget": {"type": "forget", "id": "q5", "session_id": "s"},
    "upload": {"type": "upload", "id": "u1", "bytes": 5, "sha256": DIGEST},
}


# Who may say what


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
async def test_an_unidentified_connection_is_asked_to_sign_in(
    house: House, command: dict[str, Any]
) -> None:
    handled = await house.say(UNKNOWN, **command)
    assert house.answer["code"] == "auth.required"
    assert handled.connection is UNKNOWN
    for room in (house.conversation, house.account, house.uploads, house.admission):
        assert room.calls == []


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
async def test_a_connection_with_an_expired_token_is_told_so(
    house: House, command: dict[str, Any]
) -> None:
    expired = replace(UNKNOWN, auth_expires_at=NOW - 100)
    await house.say(expired, **command)
    assert house.answer["code"] == "auth.expired"


@pytest.mark.parametrize("command", [c for n, c in COMMANDS.items() if n != "auth"])
async def test_past_its_grace_an_identity_is_worth_nothing(
    house: House, command: dict[str, Any]
) -> None:
    house.now = KNOWN.auth_expires_at + AUTH_GRACE_S
    await house.say(**command)
    assert house.answer["code"] == "auth.expired"
    assert house.conversation.calls == house.account.calls == house.uploads.calls == []


async def test_within_its_grace_an_identity_is_good(house: House) -> None:
    house.now = KNOWN.auth_expires_at + AUTH_GRACE_S - 0.1
    await house.say(**COMMANDS["send"])
    assert house.conversation.names == ["send"]


async def test_an_expired_identity_may_be_renewed(house: House) -> None:
    house.now = LATER
    renewed = replace(KNOWN, auth_expires_at=LATER + 600)
    house.admission.results["identify"] = renewed
    handled = await house.say(**COMMANDS["auth"])
    assert handled.connection is renewed
    assert house.answer == {
        "type": "notice",
        "kind": "auth.renewed",
        "id": "a1",
        "auth_expires_at": int((LATER + 600) * 1000),
    }


async def test_a_renewal_that_is_refused_changes_nothing(house: House) -> None:
    house.admission.results["identify"] = TokenInvalidError(Flaw.SUBJECT)
    handled = await house.say(**COMMANDS["auth"])
    assert handled.connection is KNOWN
    assert (house.answer["code"], house.answer["id"]) == ("auth.invalid", "a1")


@pytest.mark.parametrize("connection", [KNOWN, UNKNOWN], ids=["known", "unknown"])
async def test_hello_with_a_token_identifies(house: House, connection: Connection) -> None:
    house.admission.results["identify"] = KNOWN
    handled = await house.say(connection, type="hello", token="t")
    assert handled.connection is KNOWN
    assert house.admission.calls == [("identify", (connection, "t"))]
    assert house.answer["type"] == "ready"


async def test_keys_that_cannot_be_had_are_not_the_clients_fault(house: House) -> None:
    house.admission.results["identify"] = KeysUnavailableError("no keys")
    await house.say(UNKNOWN, type="hello", token="t")
    assert (house.answer["code"], house.answer["retryable"]) == ("internal", True)


async def test_who_says_hello_is_known_before_it_reads_anything(house: House) -> None:
    house.admission.results["identify"] = KNOWN
    await house.say(UNKNOWN, type="hello", token="t")
    assert house.notices.calls == [("register", (ANNA, KNOWN))]


@pytest.mark.parametrize("title", ["New", None])
async def test_others_are_told_of_a_new_title_and_not_of_a_question_for_it(
    house: House, title: str | None
) -> None:
    house.account.results["answer"] = Page(id="q", items=())
    await house.say(type="session", id="q", session_id="s", **({"title": title} if title else {}))
    assert house.answer["type"] == "page"
    assert house.notices.calls == ([("session_changed", (ANNA, "s", KNOWN))] if title else [])


@pytest.mark.parametrize("command", ["forget", "rename"])
@pytest.mark.parametrize("gone", [False, True], ids=["there", "gone"])
async def test_who_changes_a_session_is_answered_before_the_others_are_told(
    house: House, command: str, gone: bool
) -> None:
    commands = {
        "forget": COMMANDS["forget"],
        "rename": {"type": "session", "id": "q5", "session_id": "s", "title": "New"},
    }
    house.conversation.results["forget"] = Page(id="q5", items=())
    house.account.results["answer"] = Page(id="q5", items=())
    answered_before: list[int] = []

    async def session_changed(*_: object, **__: object) -> None:
        answered_before.append(len(house.answers))

    house.notices.session_changed = session_changed  # type: ignore[attr-defined]
    if gone:
        house.transport.leave(KNOWN.connection_id)
    await house.say(**commands[command])
    assert answered_before == [0 if gone else 1]


async def test_others_are_told_of_what_a_message_has_changed(house: House) -> None:
    house.conversation.results["send"] = "s"
    await house.say(**COMMANDS["send"])
    assert house.notices.calls == [("session_changed", (ANNA, "s", KNOWN))]


# Ready and pong


async def test_ready(house: House) -> None:
    running, queued = a_run("r1", state="running"), a_run("r2", session_id="s2")
    house.runs = [running, queued]
    live = house.live.open(ANNA, running)
    live.emit([content_delta("a"), content_delta("b")])
    await live.settle()
    house.now = NOW + 1.5
    await house.say(type="hello", client="test/1")
    assert house.answer == {
        "type": "ready",
        "connection_id": "c1",
        "connection_expires_at": int((NOW + 7_200) * 1000),
        "user_id": "anna",
        "tenant_id": "acme",
        "tier": "gold",
        "limits": {
            "command_bytes": 32_768,
            "content_bytes": 1_000,
            "live_runs": 3,
            "queued_per_session": 4,
        },
        "auth_expires_at": int((NOW + 600) * 1000),
        "heartbeat_ms": 25_000,
        "server_time": int((NOW + 1.5) * 1000),
        "runs": [
            {"run_id": "r1", "session_id": "session-1", "last_seq": 2, "state": "running"},
            {"run_id": "r2", "session_id": "s2", "last_seq": 0, "state": "queued"},
        ],
    }


@pytest.mark.parametrize("connection", [KNOWN, UNKNOWN], ids=["known", "unknown"])
@pytest.mark.parametrize("t", [None, 0, 1.5, 1_700_000_000_000])
async def test_pong(house: House, connection: Connection, t: float | None) -> None:
    house.now = LATER
    await house.say(connection, type="ping", **({} if t is None else {"t": t}))
    expected = {"type": "pong", "server_time": int(LATER * 1000)}
    assert house.answer == (expected if t is None else {**expected, "t": t})


# Where the commands go


@pytest.mark.parametrize(
    "name", ["send", "regenerate", "cancel", "resume", "subscribe", "unsubscribe"]
)
async def test_commands_about_runs_go_to_where_runs_are_known(house: House, name: str) -> None:
    handled = await house.say(**COMMANDS[name])
    ((called, arguments),) = house.conversation.calls + house.following.calls
    assert called == name
    assert arguments[0] == ANNA
    assert any(getattr(each, "type", None) == name for each in arguments)
    assert handled == Handled(connection=KNOWN)
    if name in {"send", "regenerate"}:
        assert (arguments[1].name, arguments[2]) == ("gold", KNOWN)


async def test_what_a_command_posts_goes_to_its_connection(house: House) -> None:
    await house.say(**COMMANDS["send"])
    post = house.conversation.calls[0][1][-1]
    await post(Page(id="x", items=()).encode())
    assert house.answer == {"type": "page", "id": "x", "items": []}


@pytest.mark.parametrize("name", ["history", "sessions", "session", "memories"])
async def test_commands_about_ones_data_are_answered_with_a_page(house: House, name: str) -> None:
    house.account.results["answer"] = Page(id="q", items=(), next="more")
    await house.say(**COMMANDS[name])
    ((called, (owner, command)),) = house.account.calls
    assert (called, owner, command.type) == ("answer", ANNA, name)
    assert house.answer == {"type": "page", "id": "q", "items": [], "next": "more"}


async def test_forgetting_a_session_is_told_to_where_its_runs_are_known(house: House) -> None:
    house.conversation.results["forget"] = Page(id="q5", items=())
    await house.say(**COMMANDS["forget"])
    ((called, (*arguments, delete)),) = house.conversation.calls
    assert (called, arguments) == ("forget", [ANNA, "s"])
    assert not house.account.calls
    await delete()
    ((called, (owner, command)),) = house.account.calls
    assert (called, owner, command.session_id) == ("answer", ANNA, "s")
    assert house.notices.calls == [("session_changed", (ANNA, "s", KNOWN))]
    assert house.answer == {"type": "page", "id": "q5", "items": []}


async def test_others_are_told_of_a_session_that_an_earlier_try_may_have_forgotten(
    house: House,
) -> None:
    house.conversation.results["forget"] = NotFoundError()
    await house.say(**COMMANDS["forget"])
    assert house.notices.calls == [("session_changed", (ANNA, "s", KNOWN))]
    assert (house.answer["code"], house.answer["id"]) == ("not_found", "q5")


async def test_forgetting_a_memory_stops_nothing(house: House) -> None:
    house.account.results["answer"] = Page(id="q5", items=())
    await house.say(type="forget", id="q5", memory_id="m")
    assert not house.conversation.calls
    assert not house.notices.calls


async def test_upload(house: House) -> None:
    ready = UploadReady(id="u1", upload_id="x", url="/u", method="PUT", fields={}, expires_at=1)
    house.uploads.results["prepare"] = ready
    await house.say(**COMMANDS["upload"])
    assert house.answer == orjson.loads(ready.encode())


# Large answers


def stored_message(content: str) -> Message:
    return Message(
        message_id="reply-of-r1",
        session_id="s",
        role="assistant",
        content=content,
        created_at=NOW,
        run_id="r1",
    )


@pytest.mark.parametrize("content", ["short", "春" * 4_000], ids=["inline", "spilled"])
async def test_a_run_that_cannot_be_replayed_comes_as_its_stored_message(
    house: House, content: str
) -> None:
    house.following.results["resume"] = Expired(run=a_run("r1"))
    house.messages["reply-of-r1"] = stored_message(content)
    await house.say(**COMMANDS["resume"])
    told = house.answer
    if told["type"] == "payload":
        assert (told["of"], told["run_id"]) == ("error", "r1")
        told = orjson.loads(house.blobs.bodies[told["url"].removeprefix("/blobs/")])
    assert (told["type"], told["code"], told["run_id"]) == ("error", "not_resumable", "r1")
    assert told["stored"]["content"] == content
    assert (len(content) > 1_000) == (house.answer["type"] == "payload")


async def test_a_run_that_left_no_reply_cannot_be_replayed_either(house: House) -> None:
    house.following.results["resume"] = Expired(run=a_run("r1"))
    await house.say(**COMMANDS["resume"])
    assert house.answer["code"] == "not_resumable"
    assert "stored" not in house.answer


def page_of(size: int) -> Page:
    """A page whose frame has exactly that many bytes."""
    return Page(id="x" * (size - len(Page(id="", items=()).encode())), items=())


@pytest.mark.parametrize(("size", "kind"), [(SPILL_ABOVE_BYTES, "page"), (10_241, "payload")])
async def test_a_large_page_is_announced(house: House, size: int, kind: str) -> None:
    page = house.account.results["answer"] = page_of(size)
    await house.say(**COMMANDS["history"])
    assert house.answer["type"] == kind
    if kind == "payload":
        assert (house.answer["of"], house.answer["id"]) == ("page", page.id)
        body = house.blobs.bodies[house.answer["url"].removeprefix("/blobs/")]
        assert body == page.encode()
        (row,) = house.payloads.rows.values()
        assert row.expires_at > NOW + 300


async def test_a_page_that_cannot_be_put_aside_is_an_error(house: House) -> None:
    house.account.results["answer"] = page_of(20_000)
    house.blobs.failing = True
    await house.say(**COMMANDS["history"])
    assert (house.answer["code"], house.answer["id"]) == ("storage.unavailable", "q1")


# What goes wrong


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BusyError(), "busy"),
        (StorageUnavailableError("secret /srv/makoto.db"), "storage.unavailable"),
        (ZeroDivisionError("secret"), "internal"),
        (KeyError("secret"), "internal"),
        (TimeoutError("secret"), "internal"),
        (AssertionError("secret"), "internal"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
async def test_an_error_is_told_without_what_is_inside(
    house: House, error: Exception, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    house.conversation.results["send"] = error
    handled = await house.say(**COMMANDS["send"])
    assert (house.answer["code"], house.answer["id"]) == (code, "s1")
    assert "secret" not in str(house.answers)
    assert handled.connection is KNOWN
    assert not handled.bad_frame
    assert bool([record for record in caplog.records if record.exc_info]) == (code == "internal")


async def test_an_error_of_a_resume_names_its_run(house: House) -> None:
    house.following.results["resume"] = NotFoundError()
    await house.say(**COMMANDS["resume"])
    assert (house.answer["run_id"], "id" in house.answer) == ("r1", False)


async def test_an_error_of_a_subscribe_names_its_session_and_no_other_does(house: House) -> None:
    house.following.results["subscribe"] = house.conversation.results["send"] = NotFoundError()
    await house.say(**COMMANDS["subscribe"])
    assert (house.answer["session_id"], "id" in house.answer) == ("s", False)
    await house.say(**COMMANDS["send"], session_id="s")
    told = house.answers[-1]
    assert (told["id"], "session_id" in told) == ("s1", False)


BAD_FRAMES: dict[str, tuple[str | bytes, str]] = {
    "binary": (b'{"type":"ping"}', "bad_request"),
    "no JSON": ("{", "bad_request"),
    "empty": ("", "bad_request"),
    "an array": ("[]", "bad_request"),
    "no type": ("{}", "bad_request"),
    "unknown type": ('{"type":"teleport","id":"x"}', "unsupported"),
    "missing field": ('{"type":"send","id":"x"}', "bad_request"),
    "lone surrogate": ('{"type":"send","id":"x","content":"\\ud83d"}', "bad_request"),
    "raw surrogate": ('{"type":"send","id":"x","content":"\ud83d"}', "bad_request"),
    "role": ('{"type":"send","id":"x","content":"a","role":"system"}', "bad_request"),
    "too long": (f'{{"type":"ping","x":"{"x" * MESSAGE_BYTES}"}}', "payload.too_large"),
    "too deep": ("[" * 50_000, "bad_request"),
}


@pytest.mark.parametrize(("frame", "code"), BAD_FRAMES.values(), ids=BAD_FRAMES)
async def test_a_bad_frame_is_answered_and_counted(
    house: House, frame: str | bytes, code: str
) -> None:
    handled = await house.gateway.message(KNOWN, frame)
    assert house.answer["code"] == code
    assert handled.bad_frame
    assert len(house.transport.frames["c1"][0]) < 300


@pytest.mark.parametrize(
    ("frame", "told"),
    [
        ('{"type":"nonsense","id":"x1"}', "x1"),
        ('{"type":"send","id":"x1"}', "x1"),
        ('{"type":"nonsense","id":"<script>"}', None),
        ('{"type":"nonsense","id":7}', None),
    ],
)
async def test_a_bad_frame_is_answered_with_its_id_if_it_is_one(
    house: House, frame: str, told: str | None
) -> None:
    await house.gateway.message(KNOWN, frame)
    assert house.answer.get("id") == told


@pytest.mark.parametrize("name", ["ping", "send"])
async def test_a_good_frame_is_not_bad(house: House, name: str) -> None:
    handled = await house.say(**(COMMANDS.get(name) or {"type": "ping"}))
    assert not handled.bad_frame
    assert handled.error is None


# Connections that go


async def test_a_gone_connection_is_no_error(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    house.transport.gone.add("c1")
    handled = await house.say(type="ping")
    assert handled == Handled(connection=KNOWN)
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


async def test_a_connection_may_go_before_it_is_told_of_an_error(house: House) -> None:
    house.transport.gone.add("c1")
    handled = await house.gateway.message(KNOWN, "{")
    assert handled.bad_frame


async def test_a_connection_may_go_while_it_is_full(house: House) -> None:
    house.transport.full.add("c1")
    handling = asyncio.create_task(house.say(type="ping"))
    await asyncio.sleep(0)
    house.transport.drain("c1", GoneError())
    assert (await handling).error is None


async def test_a_full_connection_is_waited_for(house: House) -> None:
    house.transport.full.add("c1")
    handling = asyncio.create_task(house.say(type="ping"))
    await asyncio.sleep(0.01)
    assert not handling.done()
    house.transport.drain("c1")
    await handling


async def test_cancelling_a_handler_is_not_swallowed(house: House) -> None:
    house.transport.full.add("c1")
    handling = asyncio.create_task(house.say(type="ping"))
    await asyncio.sleep(0)
    handling.cancel()
    await asyncio.wait({handling})
    assert handling.cancelled()


async def test_disconnecting_forgets_the_connection_and_stops_no_run(house: House) -> None:
    live = house.live.open(ANNA, a_run())
    house.live.followers.follow(live.feed, "c1", after=0)
    await house.gateway.disconnect("c1")
    assert not live.feed.follows("c1")
    assert not live.cancelled
    assert house.connections.calls == [("remove", ("c1",))]


async def test_a_connection_is_left_also_when_the_storage_refuses(house: House) -> None:
    live = house.live.open(ANNA, a_run())
    house.live.followers.follow(live.feed, "c1", after=0)
    house.connections.results["remove"] = StorageUnavailableError("no")
    with pytest.raises(StorageUnavailableError):
        await house.gateway.disconnect("c1")
    assert not live.feed.follows("c1")


async def test_connect_asks_the_admission_and_posts_nothing(house: House) -> None:
    handshake: Any = object()
    await house.gateway.connect(handshake)
    assert house.admission.calls == [("admit", (handshake,))]
    assert house.answers == []


# Logs


def reported(caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    (record,) = [record for record in caplog.records if record.message == "command"]
    return vars(record)


async def test_the_program_of_a_client_is_logged(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        await house.say(type="hello", client="page/1.2")
    told = [vars(record) for record in caplog.records if record.message == "client"]
    assert [(each["connection_id"], each["client"]) for each in told] == [("c1", "page/1.2")]


async def test_a_command_leaves_one_line_without_its_text(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    house.admission.results["identify"] = KNOWN
    with caplog.at_level(logging.INFO):
        (await house.say(type="auth", id="a1", token="secret-token")).report()
        fields = reported(caplog)
    assert (fields["type"], fields["id"], fields["code"]) == ("auth", "a1", None)
    assert (fields["connection_id"], fields["tenant_id"]) == ("c1", "acme")
    assert fields["ms"] >= 0
    assert "secret" not in str([vars(record) for record in caplog.records])


async def test_a_refused_token_leaves_the_check_that_it_failed(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    house.admission.results["identify"] = TokenInvalidError(Flaw.AUDIENCE)
    with caplog.at_level(logging.INFO):
        (await house.say(type="auth", id="a1", token="secret-token")).report()
        fields = reported(caplog)
    assert (fields["code"], fields["cause"]) == ("auth.invalid", "credential refused: audience")
    assert "secret" not in str([vars(record) for record in caplog.records])


async def test_a_command_that_the_host_refuses_is_answered_and_not_carried_out(
    house: House,
) -> None:
    frame = orjson.dumps({"type": "resume", "run_id": "r1", "after": 0}).decode()
    refusal = RateLimitedError(retry_after_ms=5)
    handled = await house.gateway.message(KNOWN, frame, refusal=refusal)
    assert handled.error is refusal
    told = {"code": "rate.limited", "run_id": "r1", "retry_after_ms": 5}
    assert told.items() <= house.answer.items()
    assert house.following.calls == []


async def test_a_bad_frame_leaves_a_line_with_its_code(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        (await house.gateway.message(UNKNOWN, '{"secret":')).report()
        fields = reported(caplog)
    assert (fields["type"], fields["code"], fields["tenant_id"]) == (None, "bad_request", None)
    assert "secret" not in str([vars(record) for record in caplog.records])

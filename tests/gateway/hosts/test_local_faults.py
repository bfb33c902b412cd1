"""What a client is told when something breaks on our side, and what only the log knows."""

import asyncio
import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from websockets.exceptions import InvalidStatus

from gateway.account.account import Account
from gateway.identity.verifier import TokenVerifier
from gateway.runs import appender
from gateway.turns import finish
from gateway.turns.reply import ReplyWriter
from storage.blobs import files
from storage.errors import StorageUnavailableError
from storage.keys import run_id
from storage.records import Completion, Owner
from storage.sqlite import database, runs, segments, store
from storage.sqlite.runs import SqliteRuns
from storage.sqlite.threads import DatabaseThread, Reader, Writer
from tests.gateway.hosts.client import text_of
from tests.gateway.hosts.local_host import LocalHost, local_host
from tests.gateway.hosts.puppet import Puppet, reply

SECRET = "disk image is malformed: /srv/secret/makoto.db"


@contextmanager
def refusing(*threads: type[DatabaseThread]) -> Iterator[None]:
    """Have those threads of the database refuse every call."""

    async def refuse(*_: object, **__: object) -> None:
        raise StorageUnavailableError(SECRET)

    with ExitStack() as stack:
        for thread in threads:
            stack.enter_context(patch.object(thread, "call", refuse))
        yield


COMMANDS = {
    "send": {"content": "Hi"},
    "regenerate": {"message_id": "m"},
    "history": {"session_id": "s"},
    "sessions": {},
    "session": {"session_id": "s"},
    "rename": {"session_id": "s", "title": "t"},
    "memories": {},
    "forget": {"memory_id": "m"},
    "upload": {"bytes": 1, "sha256": "0" * 64},
}


@pytest.mark.parametrize("name", COMMANDS)
async def test_a_database_that_refuses_is_told_as_such(host: LocalHost, name: str) -> None:
    kind = "session" if name == "rename" else name
    async with host.client() as client:
        with refusing(Reader, Writer):
            told = await client.ask(kind, **COMMANDS[name])
            assert (told["code"], told["retryable"]) == ("storage.unavailable", True)
        assert "secret" not in str(client.frames)
        assert (await client.ask("sessions"))["type"] == "page"


@pytest.mark.parametrize(
    ("kind", "fields", "run_id"),
    [
        ("hello", {}, None),
        ("resume", {"run_id": "r", "after": 0}, "r"),
        ("cancel", {"run_id": "r"}, "r"),
        ("cancel", {"id": "c"}, run_id(Owner(tenant_id="default", user_id="aiko"), "c")),
    ],
    ids=["hello", "resume", "cancel-run", "cancel-id"],
)
async def test_it_is_told_for_commands_without_an_id_too(
    host: LocalHost, kind: str, fields: dict[str, object], run_id: str | None
) -> None:
    async with host.client() as client:
        with refusing(Reader, Writer):
            await client.say(kind, **fields)
            told = await client.hear("error")
            assert told["code"] == "storage.unavailable"
            assert told.get("run_id") == run_id
            assert "id" not in told


async def test_a_refused_send_may_be_sent_again(host: LocalHost, puppet: Puppet) -> None:
    async with host.client() as client:
        with refusing(Writer):
            await client.ask("send", id="c1", content="Hi")
        accepted, events = await client.exchange("Hi", id="c1")
        assert "duplicate" not in accepted
        assert events[-1]["saved"] is True
    assert len(puppet.requests) == 1


async def test_an_answer_whose_end_cannot_be_stored_is_shown_and_stored_later(
    host: LocalHost, puppet: Puppet
) -> None:
    gate = asyncio.Event()
    puppet.says(*reply("Once ", gate, "more"))
    async with host.client() as client:
        run = await client.send("Hi")
        begun = await client.events(run["run_id"], until="content.delta")
        with refusing(Writer):
            gate.set()
            events = begun + await client.events(run["run_id"], after=len(begun))
            assert text_of(events) == "Once more"
            assert (events[-1]["reason"], events[-1]["saved"]) == ("stop", False)
            busy = await client.ask("send", content="b", session_id=run["session_id"])
            assert busy["code"] == "storage.unavailable"
        async with asyncio.timeout(5):
            while len(await client.history(run["session_id"])) < 2:
                await asyncio.sleep(0.05)
        _, kept = await client.history(run["session_id"])
        assert kept["content"] == "Once more"
        _, again = await client.exchange("b", session_id=run["session_id"])
        assert again[-1]["saved"] is True


@pytest.fixture
def writing(monkeypatch: pytest.MonkeyPatch) -> list[sqlite3.Connection]:
    """The connections of stores that are opened from now on; the first writes."""
    opened: list[sqlite3.Connection] = []

    def connect(path: Path) -> sqlite3.Connection:
        opened.append(database.connect(path))
        return opened[-1]

    monkeypatch.setattr(store, "connect", connect)
    return opened


@contextmanager
def read_only(connection: sqlite3.Connection) -> Iterator[None]:
    """Refuse every write, as a file system does that found itself damaged."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    connection.execute("PRAGMA query_only=ON")
    try:
        with patch.object(segments, "_write_whole", refuse), patch.object(files, "_store", refuse):
            yield
    finally:
        connection.execute("PRAGMA query_only=OFF")


async def test_on_a_read_only_disk_answers_are_shown_and_kept_when_it_is_well_again(
    folder: Path,
    puppet: Puppet,
    writing: list[sqlite3.Connection],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(appender, "VOLATILE_AFTER_S", 0.3)
    monkeypatch.setattr(finish, "RETRIES_S", (0.1,))
    gate, large = asyncio.Event(), "more" * 5_000
    puppet.says_to("Hi", *reply("Once ", gate, large))
    async with (
        local_host(folder, model=puppet) as host,
        host.client() as client,
        host.client("beni") as other,
    ):
        run = await client.send("Hi")
        begun = await client.events(run["run_id"], until="content.delta")
        with read_only(writing[0]):
            gate.set()
            events = begun + await client.events(run["run_id"], after=len(begun))
            refused = await other.ask("send", id="s1", content="b")
            assert (await other.ask("sessions"))["items"] == [], "it can be read"
        assert text_of(events) == f"Once {large}"
        assert (events[-1]["reason"], events[-1]["saved"]) == ("stop", False)
        assert refused["code"] == "storage.unavailable"
        _, answered = await other.exchange("b", id="s1")
        assert answered[-1]["saved"] is True
        async with asyncio.timeout(5):
            while len(await client.history(run["session_id"])) < 2:
                await asyncio.sleep(0.05)
        assert (await client.history(run["session_id"]))[1]["content"] == f"Once {large}"


async def test_a_run_that_cannot_be_claimed_ends_and_sets_its_session_free(
    host: LocalHost, puppet: Puppet
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise StorageUnavailableError(SECRET)

    gate = asyncio.Event()
    puppet.says(*reply("Once ", gate, "more"))
    async with host.client() as client:
        first = await client.send("Hi")
        await client.events(first["run_id"], until="content.delta")
        session_id = first["session_id"]
        run = await client.send("and", session_id=session_id, if_busy="queue")
        with patch.object(SqliteRuns, "claim", refuse):
            gate.set()
            events = await client.events(run["run_id"])
        done = events[-1]
        assert (done["reason"], done["saved"]) == ("error", False)
        assert done["error"]["code"] == "storage.unavailable"
        async with asyncio.timeout(5):
            while (await client.ask("session", session_id=run["session_id"]))["items"][0].get(
                "active_run"
            ):
                await asyncio.sleep(0.05)
        _, again = await client.exchange("b", session_id=run["session_id"])
        assert again[-1]["saved"] is True
    assert [request.messages[-1].content for request in puppet.requests] == ["Hi", "b"]


async def test_after_an_end_that_was_stored_though_it_seemed_not_the_next_turn_follows(
    host: LocalHost, puppet: Puppet
) -> None:
    finish_run = SqliteRuns.finish

    async def store_and_fail(self: SqliteRuns, completion: Completion) -> None:
        await finish_run(self, completion)
        raise StorageUnavailableError(SECRET)

    gate = asyncio.Event()
    puppet.says(*reply("Once ", gate, "more"))
    async with host.client() as client:
        run = await client.send("Hi")
        following = await client.send("b", session_id=run["session_id"], if_busy="queue")
        with patch.object(SqliteRuns, "finish", store_and_fail):
            gate.set()
            assert (await client.events(run["run_id"]))[-1]["saved"] is False
        assert (await client.events(following["run_id"]))[-1]["saved"] is True
        history = await client.history(run["session_id"])
        assert [item["role"] for item in history] == ["user", "assistant"] * 2


async def test_a_fault_of_ours_is_internal_and_its_trace_is_in_the_log_alone(
    host: LocalHost, caplog: pytest.LogCaptureFixture
) -> None:
    async def break_down(*_: object) -> None:
        raise ZeroDivisionError(SECRET)

    async with host.client() as client:
        with patch.object(Account, "answer", break_down):
            told = await client.ask("sessions", id="s")
        assert told == {
            "type": "error",
            "code": "internal",
            "message": "Something went wrong on our side.",
            "retryable": False,
            "id": "s",
        }
        assert (await client.ask("sessions"))["type"] == "page", "the socket stays open"
    (trace,) = [record for record in caplog.records if record.exc_info]
    assert SECRET in str(trace.exc_info)


async def test_a_fault_in_reading_the_model_ends_the_run(
    host: LocalHost, caplog: pytest.LogCaptureFixture
) -> None:
    def break_down(*_: object) -> None:
        raise ZeroDivisionError(SECRET)

    async with host.client() as client:
        with patch.object(ReplyWriter, "read", break_down):
            _, events = await client.exchange("Hi")
        assert (events[-1]["reason"], events[-1]["error"]["code"]) == ("error", "internal")
        assert "secret" not in str(client.frames)
    assert [record for record in caplog.records if record.exc_info]


async def test_a_fault_in_storing_the_end_ends_the_run_for_its_readers(
    host: LocalHost,
) -> None:
    def break_down(*_: object) -> None:
        raise ZeroDivisionError(SECRET)

    async with host.client() as client:
        with patch.object(runs, "_store_end", break_down):
            _, events = await client.exchange("Hi")
        done = events[-1]
        assert (done["reason"], done["saved"]) == ("error", False)
        assert done["error"]["code"] == "internal"
        assert "secret" not in str(client.frames)


async def test_a_fault_in_the_handshake_is_internal(
    host: LocalHost, caplog: pytest.LogCaptureFixture
) -> None:
    async def break_down(*_: object, **__: object) -> None:
        raise ZeroDivisionError(SECRET)

    with patch.object(TokenVerifier, "identify", break_down):
        with pytest.raises(InvalidStatus) as refused:
            async with host.client():
                pass
        answered = await host.http("POST", "v1/tickets", headers={"Authorization": "Bearer x"})
    for status, body in (
        (refused.value.response.status_code, refused.value.response.body),
        (answered.status, answered.body),
    ):
        assert status == 500
        assert b'"internal"' in body
        assert b"secret" not in body
    assert len([record for record in caplog.records if record.exc_info]) == 2


async def test_one_line_is_logged_for_a_command_and_one_for_a_run(
    host: LocalHost, caplog: pytest.LogCaptureFixture
) -> None:
    def lines(message: str) -> list[dict[str, Any]]:
        return [vars(each) for each in caplog.records if each.message == message]

    caplog.set_level("INFO", "gateway")
    async with host.client() as client:
        accepted, _ = await client.exchange("Hi", id="c1")
        async with asyncio.timeout(5):
            while not (found := [each for each in lines("command") if each["type"] == "send"]):
                await asyncio.sleep(0.01)
    (fields,) = found
    assert (fields["id"], fields["tenant_id"], fields["code"]) == ("c1", "default", None)
    assert fields["connection_id"] == client.ready["connection_id"]
    (fields,) = lines("run ended")
    assert fields["run_id"] == accepted["run_id"]
    assert (fields["reason"], fields["events"], fields["volatile"]) == ("stop", 7, False)
    assert fields["bytes"] > 0
    assert fields["frames"] > 0
    assert 0 <= fields["first_delta_ms"] <= fields["total_ms"]
    assert (fields["prompt_tokens"], fields["completion_tokens"]) == (10, 5)


async def test_no_token_ticket_or_text_is_logged(
    host: LocalHost, puppet: Puppet, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    puppet.says(*reply("private answer", memory="private memory"))
    token = host.token()
    async with host.client(headers={"Authorization": f"Bearer {token}"}) as client:
        await client.exchange("private question")
        await client.ask("auth", token=token)
        await client.say("hello", token=f"{token}x")
        await client.ws.send('{"type":"send","id":"x","content":"private question"')
        await client.say("send", id="x", content="private question", role="system")
        await client.ask("sessions")
    async with host.client(
        subprotocols=["makoto.v1", f"bearer.{token}"], origin=host.origin
    ) as client:
        pass
    ours = [record for record in caplog.records if record.name.startswith(("gateway", "storage"))]
    logged = str([(record.getMessage(), vars(record)) for record in ours])
    assert "command" in logged
    assert "private" not in logged
    assert token.split(".")[2] not in logged

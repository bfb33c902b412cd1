"""What one user may have of the local host, so that there is something left for the others."""

import asyncio
import hashlib
import sqlite3
from contextlib import AsyncExitStack, closing, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import orjson
import pytest
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from gateway.hosts.local import upgrades
from gateway.hosts.local.inbox import Inbox
from gateway.hosts.local.limits import HostLimits
from gateway.identity.admission import Admission, Admitted, Handshake
from storage.records import Connection
from storage.sqlite.store import DATABASE
from tests.gateway.hosts.client import Client, Frame
from tests.gateway.hosts.local_host import Answered, LocalHost, local_host
from tests.gateway.hosts.raw_http import line_to, request

SLOW = 0.001
"""A rate at which nothing comes back within a test."""


async def refusal_of(client: Client, kind: str, /, **fields: object) -> Frame:
    """Say a command that is refused, and return the answer."""
    await client.say(kind, **fields)
    return await client.hear("error")


async def handshake(host: LocalHost, user: str = "aiko") -> int:
    """Try to open a socket, and leave; return the answer's status."""
    async with line_to(host.port) as line:
        await line.say(request(headers={"Authorization": f"Bearer {host.token(user)}"}))
        return (await line.head()).status


async def first_heard(host: LocalHost, user: str = "aiko", **how: Any) -> Frame:
    """Open a socket, ask for a `pong`, and leave; return the first frame: that, or why it is closed."""
    async with host.client(user, hello=False, **how) as client:
        with suppress(ConnectionClosed):
            await client.say("ping")
        told = await client.next()
        if told["type"] == "error":
            assert told["fatal"]
            assert (await client.closed())[0] == 4429
            assert client.frames == [told]
        return told


async def is_served(host: LocalHost, user: str = "aiko") -> bool:
    return (await first_heard(host, user))["type"] == "pong"


async def buy_ticket(host: LocalHost, user: str = "aiko") -> Answered:
    headers = {"Authorization": f"Bearer {host.token(user)}"}
    return await host.http("POST", "v1/tickets", headers=headers)


# Commands


async def test_commands_above_the_rate_are_refused_and_the_socket_stays(folder: Path) -> None:
    limits = HostLimits(commands_at_once=5, commands_per_s=20)
    async with local_host(folder, limits=limits) as host, host.client() as client:
        for _ in range(20):
            await client.say("sessions", id="s")
        while (told := await client.hear(id="s"))["type"] != "error":
            assert told["type"] == "page"
        assert (told["code"], told["retryable"]) == ("rate.limited", True)
        assert 1 <= told["retry_after_ms"] <= 50
        assert "fatal" not in told
        while (await client.hear(id="s"))["type"] == "error":
            await asyncio.sleep(told["retry_after_ms"] / 1000)
            await client.say("sessions", id="s")


async def test_a_refused_command_is_not_carried_out(folder: Path) -> None:
    limits = HostLimits(commands_at_once=2, commands_per_s=SLOW)  # a handshake and one more
    async with local_host(folder, limits=limits) as host:
        async with host.client() as client:
            await client.say("ping")
            await client.hear("pong")
            told = await refusal_of(client, "resume", run_id="r1", after=0)
            assert (told["code"], told["run_id"]) == ("rate.limited", "r1")
            told = await refusal_of(client, "send", id="s1", content="Hi")
            assert (told["code"], told["id"]) == ("rate.limited", "s1")
        assert not await stored(host, "runs")


async def test_nobody_is_kept_from_stopping_an_answer(folder: Path) -> None:
    limits = HostLimits(commands_at_once=2, commands_per_s=SLOW)
    async with local_host(folder, limits=limits) as host, host.client() as client:
        begun = await client.send("slow long")
        await client.hear("events", run_id=begun["run_id"])
        assert (await refusal_of(client, "ping"))["code"] == "rate.limited"
        told = await refusal_of(client, "cancel", id="of-no-run-here")
        assert told["code"] == "rate.limited"
        assert "id" not in told, "it is a send's, which may be on its way"
        await client.say("cancel", run_id=begun["run_id"])
        async with asyncio.timeout(5):
            while (await client.next())["events"][-1].get("reason") != "cancelled":
                pass


async def stored(host: LocalHost, table: str) -> list[tuple[object, ...]]:
    """Return the rows of a table."""
    with closing(sqlite3.connect(host.settings.data_dir / DATABASE)) as database:
        return database.execute(f"SELECT * FROM {table}").fetchall()


async def test_all_sockets_of_a_user_share_one_rate_and_those_of_others_do_not(
    folder: Path,
) -> None:
    limits = HostLimits(commands_at_once=6, commands_per_s=SLOW)
    async with (
        local_host(folder, limits=limits) as host,
        host.client() as one,
        host.client() as two,
        host.client("hana") as other,
    ):
        for _ in range(2):
            await one.say("ping")
            await one.hear("pong")
            await two.say("ping")
            await two.hear("pong")
        assert (await refusal_of(one, "ping"))["code"] == "rate.limited"
        assert (await refusal_of(two, "ping"))["code"] == "rate.limited"
        await other.say("ping")
        await other.hear("pong")


async def test_who_does_not_stop_is_closed(folder: Path) -> None:
    limits = HostLimits(commands_at_once=1, commands_per_s=SLOW, refusals=10)
    async with local_host(folder, limits=limits) as host, host.client() as client:
        for _ in range(10):
            await client.say("ping")
        assert (await client.closed())[0] == 4429
        refusals = [frame for frame in client.frames if frame["type"] == "error"]
        assert [bool(frame.get("fatal")) for frame in refusals] == [*[False] * 10, True]
        assert {frame["code"] for frame in refusals} == {"rate.limited"}


async def test_who_is_refused_now_and_then_is_not_closed(folder: Path) -> None:
    limits = HostLimits(commands_at_once=10, commands_per_s=200, refusals=10)
    async with local_host(folder, limits=limits) as host, host.client() as client:
        refused = 0
        while refused < 30:
            for _ in range(12):
                await client.say("ping")
            answers = [(await client.next())["type"] for _ in range(12)]
            refused += answers.count("error")
            await asyncio.sleep(0.06)


async def test_who_has_no_identity_has_a_rate_too(folder: Path) -> None:
    limits = HostLimits(commands_at_once=2, commands_per_s=SLOW)
    async with (
        local_host(folder, limits=limits) as host,
        host.client(subprotocols=["makoto.v1"], origin=host.origin, hello=False) as client,
    ):
        for _ in range(2):
            assert (await refusal_of(client, "hello", token="x"))["code"] == "auth.invalid"
        told = await refusal_of(client, "hello", token=host.token())
        assert (told["code"], told["fatal"]) == ("rate.limited", True)
        assert told["retry_after_ms"] > 0
        assert (await client.closed())[0] == 4429


# Handshakes and tickets


async def test_handshakes_and_tickets_count_as_commands(folder: Path) -> None:
    limits = HostLimits(commands_at_once=4, commands_per_s=SLOW)
    async with local_host(folder, limits=limits) as host:
        assert await is_served(host)
        assert await is_served(host)
        assert [(await buy_ticket(host)).status for _ in range(2)] == [200, 200]
        refused = await buy_ticket(host)
        assert (refused.status, b'"rate.limited"' in refused.body) == (429, True)
        assert b'"retry_after_ms"' in refused.body
        told = await first_heard(host)
        assert (told["code"], told["retryable"]) == ("rate.limited", True)
        assert told["retry_after_ms"] > 0
        assert await is_served(host, "hana")
        assert (await buy_ticket(host, "hana")).status == 200
        assert len(await stored(host, "tickets")) == 3


async def test_a_ticket_that_meets_the_rate_is_not_used_up(folder: Path) -> None:
    limits = HostLimits(commands_at_once=2, commands_per_s=SLOW)
    async with local_host(folder, limits=limits) as host:
        ticket = orjson.loads((await buy_ticket(host)).body)["ticket"]
        assert await is_served(host)
        for _ in range(2):
            assert (await first_heard(host, query=f"?ticket={ticket}"))["code"] == "rate.limited"
        assert len(await stored(host, "tickets")) == 1


async def test_a_user_has_so_many_sockets_at_a_time(folder: Path) -> None:
    async with local_host(folder, limits=HostLimits(sockets_per_user=2)) as host:
        async with host.client(), host.client():
            assert (await first_heard(host))["message"] == "Too many connections."
            assert await is_served(host, "hana")
        async with asyncio.timeout(5):
            while not await is_served(host):
                await asyncio.sleep(0.01)


async def test_a_browser_can_read_that_its_user_has_too_many_sockets(folder: Path) -> None:
    async with (
        local_host(folder, limits=HostLimits(sockets_per_user=1)) as host,
        host.client(),
        host.client(
            subprotocols=["makoto.v1", f"bearer.{host.token()}"], origin=host.origin, hello=False
        ) as client,
    ):
        assert client.ws.subprotocol == "makoto.v1", "no browser opens without its echo"
        assert (await client.closed())[0] == 4429
        assert (client.frames[0]["code"], client.frames[0]["fatal"]) == ("rate.limited", True)


async def test_nothing_is_done_on_a_socket_that_is_one_too_many(folder: Path) -> None:
    async with (
        local_host(folder, limits=HostLimits(sockets_per_user=1)) as host,
        host.client(),
        host.client(hello=False) as client,
    ):
        with suppress(ConnectionClosed):
            await client.say("send", id="s1", content="Hi")
        assert (await client.closed())[0] == 4429
        await sockets(host, 1)
        assert not await stored(host, "runs")


async def test_nothing_more_is_done_once_a_user_who_signs_in_has_too_many_sockets(
    folder: Path,
) -> None:
    identify, inboxes, identified = Admission.identify, list[Inbox](), list[str]()

    class Seen(Inbox):
        __slots__ = ()

        def __init__(self, ws: ServerConnection, **how: Any) -> None:
            super().__init__(ws, **how)
            inboxes.append(self)

    async def slow(self: Admission, connection: Connection, token: str) -> Connection:
        async with asyncio.timeout(5):
            while len(inboxes[-1]._ahead) < 2:
                await asyncio.sleep(0.01)
        identified.append(token)
        return await identify(self, connection, token)

    late = {"subprotocols": ["makoto.v1"], "hello": False}
    with patch.object(upgrades, "Inbox", Seen), patch.object(Admission, "identify", slow):
        async with (
            local_host(folder, limits=HostLimits(sockets_per_user=1)) as host,
            host.client(),
            host.client(origin=host.origin, **late) as client,
        ):
            token = host.token()
            await client.say("hello", token=token)
            await client.say("hello", token=host.token("ben"))
            await client.say("send", id="s1", content="Hi")
            assert (await client.closed())[0] == 4429
            await sockets(host, 1)
            assert identified == [token]
            assert not await stored(host, "runs")


async def test_few_may_be_told_at_a_time(folder: Path) -> None:
    limits = HostLimits(sockets_per_user=1, unidentified_per_address=2)
    async with (
        local_host(folder, limits=limits) as host,
        host.client() as served,
        AsyncExitStack() as stack,
    ):
        heads = [await head_of_silent(host, stack) for _ in range(4)]
        assert heads == [101, 101, 429, 429]
        await served.ws.close()
        await sockets(host, 2)
        assert await is_served(host), "those who are told do not count as this user's"


async def test_who_is_told_is_cut_off_soon(folder: Path) -> None:
    limits = HostLimits(sockets_per_user=1, close_s=0.05)
    async with (
        local_host(folder, limits=limits) as host,
        host.client(),
        AsyncExitStack() as stack,
    ):
        assert await head_of_silent(host, stack) == 101
        await sockets(host, 1)


async def head_of_silent(host: LocalHost, stack: AsyncExitStack) -> int:
    """Open a socket that does not even answer a close; return the status of the handshake."""
    line = await stack.enter_async_context(line_to(host.port))
    await line.say(request(headers={"Authorization": f"Bearer {host.token()}"}))
    return (await line.head()).status


async def sockets(host: LocalHost, count: int) -> None:
    async with asyncio.timeout(5):
        while len(host.sockets) != count:
            await asyncio.sleep(0.01)


async def test_a_socket_that_signs_in_later_counts_too(folder: Path) -> None:
    limits = HostLimits(sockets_per_user=1)
    late = {"subprotocols": ["makoto.v1"], "hello": False}
    async with local_host(folder, limits=limits) as host:
        async with host.client(), host.client(origin=host.origin, **late) as client:
            await client.say("hello", token=host.token())
            assert (await client.closed())[0] == 4429
            told = client.frames[-1]
            assert (told["code"], told["fatal"]) == ("rate.limited", True)
        async with asyncio.timeout(5):
            while not await is_served(host):  # neither of them counts any more
                await asyncio.sleep(0.01)


async def test_a_renewed_identity_counts_once(folder: Path) -> None:
    async with local_host(folder, limits=HostLimits(sockets_per_user=2)) as host:
        async with host.client() as client:
            for _ in range(3):
                told = await client.ask("auth", token=host.token())
                assert told["kind"] == "auth.renewed"
            async with host.client():
                pass
        async with host.client(), host.client():
            pass


async def test_a_place_is_free_again_after_a_socket_and_after_a_refusal(folder: Path) -> None:
    async with local_host(folder, limits=HostLimits(sockets=4)) as host:
        for _ in range(4):
            async with line_to(host.port) as line:
                await line.say(request(headers={"Authorization": "Bearer x"}))
                assert (await line.head()).status == 401
            async with host.client():
                pass
        async with asyncio.timeout(5):
            while await handshake(host) != 101:
                await asyncio.sleep(0.01)


async def test_handshakes_under_way_count_as_sockets(folder: Path) -> None:
    admit, gate = Admission.admit, asyncio.Event()

    async def slow(self: Admission, asked: Handshake) -> Admitted:
        await gate.wait()
        return await admit(self, asked)

    async with (
        local_host(folder, limits=HostLimits(sockets=3)) as host,
        AsyncExitStack() as stack,
    ):
        with patch.object(Admission, "admit", slow):
            lines = [await stack.enter_async_context(line_to(host.port)) for _ in range(8)]
            for line in lines:
                await line.say(request(headers={"Authorization": f"Bearer {host.token()}"}))
            heads = [asyncio.create_task(line.head()) for line in lines]
            await asyncio.wait(heads, timeout=5, return_when=asyncio.FIRST_COMPLETED)
            gate.set()
            statuses = sorted([(await head).status for head in heads])
        assert statuses == [101] * 3 + [429] * 5


# What is kept beside the socket


async def announce(client: Client, size: int) -> Frame:
    return await client.ask("upload", bytes=size, sha256=hashlib.sha256(b"").hexdigest())


async def test_uploads_are_announced_up_to_so_many_bytes(folder: Path) -> None:
    limits = HostLimits(set_aside_bytes=300_000)
    async with (
        local_host(folder, limits=limits) as host,
        host.client() as client,
        host.client("hana") as other,
    ):
        kinds = [(await announce(client, 100_000))["type"] for _ in range(3)]
        assert kinds == ["upload_ready"] * 3
        told = await announce(client, 50_000)
        assert (told["code"], told["retryable"]) == ("rate.limited", True)
        assert told["retry_after_ms"] >= 1
        assert len(await stored(host, "payloads")) == 3
        assert (await announce(other, 100_000))["type"] == "upload_ready"
        await client.exchange("Hello")


async def test_long_answers_are_kept_up_to_so_many_bytes(folder: Path) -> None:
    limits = HostLimits(set_aside_bytes=60_000)
    async with local_host(folder, limits=limits) as host, host.client() as client:
        session_id = (await client.exchange("x" * 29_000))[0]["session_id"]
        newest = await client.ask("history", session_id=session_id, limit=1)
        the_long = {"session_id": session_id, "limit": 1, "before": newest["next"]}
        answers = [await client.ask("history", **the_long) for _ in range(4)]
        found = [answer.get("code", answer["type"]) for answer in answers]
        assert found == ["payload", "payload", "rate.limited", "rate.limited"]
        assert len(await stored(host, "payloads")) == 2
        assert (await client.ask("sessions"))["type"] == "page", "a short answer is kept nowhere"


@pytest.mark.parametrize("name", ["commands_at_once", "sockets_per_user", "refusals"])
def test_nobody_meets_the_limits_by_using_a_few_tabs(name: str) -> None:
    """A browser's tab takes a handshake, a `hello`, a `resume` or two and a `subscribe` to come back."""
    assert getattr(HostLimits(), name) >= 20 * 5

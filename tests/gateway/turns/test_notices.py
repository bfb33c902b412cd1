"""Telling a user's other connections, where they all are in this process (elsewhere: see the scenarios)."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from gateway.runs.neighbours import LocalNeighbours
from gateway.turns.notices import Notices
from storage.errors import StorageUnavailableError
from streaming.parts import FieldDelta
from tests.gateway.runs.fakes import ANNA, BEN, FakeTransport, at
from tests.gateway.turns.exchange import Exchange, reply

CHANGED = {"type": "notice", "kind": "session.changed", "session_id": "s"}


@pytest.fixture
async def notices(chat: Exchange) -> Notices:
    made = Notices(neighbours=LocalNeighbours(chat.live.followers), transport=chat.transport)
    for owner, name in ((ANNA, "laptop"), (ANNA, "phone"), (ANNA, "tablet"), (BEN, "ben")):
        await made.register(owner, at(name))
    await made.register(ANNA, at("phone"))
    return made


def told(chat: Exchange, name: str) -> list[dict[str, Any]]:
    return chat.transport.answers(name)


async def test_the_users_other_connections_are_told_once_and_nobody_else(
    chat: Exchange, notices: Notices
) -> None:
    await notices.session_changed(ANNA, "s", by=at("laptop"))
    assert told(chat, "phone") == told(chat, "tablet") == [CHANGED]
    assert told(chat, "laptop") == told(chat, "ben") == []


async def test_who_has_left_is_told_nothing(chat: Exchange, notices: Notices) -> None:
    chat.live.followers.leave("phone")
    await notices.session_changed(ANNA, "s", by=at("laptop"))
    assert (told(chat, "phone"), told(chat, "tablet")) == ([], [CHANGED])


async def test_one_that_is_gone_keeps_it_from_no_other(chat: Exchange, notices: Notices) -> None:
    chat.transport.leave("phone")
    await notices.session_changed(ANNA, "s", by=at("laptop"))
    assert told(chat, "tablet") == [CHANGED]


@pytest.mark.parametrize("breaks", [False, True], ids=["drains", "breaks"])
async def test_one_that_takes_nothing_is_not_waited_for_and_gets_no_more_until_it_does(
    chat: Exchange, notices: Notices, breaks: bool
) -> None:
    chat.transport.full.add("phone")
    for _ in range(3):
        await notices.session_changed(ANNA, "s", by=at("laptop"))
    assert len(told(chat, "phone")) == 1
    assert len(told(chat, "tablet")) == 3
    (chat.transport.leave if breaks else chat.transport.drain)("phone")
    await asyncio.sleep(0)  # its callback
    await notices.session_changed(ANNA, "s", by=at("laptop"))
    assert len(told(chat, "phone")) == (1 if breaks else 2)


class _Refusing:
    async def register(self, *_: object) -> None:
        raise StorageUnavailableError

    async def others(self, *_: object) -> list[str]:
        raise StorageUnavailableError


async def test_a_store_that_refuses_fails_no_command(
    chat: Exchange, caplog: pytest.LogCaptureFixture
) -> None:
    refused = Notices(neighbours=_Refusing(), transport=FakeTransport())  # type: ignore[arg-type]
    await refused.register(ANNA, at("phone"))
    await refused.session_changed(ANNA, "s", by=at("laptop"))
    assert [record.message for record in caplog.records] == [
        "connection not registered",
        "change of a session not told",
    ]


class _Silent:
    async def register(self, *_: object) -> None:
        await asyncio.Event().wait()

    async def others(self, *_: object) -> list[str]:
        await asyncio.Event().wait()
        return []


async def test_a_store_that_does_not_answer_keeps_no_command_waiting(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.turns.notices.PATIENCE_S", 0.01)
    silent = Notices(neighbours=_Silent(), transport=FakeTransport())
    async with asyncio.timeout(10):
        await silent.register(ANNA, at("phone"))
        await silent.session_changed(ANNA, "s", by=at("laptop"))
    assert [(record.message, vars(record)["cause"]) for record in caplog.records] == [
        ("connection not registered", "no answer in time"),
        ("change of a session not told", "no answer in time"),
    ]


def test_followers_keep_nothing_of_who_has_left(chat: Exchange) -> None:
    followers = chat.live.followers
    followers.register(ANNA, "c1")
    followers.register(replace(ANNA, user_id="other"), "c2")
    assert followers.connections_of(ANNA) == ("c1",)
    for name in ("c1", "c2", "c1"):
        followers.leave(name)
    assert not followers._connections
    assert not followers._owners


async def test_news_is_a_new_session_and_a_message_that_waits(chat: Exchange) -> None:
    gate = asyncio.Event()
    first = await chat.talk("first", id="s1")
    session = first["session_id"]
    assert chat.news == [session]
    chat.model.scripts.append([[FieldDelta("content", "One")], gate, *reply(" End.")])
    await chat.send("at once", id="s2", session_id=session)
    assert chat.news == [session]
    await chat.send("waits", id="s3", session_id=session, if_busy="queue")
    assert chat.news == [session] * 2
    gate.set()
    await chat.settle()
    await chat.send("first", id="s1")
    await chat.send("waits", id="s3", session_id=session, if_busy="queue")
    assert chat.news == [session] * 2  # they were answered


async def test_what_seemed_not_to_be_stored_is_news_when_it_is_sent_again(chat: Exchange) -> None:
    async def send_twice(content: str, **fields: Any) -> str:
        chat.store.lose("runs.accept")
        with pytest.raises(StorageUnavailableError):
            await chat.send(content, **fields)
        accepted = await chat.send(content, **fields)
        assert accepted["duplicate"]
        return str(accepted["session_id"])

    gate = asyncio.Event()
    chat.model.scripts.append([[FieldDelta("content", "One")], gate, *reply(" End.")])
    session = await send_twice("new", id="s1")
    assert chat.news == [session]
    await send_twice("waits", id="s2", session_id=session, if_busy="queue")
    assert chat.news == [session] * 2
    gate.set()
    await chat.settle()

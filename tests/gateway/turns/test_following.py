"""Following whole sessions, where runs are generated in this process (resume: see test_conversation)."""

import asyncio
from typing import Any

import pytest

from gateway.runs import followers
from gateway.wire.commands import Subscribe, Unsubscribe
from gateway.wire.errors import NotFoundError, RateLimitedError
from storage.records import Owner
from streaming.parts import FieldDelta
from tests.gateway.runs.fakes import ANNA, BEN, at
from tests.gateway.turns.exchange import Exchange, reply


async def subscribe(chat: Exchange, session_id: str, owner: Owner = ANNA) -> dict[str, Any]:
    command = Subscribe(type="subscribe", session_id=session_id)
    before = len(chat.transport.frames["phone"])
    await chat.following.subscribe(owner, at("phone"), command, chat.post("phone"))
    return chat.transport.answers("phone")[before]


async def unsubscribe(chat: Exchange, session_id: str) -> None:
    command = Unsubscribe(type="unsubscribe", session_id=session_id)
    await chat.following.unsubscribe(ANNA, at("phone"), command, chat.post("phone"))


async def test_a_second_device_gets_the_later_answers(chat: Exchange) -> None:
    session = (await chat.talk("first", id="s1"))["session_id"]
    subscribed = await subscribe(chat, session)
    assert subscribed == {"type": "subscribed", "session_id": session, "runs": []}
    again = await subscribe(chat, session)
    assert again == subscribed
    run = (await chat.talk("second", id="s2", session_id=session))["run_id"]
    assert chat.events(run, "phone") == chat.events(run)
    other = (await chat.talk("elsewhere", id="s3"))["run_id"]
    assert chat.events(other, "phone") == []
    await unsubscribe(chat, session)
    run = (await chat.talk("third", id="s4", session_id=session))["run_id"]
    assert (chat.events(run, "phone"), chat.done(run)["reason"]) == ([], "stop")


async def test_it_gets_what_is_under_way_from_its_start_and_what_waits(chat: Exchange) -> None:
    gate = asyncio.Event()
    chat.model.scripts.append([[FieldDelta("content", "One")], gate, *reply(" End.")])
    first = await chat.send("first", id="s1")
    async with asyncio.timeout(5):
        while chat.text(first["run_id"]) != "One":
            await asyncio.sleep(0.001)
    session = first["session_id"]
    second = await chat.send("second", id="s2", session_id=session, if_busy="queue")
    runs = (await subscribe(chat, session))["runs"]
    assert [(run["run_id"], run["state"]) for run in runs] == [
        (first["run_id"], "running"),
        (second["run_id"], "queued"),
    ]
    assert chat.text(first["run_id"], "phone") == "One"
    gate.set()
    await chat.settle()
    for run in (first["run_id"], second["run_id"]):
        assert chat.events(run, "phone") == chat.events(run)


async def test_the_device_that_asks_gets_its_events_once(chat: Exchange) -> None:
    session = (await chat.talk("first", id="s1"))["session_id"]
    await subscribe(chat, session)
    run = (await chat.talk("second", id="s2", session_id=session, connection="phone"))["run_id"]
    numbers = [
        frame["first_seq"]
        for frame in chat.transport.answers("phone")
        if frame.get("run_id") == run and frame["type"] == "events"
    ]
    assert numbers == sorted(set(numbers))
    assert chat.done(run, "phone")["reason"] == "stop"


async def test_nobody_follows_the_session_of_another(chat: Exchange) -> None:
    session = (await chat.talk("first", id="s1"))["session_id"]
    with pytest.raises(NotFoundError):
        await subscribe(chat, session, BEN)
    run = (await chat.talk("second", id="s2", session_id=session))["run_id"]
    assert chat.events(run, "phone") == []


async def test_one_connection_follows_a_bounded_number(
    chat: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followers, "SESSIONS_MAX", 2)
    sessions = [(await chat.talk("Hi", id=f"s{number}"))["session_id"] for number in range(3)]
    await subscribe(chat, sessions[0])
    await subscribe(chat, sessions[1])
    with pytest.raises(RateLimitedError):
        await subscribe(chat, sessions[2])
    await unsubscribe(chat, sessions[0])
    await subscribe(chat, sessions[2])

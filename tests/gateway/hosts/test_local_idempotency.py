"""One id, one message, one call of the model; and what happens when a session is busy."""

import asyncio
from pathlib import Path

import pytest

from streaming.models.errors import ModelUnavailableError
from tests.gateway.hosts.client import Client, Frame, text_of
from tests.gateway.hosts.local_host import LocalHost, local_host
from tests.gateway.hosts.puppet import Puppet, reply


async def begin(client: Client, puppet: Puppet, content: str = "first") -> Frame:
    """Have an answer that does not end by itself; return its `accepted`."""
    puppet.says_to(content, "Once", asyncio.Event())
    accepted = await client.send(content)
    await client.events(accepted["run_id"], until="content.delta")
    return accepted


async def test_sending_twice_in_a_row_is_one_message_and_one_call(
    host: LocalHost, puppet: Puppet
) -> None:
    async with host.client() as client:
        accepted, _ = await client.exchange("Hi", id="c1")
        again = await client.send("Hi", id="c1")
        assert again == accepted | {"duplicate": True}
        assert len(await client.history(accepted["session_id"])) == 2
    assert len(puppet.requests) == 1


async def test_sending_at_the_same_instant_from_many_sockets_is_one_message(
    host: LocalHost, puppet: Puppet
) -> None:
    async with (
        host.client() as one,
        host.client() as two,
        host.client() as three,
    ):
        clients = (one, two, three)
        answers = await asyncio.gather(*(client.exchange("Hi", id="c1") for client in clients))
        assert len({accepted["run_id"] for accepted, _ in answers}) == 1
        assert sorted("duplicate" in accepted for accepted, _ in answers) == [False, True, True]
        assert answers[0][1] == answers[1][1] == answers[2][1]
        assert len(await one.history(answers[0][0]["session_id"])) == 2
    assert len(puppet.requests) == 1


async def test_sending_again_without_waiting_is_one_message(
    host: LocalHost, puppet: Puppet
) -> None:
    async with host.client() as client:
        for _ in range(5):
            await client.say("send", id="c1", content="Hi")
        answers = [await client.hear("accepted") for _ in range(5)]
        assert ["duplicate" in answer for answer in answers] == [False, *[True] * 4]
        events = await client.events(answers[0]["run_id"])
    assert text_of(events) == "Hello"
    assert len(puppet.requests) == 1


async def test_sending_again_after_a_cut_follows_the_answer_from_its_start(
    host: LocalHost, puppet: Puppet
) -> None:
    gate = asyncio.Event()
    puppet.says(*reply("Once ", gate, "more"))
    async with host.client() as client:
        accepted = await client.send("Hi", id="c1")
        await client.events(accepted["run_id"], until="content.delta")
        client.ws.transport.abort()
    async with host.client() as client:
        again = await client.send("Hi", id="c1")
        assert again == accepted | {"duplicate": True}
        gate.set()
        assert text_of(await client.events(accepted["run_id"])) == "Once more"
    assert len(puppet.requests) == 1


async def test_sending_again_after_a_restart_replays_the_answer(
    folder: Path, puppet: Puppet
) -> None:
    async with local_host(folder, model=puppet) as host, host.client() as client:
        accepted, events = await client.exchange("Hi", id="c1")
    async with local_host(folder, model=puppet) as host, host.client() as client:
        again = await client.send("Hi", id="c1")
        assert again == accepted | {"duplicate": True}
        assert await client.events(accepted["run_id"]) == events
        assert len(await client.history(accepted["session_id"])) == 2
    assert len(puppet.requests) == 1


async def test_an_id_belongs_to_its_user_alone(host: LocalHost, puppet: Puppet) -> None:
    async with host.client("aiko") as aiko, host.client("hana") as hana:
        first, _ = await aiko.exchange("Hi", id="c1")
        second, _ = await hana.exchange("Hi", id="c1")
        assert first["run_id"] != second["run_id"]
        assert "duplicate" not in second
    assert len(puppet.requests) == 2


@pytest.mark.parametrize(
    "other",
    [{"content": "Bye"}, {"session_id": "{session}"}, {"character": "makoto"}],
    ids=["content", "session", "character"],
)
async def test_the_same_id_with_other_content_is_a_conflict(
    host: LocalHost, puppet: Puppet, other: dict[str, str]
) -> None:
    async with host.client() as client:
        accepted, _ = await client.exchange("Hi", id="c1")
        changed = {
            name: value.format(session=accepted["session_id"]) for name, value in other.items()
        }
        refused = await client.ask("send", **({"content": "Hi", "id": "c1"} | changed))
        assert refused["code"] == "conflict"
        assert len(await client.history(accepted["session_id"])) == 2
    assert len(puppet.requests) == 1


async def test_a_duplicate_is_known_though_no_more_answers_are_allowed(
    folder: Path, puppet: Puppet
) -> None:
    async with (
        local_host(folder, model=puppet, live_runs=1) as host,
        host.client() as client,
    ):
        done = await client.send("Hi", id="c1")
        await client.events(done["run_id"])
    async with (
        local_host(folder, model=puppet, live_runs=1) as host,
        host.client() as client,
    ):
        await begin(client, puppet)
        refused = await client.ask("send", content="more")
        assert (refused["code"], refused["retryable"]) == ("rate.limited", True)
        assert (await client.ask("send", content="Hi", id="c1"))["duplicate"] is True


async def test_a_refused_send_leaves_its_id_free(host: LocalHost, puppet: Puppet) -> None:
    async with host.client() as client:
        first = await begin(client, puppet)
        session = {"session_id": first["session_id"]}
        refused = await client.ask("send", id="c2", content="second", **session)
        assert (refused["code"], refused["retryable"]) == ("busy", True)
        await client.say("cancel", run_id=first["run_id"])
        await client.events(first["run_id"], after=2)
        accepted, _ = await client.exchange("second", id="c2", **session)
        assert "duplicate" not in accepted
        assert len(await client.history(first["session_id"])) == 4


async def test_a_queue_holds_four_and_keeps_their_order(host: LocalHost, puppet: Puppet) -> None:
    async with host.client() as client:
        first = await begin(client, puppet)
        session = {"session_id": first["session_id"], "if_busy": "queue"}
        waiting = [await client.send(f"m{n}", **session) for n in range(4)]
        assert (await client.ask("send", content="m4", **session))["code"] == "busy"
        await client.say("cancel", run_id=first["run_id"])
        for accepted in waiting:
            assert (await client.events(accepted["run_id"]))[-1]["reason"] == "stop"
        history = await client.history(first["session_id"])
    said = [request.messages[-1].content for request in puppet.requests]
    assert said == ["first", "m0", "m1", "m2", "m3"]
    assert [item["content"] for item in history] == [
        *("first", "Once"),
        *("m0", "Hello", "m1", "Hello", "m2", "Hello", "m3", "Hello"),
    ]


async def test_a_queued_message_is_answered_with_the_turns_before_it(
    host: LocalHost, puppet: Puppet
) -> None:
    async with host.client() as client:
        first = await begin(client, puppet)
        second = await client.send("second", session_id=first["session_id"], if_busy="queue")
        await client.say("cancel", run_id=first["run_id"])
        await client.events(second["run_id"])
    assert [message.content for message in puppet.requests[1].messages[1:]] == [
        "first",
        "Once",
        "second",
    ]


async def test_the_queue_goes_on_after_a_failure(host: LocalHost, puppet: Puppet) -> None:
    gate = asyncio.Event()
    puppet.says_to("first", gate, ModelUnavailableError())
    async with host.client() as client:
        first = await client.send("first")
        second = await client.send("second", session_id=first["session_id"], if_busy="queue")
        gate.set()
        assert (await client.events(first["run_id"]))[-1]["reason"] == "error"
        assert (await client.events(second["run_id"]))[-1]["reason"] == "stop"


async def test_a_new_message_may_stop_all_before_it(host: LocalHost, puppet: Puppet) -> None:
    async with host.client() as client:
        first = await begin(client, puppet)
        session = {"session_id": first["session_id"]}
        second = await client.send("second", if_busy="queue", **session)
        third = await client.send("third", if_busy="cancel", **session)
        reasons = [
            (await client.events(run["run_id"], after=after))[-1]["reason"]
            for run, after in ((first, 2), (second, 0), (third, 0))
        ]
        assert reasons == ["cancelled", "cancelled", "stop"]
    assert [request.messages[-1].content for request in puppet.requests] == ["first", "third"]


async def test_another_session_is_not_busy(host: LocalHost, puppet: Puppet) -> None:
    async with host.client() as client:
        await begin(client, puppet)
        _, events = await client.exchange("elsewhere")
    assert events[-1]["reason"] == "stop"


@pytest.mark.parametrize("name", ["message_id", "reply_id"])
async def test_regenerate_answers_again_and_history_shows_the_newest(
    host: LocalHost, puppet: Puppet, name: str
) -> None:
    puppet.says_to("before", *reply("ok"))
    puppet.says_to("Hi", *reply("One"))
    async with host.client() as client:
        session_id = (await client.exchange("before"))[0]["session_id"]
        accepted, events = await client.exchange("Hi", session_id=session_id)
        puppet.says_to("Hi", *reply("Two"))
        again = await client.ask("regenerate", message_id=events[0][name])
        assert (again["type"], again["message_id"]) == ("accepted", accepted["message_id"])
        assert text_of(await client.events(again["run_id"])) == "Two"
        history = await client.history(session_id)
    assert [item["content"] for item in history] == ["before", "ok", "Hi", "Two"]
    assert [message.content for message in puppet.requests[-1].messages[1:]] == [
        "before",
        "ok",
        "Hi",
    ]


async def test_regenerate_is_idempotent_and_shares_the_ids_of_send(
    host: LocalHost, puppet: Puppet
) -> None:
    async with host.client() as client:
        accepted, _ = await client.exchange("Hi", id="c1")
        message_id = accepted["message_id"]
        again = await client.ask("regenerate", id="r1", message_id=message_id)
        await client.events(again["run_id"])
        twice = await client.ask("regenerate", id="r1", message_id=message_id)
        assert twice == again | {"duplicate": True}
        mixed = await client.ask("regenerate", id="c1", message_id=message_id)
        assert mixed["code"] == "conflict"
        other, _ = await client.exchange("Bye")
        moved = await client.ask("regenerate", id="r1", message_id=other["message_id"])
        assert moved["code"] == "conflict"
    assert len(puppet.requests) == 3


async def test_regenerate_waits_for_nobody(host: LocalHost, puppet: Puppet) -> None:
    async with host.client() as client:
        first = await begin(client, puppet)
        refused = await client.ask("regenerate", message_id=first["message_id"])
        assert refused["code"] == "busy"


async def test_an_id_of_a_forgotten_session_is_refused(host: LocalHost, puppet: Puppet) -> None:
    async with host.client() as client:
        accepted, _ = await client.exchange("Hi", id="c1")
        await client.ask("forget", session_id=accepted["session_id"])
        await client.say("send", id="c1", content="Hi")
        assert (await client.hear("error", id="c1"))["code"] == "not_found"
        assert (await client.ask("sessions"))["items"] == []
        await client.exchange("Hi", id="c2")
    assert len(puppet.requests) == 2


async def test_forgetting_a_session_stops_its_answer(host: LocalHost, puppet: Puppet) -> None:
    async with host.client() as client:
        first = await begin(client, puppet)
        queued = await client.send("second", session_id=first["session_id"], if_busy="queue")
        await client.ask("forget", session_id=first["session_id"])
        for run, after in ((first, 2), (queued, 0)):
            done = (await client.events(run["run_id"], after=after))[-1]
            assert (done["reason"], done["saved"]) == ("cancelled", False)
            await client.say("resume", run_id=run["run_id"], after=0)
            assert (await client.hear("error"))["code"] == "not_found"
        await puppet.idle()
    assert len(puppet.requests) == 1


async def test_an_id_sent_again_while_its_forgotten_answer_still_ends(
    host: LocalHost, puppet: Puppet
) -> None:
    async with host.client() as client:
        first = await begin(client, puppet, "Hi")
        await client.say("forget", id="f", session_id=first["session_id"])
        await client.say("send", id=first["id"], content="Hi")
        await client.hear(id="f")
        assert (await client.hear("error", id=first["id"]))["code"] == "not_found"
        events = await client.events(first["run_id"], after=2)
        assert events[-1]["reason"] == "cancelled"
    assert len(puppet.requests) == 1

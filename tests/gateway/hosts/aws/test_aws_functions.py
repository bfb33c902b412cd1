"""A chat through the real handlers, in the real runtime client, over engines."""

from tests.gateway.hosts.aws.functions import Functions, disconnect_event


def test_a_message_is_answered(functions: Functions) -> None:
    here = functions.connect()
    functions.command(here, type="hello")
    assert functions.last(here)["type"] == "ready"
    functions.command(here, type="send", id="s1", content="こんにちは")
    assert functions.last(here)["type"] == "accepted"
    functions.reply_to_all()
    events = [event for frame in functions.frames(here) for event in frame.get("events", ())]
    assert events[0]["type"] == "started"
    assert events[-1]["type"] == "done"
    assert events[-1]["reason"] == "stop"
    assert functions["disconnect"].invoke(disconnect_event(here)) == {"statusCode": 200}

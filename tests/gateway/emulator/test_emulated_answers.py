"""What a function's answer means."""

import orjson
import pytest

from gateway.emulator.answers import ProxyAnswer, notice, read_answer


@pytest.mark.parametrize(
    ("payload", "answer"),
    [
        ({"statusCode": 200}, ProxyAnswer(status=200)),
        ({"statusCode": "204"}, ProxyAnswer(status=204)),
        ({"statusCode": 200, "body": "text"}, ProxyAnswer(status=200, body="text")),
        ({"statusCode": 200, "body": None}, ProxyAnswer(status=200)),
        (
            {"statusCode": 200, "headers": {"sec-websocket-PROTOCOL": "v1"}},
            ProxyAnswer(status=200, subprotocol="v1"),
        ),
        (
            {"statusCode": 200, "multiValueHeaders": {"Sec-WebSocket-Protocol": ["v2"]}},
            ProxyAnswer(status=200, subprotocol="v2"),
        ),
        ({"statusCode": 200, "headers": None}, ProxyAnswer(status=200)),
        ({}, None),
        (None, None),
        ("text", None),
        ([], None),
        ({"statusCode": True}, None),
        ({"statusCode": 20}, None),
        ({"statusCode": "ok"}, None),
    ],
)
def test_an_answer_is_read(payload: object, answer: ProxyAnswer | None) -> None:
    assert read_answer(orjson.dumps(payload)) == answer


def test_a_notice_names_connection_and_request() -> None:
    said = notice("Internal server error", connection_id="C=", request_id="R=")
    assert orjson.loads(said) == {
        "message": "Internal server error",
        "connectionId": "C=",
        "requestId": "R=",
    }

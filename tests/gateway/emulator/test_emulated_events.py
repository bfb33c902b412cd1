"""Events are what API Gateway sends: the members that captures of the real thing have."""

import pytest

from gateway.emulator.events import (
    Peer,
    connect_event,
    disconnect_event,
    message_event,
    new_id,
)

PEER = Peer(
    connection_id="L0SM9cOFvHcCIhw=",
    connected_at=1_700_000_000.25,
    source_ip="203.0.113.7",
    user_agent="wscat",
    domain="127.0.0.1:8766",
    api_id="a1b2c3d4e5",
    stage="dev",
)

IN_EVERY_CONTEXT = {
    *("routeKey", "eventType", "extendedRequestId", "requestTime", "messageDirection", "stage"),
    *("connectedAt", "requestTimeEpoch", "identity", "requestId", "domainName", "connectionId"),
    "apiId",
}


def test_ids_look_like_those_of_api_gateway() -> None:
    ids = {new_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(len(each) == 16 and each.endswith("=") for each in ids)


def test_connect_has_headers_and_query_once_and_as_lists() -> None:
    event = connect_event(
        PEER,
        headers=[
            *(("Host", "127.0.0.1:8766"), ("Upgrade", "websocket"), ("Connection", "Upgrade")),
            *(("Cookie", "a=1"), ("Cookie", "b=2")),
        ],
        query="token=x%20y&tag=1&tag=2&empty=",
        request_id="R=",
    )
    assert event["headers"]["Cookie"] == "b=2"
    assert event["multiValueHeaders"]["Cookie"] == ["a=1", "b=2"]
    assert event["headers"].keys() == event["multiValueHeaders"].keys()
    assert {"Upgrade", "Connection"}.isdisjoint(event["headers"])
    assert event["headers"]["X-Forwarded-For"] == "203.0.113.7"
    assert event["headers"]["X-Forwarded-Port"] == "8766"
    assert event["queryStringParameters"] == {"token": "x y", "tag": "2", "empty": ""}
    assert event["multiValueQueryStringParameters"]["tag"] == ["1", "2"]
    assert event["isBase64Encoded"] is False
    assert "body" not in event
    assert event["requestContext"].keys() == IN_EVERY_CONTEXT
    assert event["requestContext"] == {
        "routeKey": "$connect",
        "eventType": "CONNECT",
        "extendedRequestId": "R=",
        "requestTime": "14/Nov/2023:22:13:20 +0000",
        "messageDirection": "IN",
        "stage": "dev",
        "connectedAt": 1_700_000_000_250,
        "requestTimeEpoch": 1_700_000_000_250,
        "identity": {"sourceIp": "203.0.113.7", "userAgent": "wscat"},
        "requestId": "R=",
        "domainName": "127.0.0.1:8766",
        "connectionId": "L0SM9cOFvHcCIhw=",
        "apiId": "a1b2c3d4e5",
    }


def test_connect_without_query_has_no_member_for_it() -> None:
    event = connect_event(PEER, headers=[], query="", request_id="R=")
    assert {"queryStringParameters", "multiValueQueryStringParameters"}.isdisjoint(event)


@pytest.mark.parametrize(
    ("message", "body", "encoded"), [("héllo", "héllo", False), (b"\x00\xff", "AP8=", True)]
)
def test_a_message_has_a_body_and_no_headers(
    message: str | bytes, body: str, encoded: bool
) -> None:
    event = message_event(
        PEER, route_key="send", message=message, now=1_700_000_060.0, request_id="R="
    )
    assert event.keys() == {"requestContext", "body", "isBase64Encoded"}
    assert (event["body"], event["isBase64Encoded"]) == (body, encoded)
    context = event["requestContext"]
    assert context.keys() == IN_EVERY_CONTEXT | {"messageId"}
    assert (context["routeKey"], context["eventType"]) == ("send", "MESSAGE")
    assert context["connectedAt"] == 1_700_000_000_250
    assert context["requestTimeEpoch"] == 1_700_000_060_000


def test_disconnect_says_how_it_ended() -> None:
    event = disconnect_event(
        PEER, code=1001, reason="Going away", now=1_700_000_060.0, request_id="R="
    )
    assert event["headers"]["Host"] == "127.0.0.1:8766"
    context = event["requestContext"]
    assert context.keys() == IN_EVERY_CONTEXT | {"disconnectStatusCode", "disconnectReason"}
    assert (context["disconnectStatusCode"], context["disconnectReason"]) == (1001, "Going away")
    assert (context["routeKey"], context["eventType"]) == ("$disconnect", "DISCONNECT")

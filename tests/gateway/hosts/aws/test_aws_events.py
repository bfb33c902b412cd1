"""Events of API Gateway as handshakes and frames, with what emulators and strangers leave out."""

import base64
from typing import Any

import pytest

from gateway.hosts.aws.events import (
    UnexpectedEventError,
    connection_id_of,
    connections_url_of,
    frame_of,
    handshake_of,
)
from tests.gateway.hosts.aws.functions import connect_event, message_event

NOW = 1_800_000_000.0


def event(**fields: Any) -> dict[str, Any]:
    return {"requestContext": {"connectionId": "c1=", **fields.pop("context", {})}, **fields}


def test_a_handshake_has_all_lines_of_headers_and_query_in_order() -> None:
    asked = event(
        headers={"X": "2"},
        multiValueHeaders={"X": ["1", "2"], "Origin": ["https://a.example"]},
        queryStringParameters={"ticket": "b"},
        multiValueQueryStringParameters={"ticket": ["a", "b"]},
    )
    handshake = handshake_of(asked, now=NOW)
    assert handshake.connection_id == "c1="
    assert handshake.headers == [("X", "1"), ("X", "2"), ("Origin", "https://a.example")]
    assert handshake.query == [("ticket", "a"), ("ticket", "b")]


@pytest.mark.parametrize("many", [{}, None, [], "x"])
def test_single_values_count_where_there_are_no_others(many: object) -> None:
    asked = event(
        headers={"Origin": "https://a.example"},
        multiValueHeaders=many,
        queryStringParameters={"ticket": "a"},
        multiValueQueryStringParameters=many,
    )
    handshake = handshake_of(asked, now=NOW)
    assert handshake.headers == [("Origin", "https://a.example")]
    assert handshake.query == [("ticket", "a")]


@pytest.mark.parametrize("odd", [None, [], 7, {"X": None}, {"X": 7}, {"X": [None, 7]}])
def test_odd_headers_and_query_are_none(odd: object) -> None:
    asked = event(
        headers=odd,
        multiValueHeaders=odd,
        queryStringParameters=odd,
        multiValueQueryStringParameters=odd,
    )
    handshake = handshake_of(asked, now=NOW)
    assert (handshake.headers, handshake.query) == ([], [])


@pytest.mark.parametrize(
    ("connected_at", "lifetime_s"),
    [
        (NOW * 1000, 7200.0),
        ((NOW - 60) * 1000, 7140.0),
        ((NOW + 60) * 1000, 7200.0),
        (0, 0.0),
        (None, 7200.0),
        ("soon", 7200.0),
    ],
)
def test_two_hours_are_left_from_the_time_of_connecting(
    connected_at: object, lifetime_s: float
) -> None:
    asked = event(context={"connectedAt": connected_at})
    assert handshake_of(asked, now=NOW).lifetime_s == lifetime_s


@pytest.mark.parametrize(
    "strange",
    [
        {},
        {"requestContext": None},
        {"requestContext": []},
        {"requestContext": {}},
        {"requestContext": {"connectionId": None}},
        {"requestContext": {"connectionId": ""}},
    ],
)
def test_an_event_without_a_connection_is_not_ours(strange: dict[str, Any]) -> None:
    for read in (connection_id_of, lambda event: handshake_of(event, now=NOW)):
        with pytest.raises(UnexpectedEventError):
            read(strange)


def test_the_event_says_where_to_post() -> None:
    url = "https://abc123.execute-api.eu-central-1.amazonaws.com/dev"
    assert connections_url_of(connect_event("c1=")) == url


@pytest.mark.parametrize(
    "context", [{}, {"domainName": "d"}, {"stage": "s"}, {"domainName": 1, "stage": "s"}]
)
def test_an_event_may_not_say_where_to_post(context: dict[str, Any]) -> None:
    with pytest.raises(UnexpectedEventError):
        connections_url_of(event(context=context))


@pytest.mark.parametrize(
    ("asked", "frame"),
    [
        (message_event("c1=", "こんにちは"), "こんにちは"),
        (message_event("c1=", None), ""),
        (message_event("c1=", base64.b64encode(b"\x00\xff").decode(), binary=True), b"\x00\xff"),
        (message_event("c1=", "no base64", binary=True), b""),
        (message_event("c1=", "é", binary=True), b""),
        (event(body={"type": "ping"}), ""),
        (event(body=None), ""),
    ],
)
def test_a_body_is_a_frame(asked: dict[str, Any], frame: str | bytes) -> None:
    assert frame_of(asked) == frame

"""A chat through the real handlers, in Amazon's runtime client, over engines."""

import base64
import secrets
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.engines.fault_proxy import FAIL
from tests.engines.processes import Engine
from tests.engines.runtime_api import FunctionError
from tests.gateway.hosts.aws.functions import (
    ORIGIN,
    Functions,
    connect_event,
    disconnect_event,
    failure_event,
    http_event,
    message_event,
    new_connection_id,
    running_functions,
)

SOON_S = 20.0
"""A bound for what happens at once, on a busy machine."""


@pytest.fixture(autouse=True)
def somebody_new(functions: Functions, slow: Functions) -> str:
    """Let each test be another person's, so that none finds what another has left."""
    user = f"user-{secrets.token_hex(4)}"
    for each in (functions, slow):
        each.user = user
        each.lambdas.asked.clear()
    return user


@pytest.fixture(scope="module")
def slow(
    dynoxide: Engine, moto_server: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Functions]:
    """Functions whose model writes ten words a second."""
    folder: Path = tmp_path_factory.mktemp("slow")
    with running_functions(dynoxide, moto_server, folder, MAKOTO_SCRIPTED_PACE="10") as running:
        yield running


def send(functions: Functions, connection: str, content: str = "Hello", **fields: Any) -> str:
    """Have a message accepted; return its run."""
    fields.setdefault("id", secrets.token_hex(8))
    functions.command(connection, type="send", content=content, **fields)
    accepted = functions.last(connection)
    assert accepted["type"] == "accepted", accepted
    return str(accepted["run_id"])


def asked(functions: Functions) -> bytes:
    """Take out the one invocation of `reply` that was asked for."""
    (payload,) = set(functions.lambdas.asked)  # more than once is harmless
    functions.lambdas.asked.clear()
    return payload


def events(functions: Functions, connection: str, run_id: str) -> list[dict[str, Any]]:
    """Return the events of a run as a client puts them together: what it has already, it drops."""
    found: list[dict[str, Any]] = []
    for frame in functions.frames(connection):
        if frame["type"] == "events" and frame["run_id"] == run_id:
            assert frame["first_seq"] <= len(found) + 1, "a gap"
            found += frame["events"][len(found) + 1 - frame["first_seq"] :]
    return found


def text(found: list[dict[str, Any]]) -> str:
    return "".join(event["text"] for event in found if event["type"] == "content.delta")


def wait_for(condition: Callable[[], object], within_s: float = SOON_S) -> None:
    until = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until, "it does not happen"
        time.sleep(0.02)


def stored_reply(functions: Functions, connection: str, session_id: str) -> dict[str, Any]:
    functions.command(connection, type="history", id="h", session_id=session_id)
    page = functions.last(connection)
    assert page["type"] == "page", page
    item: dict[str, Any] = next(item for item in page["items"] if item["role"] == "assistant")
    return item


# A chat


def test_a_message_is_answered_and_kept(functions: Functions, somebody_new: str) -> None:
    here = functions.connect()
    functions.command(here, type="hello")
    ready = functions.last(here)
    assert ready["type"] == "ready"
    assert (ready["user_id"], ready["tenant_id"]) == (somebody_new, "acme")
    assert ready["heartbeat_ms"] == 240_000
    left_ms = ready["connection_expires_at"] - ready["server_time"]
    assert 7_100_000 < left_ms <= 7_200_000

    run_id = send(functions, here, "こんにちは、元気ですか？")
    session_id = functions.last(here)["session_id"]
    functions.reply_to_all()

    found = events(functions, here, run_id)
    assert found[0]["type"] == "started"
    assert (found[-1]["type"], found[-1]["reason"], found[-1]["saved"]) == ("done", "stop", True)
    assert stored_reply(functions, here, session_id)["content"] == text(found) != ""
    assert functions["disconnect"].invoke(disconnect_event(here)) == {"statusCode": 200}
    functions.command(here, type="ping")
    assert functions.last(here)["code"] == "auth.required"


def test_an_ended_answer_is_replayed_to_who_resumes(functions: Functions) -> None:
    here = functions.connect()
    run_id = send(functions, here)
    functions.reply_to_all()

    there = functions.connect()
    functions.api.delay_s = 0.3  # nothing would be posted any more after the handler's return
    try:
        functions.command(there, type="resume", run_id=run_id, after=0)
    finally:
        functions.api.delay_s = 0.0

    assert functions.frames(there)[0]["type"] == "resumed"
    assert events(functions, there, run_id) == events(functions, here, run_id)


def test_words_that_come_fast_share_frames(functions: Functions) -> None:
    here = functions.connect()
    run_id = send(functions, here, "One, two, three, four, five, six, seven, eight, nine, ten")
    functions.reply_to_all()

    frames = [frame for frame in functions.frames(here) if frame["type"] == "events"]
    deltas = [event for event in events(functions, here, run_id) if "delta" in event["type"]]
    assert len(frames) <= 20  # 4 where nothing else runs; one per fragment would be a hundred
    assert 2 <= len(deltas) <= 18


def test_what_is_too_large_for_a_frame_is_fetched_from_s3(functions: Functions) -> None:
    here = functions.connect()
    send(functions, here, "長い" * 5_000)
    session_id = functions.last(here)["session_id"]
    functions.reply_to_all()

    functions.command(here, type="history", id="h", session_id=session_id)
    before = functions.last(here)["next"]  # the reply alone
    functions.command(here, type="history", id="i", session_id=session_id, before=before)
    payload = functions.last(here)

    assert payload["type"] == "payload"
    with urllib.request.urlopen(payload["url"], timeout=20) as response:
        page = orjson.loads(response.read())
    assert page["type"] == "page"
    assert page["items"][-1]["content"] == "長い" * 5_000


def test_a_message_that_waits_is_answered_after_the_one_before_it(functions: Functions) -> None:
    here = functions.connect()
    first = send(functions, here)
    session_id = functions.last(here)["session_id"]
    second = send(functions, here, "And?", session_id=session_id, if_busy="queue")
    assert orjson.loads(functions.lambdas.asked[0])["run_id"] == first

    functions.reply_to_all()

    assert [events(functions, here, run)[-1]["type"] for run in (first, second)] == ["done"] * 2


def test_a_ticket_from_the_http_api_opens_a_connection_once(
    functions: Functions, somebody_new: str
) -> None:
    answer = functions["http"].invoke(http_event(token=functions.token()))
    assert answer["statusCode"] == 200, answer
    ticket = orjson.loads(answer["body"])["ticket"]
    here = new_connection_id()

    opened, again = (
        functions["connect"].invoke(connect_event(each, query={"ticket": ticket}))
        for each in (here, new_connection_id())
    )

    assert (opened["statusCode"], again["statusCode"]) == (200, 401)
    functions.command(here, type="hello")
    assert functions.last(here)["user_id"] == somebody_new


def test_the_http_api_says_that_it_is_well_and_refuses_strangers(functions: Functions) -> None:
    healthy = functions["http"].invoke(http_event("/healthz", method="GET"))
    stranger = functions["http"].invoke(http_event(token="a.b.c"))
    nothing = functions["http"].invoke(http_event("/admin", method="GET"))

    assert (healthy["statusCode"], orjson.loads(healthy["body"])) == (200, {"status": "ok"})
    assert stranger["statusCode"] == 401
    assert orjson.loads(stranger["body"])["error"]["code"] == "auth.invalid"
    assert nothing["statusCode"] == 404


@pytest.mark.parametrize(("origin", "status"), [(ORIGIN, 200), ("https://evil.example", 400)])
def test_a_preflight_that_reaches_the_http_api_is_answered(
    functions: Functions, origin: str, status: int
) -> None:
    """API Gateway answers it itself, unless somebody adds a route that takes OPTIONS."""
    event = http_event(method="OPTIONS")
    event["headers"] |= {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization",
    }
    answer = functions["http"].invoke(event)
    assert answer["statusCode"] == status
    told = answer["headers"].get("access-control-allow-origin")
    assert told == (origin if status == 200 else None)


# Connecting


def test_the_protocol_is_echoed_and_nothing_else(functions: Functions) -> None:
    answer = functions["connect"].invoke(
        connect_event(new_connection_id(), token=functions.token())
    )
    assert answer == {"statusCode": 200, "headers": {"Sec-WebSocket-Protocol": "makoto.v1"}}


def test_who_brings_no_protocol_is_answered_none(functions: Functions) -> None:
    headers = {"authorization": f"Bearer {functions.token()}"}
    answer = functions["connect"].invoke(connect_event(new_connection_id(), headers=headers))
    assert answer == {"statusCode": 200}


@pytest.mark.parametrize(
    ("headers", "query", "status"),
    [
        ({"Origin": ORIGIN}, None, 401),
        ({"Origin": ORIGIN, "Sec-WebSocket-Protocol": "makoto.v1"}, None, 401),
        ({"Origin": ORIGIN, "Sec-WebSocket-Protocol": "makoto.v1, bearer.x.y.z"}, None, 401),
        ({"Origin": ORIGIN}, {"ticket": "AAAAAAAAAAAAAAAAAAAAAA"}, 401),
        ({"Origin": ORIGIN}, {"token": "TOKEN"}, 401),
        ({"Origin": ORIGIN, "Authorization": "Bearer EXPIRED"}, None, 401),
        ({"ORIGIN": "https://evil.example", "AUTHORIZATION": "Bearer TOKEN"}, None, 403),
        ({"Sec-WebSocket-Protocol": "makoto.v1, bearer.TOKEN"}, None, 403),
        ({"AUTHORIZATION": "bearer TOKEN"}, None, 200),
    ],
)
def test_a_handshake_is_judged(
    functions: Functions, headers: dict[str, str], query: dict[str, str] | None, status: int
) -> None:
    expired = functions.issuer.mint("anna", ttl_s=60, now=time.time() - 3600)
    tokens = {"TOKEN": functions.token(), "EXPIRED": expired}
    for name, token in tokens.items():
        headers = {key: value.replace(name, token) for key, value in headers.items()}
        query = query and {key: value.replace(name, token) for key, value in query.items()}
    event = connect_event(new_connection_id(), headers=headers, query=query)

    assert functions["connect"].invoke(event)["statusCode"] == status


def test_without_the_issuers_keys_a_token_is_refused_for_now(
    dynoxide: Engine, moto_server: Engine, tmp_path: Path
) -> None:
    with running_functions(dynoxide, moto_server, tmp_path) as functions:
        functions.lambdas.serves_keys = False
        event = connect_event(new_connection_id(), token=functions.token())
        assert functions["connect"].invoke(event)["statusCode"] == 503
        functions.lambdas.serves_keys = True
        time.sleep(1.0)  # the least time between two attempts to fetch them
        assert functions["connect"].invoke(event)["statusCode"] == 200


def test_without_storage_a_connection_is_refused_for_now(functions: Functions) -> None:
    event = connect_event(new_connection_id(), token=functions.token())
    functions["connect"].invoke(event)
    functions.dynamodb.fail("PutItem", FAIL, times=20)
    try:
        assert functions["connect"].invoke(event)["statusCode"] == 503
    finally:
        functions.dynamodb.heal()


# Warm processes


def ten_connects(functions: Functions) -> Iterator[object]:
    for _ in range(10):
        yield functions.connect()


def ten_messages(functions: Functions) -> Iterator[object]:
    here = functions.connect()
    for number in range(10):
        run_id = send(functions, here, f"Hello {number}")
        assert orjson.loads(asked(functions))["run_id"] == run_id
        yield


def ten_replies(functions: Functions) -> Iterator[object]:
    here = functions.connect()
    for number in range(10):
        run_id = send(functions, here, f"Hello {number}")
        functions.reply(asked(functions))
        assert events(functions, here, run_id)[-1]["reason"] == "stop"
        yield


def ten_seals(functions: Functions) -> Iterator[object]:
    here = functions.connect()
    for number in range(10):
        run_id = send(functions, here, f"Hello {number}")
        failure = failure_event(orjson.loads(asked(functions)))
        assert functions["seal"].invoke(failure) == {"batchItemFailures": []}
        assert events(functions, here, run_id)[-1]["reason"] == "error"
        yield


def ten_disconnects(functions: Functions) -> Iterator[object]:
    for _ in range(10):
        here = functions.connect()
        assert functions["disconnect"].invoke(disconnect_event(here)) == {"statusCode": 200}
        functions.command(here, type="ping")
        assert functions.last(here)["code"] == "auth.required"
        yield


def ten_requests(functions: Functions) -> Iterator[object]:
    for _ in range(10):
        answer = functions["http"].invoke(http_event(token=functions.token()))
        assert answer["statusCode"] == 200, answer
        yield


@pytest.mark.parametrize(
    ("name", "invocations"),
    [
        ("connect", ten_connects),
        ("message", ten_messages),
        ("reply", ten_replies),
        ("seal", ten_seals),
        ("disconnect", ten_disconnects),
        ("http", ten_requests),
    ],
)
def test_one_process_serves_ten_events_though_its_connections_are_cut_between_them(
    functions: Functions, name: str, invocations: Callable[[Functions], Iterator[object]]
) -> None:
    function = functions[name]
    function.kill()
    starts = function.starts
    for _ in invocations(functions):
        functions.cut_idle_connections()
    assert function.starts == starts + 1


# Twice


def test_the_same_message_twice_is_one_run_and_one_invocation(functions: Functions) -> None:
    here = functions.connect()
    event = message_event(here, '{"type": "send", "id": "twice", "content": "Hello"}')
    for _ in range(2):
        assert functions["message"].invoke(event) == {"statusCode": 200}

    first, second = functions.frames(here)
    assert first["run_id"] == second["run_id"]
    assert [frame.get("duplicate") for frame in (first, second)] == [None, True]
    assert len(functions.lambdas.asked) == 1
    functions.reply_to_all()


def test_an_invocation_that_is_delivered_twice_answers_once(functions: Functions) -> None:
    here = functions.connect()
    run_id = send(functions, here)
    payload = asked(functions)
    functions.reply(payload)
    frames = functions.frames(here)

    functions.reply(payload)

    assert functions.frames(here) == frames
    assert [event["type"] for event in events(functions, here, run_id)].count("done") == 1


def test_an_invocation_that_is_delivered_twice_at_once_answers_once(slow: Functions) -> None:
    here = slow.connect()
    run_id = send(slow, here)
    payload = asked(slow)
    other = slow.another("reply")
    other.start()
    both = [slow.in_background(function, payload) for function in (slow["reply"], other)]
    for each in both:
        each.result(timeout=60)

    sequence = [
        (frame["first_seq"], frame["last_seq"])
        for frame in slow.frames(here)
        if frame["type"] == "events"
    ]
    found = events(slow, here, run_id)
    assert found[-1]["reason"] == "stop"
    assert [first for first, _ in sequence] == [1, *(last + 1 for _, last in sequence[:-1])]


# Ends


def test_a_run_whose_reply_fails_for_good_ends_as_an_error(functions: Functions) -> None:
    here = functions.connect()
    run_id = send(functions, here)
    failure = failure_event(orjson.loads(asked(functions)))

    for _ in range(2):  # a queue may deliver twice
        assert functions["seal"].invoke(failure) == {"batchItemFailures": []}

    (started, done) = events(functions, here, run_id)
    assert started["type"] == "started"
    assert (done["reason"], done["error"]["code"]) == ("error", "internal")


def test_what_waited_behind_a_failed_run_is_answered(functions: Functions) -> None:
    here = functions.connect()
    send(functions, here)
    session_id = functions.last(here)["session_id"]
    second = send(functions, here, session_id=session_id, if_busy="queue")
    failure = failure_event(orjson.loads(asked(functions)))

    functions["seal"].invoke(failure)
    functions.reply_to_all()

    assert events(functions, here, second)[-1]["reason"] == "stop"


def test_what_waited_is_answered_though_lambda_took_no_invocation_for_it(
    functions: Functions,
) -> None:
    here = functions.connect()
    first = send(functions, here)
    session_id = functions.last(here)["session_id"]
    second = send(functions, here, session_id=session_id, if_busy="queue")
    payload = asked(functions)

    functions.lambdas.status = 403
    try:
        with pytest.raises(FunctionError, match="NotInvokedError"):
            functions.reply(payload)
        assert events(functions, here, first)[-1]["reason"] == "stop"
        failure = failure_event(orjson.loads(payload))
        wait_for(lambda: functions["seal"].invoke(failure)["batchItemFailures"])
    finally:
        functions.lambdas.status = 202
    assert functions["seal"].invoke(failure) == {"batchItemFailures": []}
    functions.reply_to_all()

    assert events(functions, here, second)[-1]["reason"] == "stop"


def test_a_run_that_lives_is_asked_about_again(slow: Functions) -> None:
    here = slow.connect()
    run_id = send(slow, here)
    payload = asked(slow)
    writing = slow.in_background(slow["reply"], payload)
    wait_for(lambda: events(slow, here, run_id))

    answer = slow["seal"].invoke(failure_event({"no": "run"}, orjson.loads(payload)))

    assert answer == {"batchItemFailures": [{"itemIdentifier": "message-1"}]}
    writing.result(timeout=60)
    assert events(slow, here, run_id)[-1]["reason"] == "stop"


def test_the_deadline_of_the_process_ends_a_run_as_interrupted(slow: Functions) -> None:
    here = slow.connect()
    run_id = send(slow, here)
    session_id = slow.last(here)["session_id"]

    slow.reply(asked(slow), timeout_s=21.5)

    found = events(slow, here, run_id)
    assert (found[-1]["reason"], found[-1]["saved"]) == ("interrupted", True)
    assert text(found)
    stored = stored_reply(slow, here, session_id)
    assert (stored["content"], stored["end"]) == (text(found), "interrupted")


def test_a_process_that_dies_leaves_a_run_that_the_queue_ends(slow: Functions) -> None:
    here = slow.connect()
    run_id = send(slow, here)
    payload = asked(slow)
    dying = slow.another("reply")
    writing = slow.in_background(dying, payload)
    wait_for(lambda: text(events(slow, here, run_id)))
    dying.kill()
    with pytest.raises(FunctionError):
        writing.result(timeout=10)

    failure = failure_event(orjson.loads(payload))
    wait_for(lambda: slow["seal"].invoke(failure) == {"batchItemFailures": []})  # its lease is 10 s

    found = events(slow, here, run_id)
    assert found[-1]["reason"] == "interrupted"
    assert text(found)
    assert (found[-2]["type"], found[-2]["model"]) == ("usage", "scripted")
    assert found[-2]["estimated"]


def test_an_answer_that_nobody_reads_is_ended_if_that_is_set(slow: Functions) -> None:
    here, there = slow.connect(), slow.connect()
    run_id = send(slow, here, "long")
    impatient = slow.another("reply", MAKOTO_UNREAD_RUN_S="0.5")
    writing = slow.in_background(impatient, asked(slow))
    wait_for(lambda: text(events(slow, here, run_id)))
    slow.api.gone.add(here)
    writing.result(timeout=60)

    slow.command(there, type="resume", run_id=run_id, after=0)
    found = events(slow, there, run_id)
    assert text(found).startswith(text(events(slow, here, run_id)))
    assert (found[-1]["reason"], found[-1]["saved"]) == ("interrupted", True)
    assert found[-2]["estimated"]


def test_a_cancel_from_another_process_stops_the_answer_within_a_second(slow: Functions) -> None:
    here = slow.connect()
    run_id = send(slow, here)
    writing = slow.in_background(slow["reply"], asked(slow))
    wait_for(lambda: text(events(slow, here, run_id)))

    began = time.monotonic()
    slow.command(here, type="cancel", run_id=run_id)
    wait_for(lambda: events(slow, here, run_id)[-1]["type"] == "done")
    took = time.monotonic() - began

    writing.result(timeout=60)
    assert events(slow, here, run_id)[-1]["reason"] == "cancelled"
    assert took < 1.0


def test_a_second_device_follows_an_answer_that_another_process_writes(slow: Functions) -> None:
    here, there = slow.connect(), slow.connect()
    run_id = send(slow, here)
    writing = slow.in_background(slow["reply"], asked(slow))
    wait_for(lambda: text(events(slow, here, run_id)))

    slow.command(there, type="resume", run_id=run_id, after=0)
    writing.result(timeout=60)

    assert slow.frames(there)[0]["type"] == "resumed"
    assert events(slow, there, run_id) == events(slow, here, run_id)
    assert events(slow, there, run_id)[-1]["reason"] == "stop"


# What alarms count


@pytest.mark.parametrize("name", ["connect", "disconnect", "message"])
def test_a_fault_that_is_answered_is_logged_for_the_alarm_also_if_no_setting_can_be_read(
    functions: Functions, name: str
) -> None:
    here = new_connection_id()
    event = {
        "connect": connect_event(here),
        "disconnect": disconnect_event(here),
        "message": message_event(here, "{}"),
    }[name]
    broken = functions.another(name, MAKOTO_ISSUERS="[1]")

    broken.invoke(event)  # Lambda sees no error

    lines = [orjson.loads(line) for line in broken.said().splitlines()]
    (line,) = (line for line in lines if line.get("level") == "error")
    assert "MAKOTO_ISSUERS" in line["trace"]


# What is not of the protocol


@pytest.mark.parametrize(
    ("body", "binary", "code"),
    [
        (None, False, "bad_request"),
        ("", False, "bad_request"),
        ("[]", False, "bad_request"),
        ("{" * 10_000, False, "bad_request"),
        ('"\\ud83d"', False, "bad_request"),
        (base64.b64encode(b'{"type": "ping"}').decode(), True, "bad_request"),
        ("not base64 at all", True, "bad_request"),
        ('{"type": "destroy"}', False, "unsupported"),
        ('{"type": "ping", "pad": "%s"}' % ("x" * 131_072), False, "payload.too_large"),
    ],
    ids=[
        *("missing", "empty", "list", "deep", "surrogate", "binary", "no-base64", "unknown"),
        "oversize",
    ],
)
def test_a_bad_frame_is_answered_so_and_the_connection_stays(
    functions: Functions, body: str | None, binary: bool, code: str
) -> None:
    here = functions.connect()
    answer = functions["message"].invoke(message_event(here, body, binary=binary))
    functions.command(here, type="ping")

    error, pong = functions.frames(here)
    assert answer == {"statusCode": 200}
    assert (error["type"], error["code"]) == ("error", code)
    assert pong["type"] == "pong"


@pytest.mark.parametrize(
    "event",
    [{}, {"requestContext": None}, {"requestContext": {"connectionId": 7}}, {"body": "{}"}],
)
@pytest.mark.parametrize("name", ["connect", "message", "disconnect"])
def test_an_event_of_something_else_says_nothing(
    functions: Functions, name: str, event: object
) -> None:
    answer = functions[name].invoke(event)
    assert answer == {"statusCode": 200 if name == "disconnect" else 500}


@pytest.mark.parametrize("payload", [{}, {"run_id": "x"}, [], None, {"Records": []}])
def test_a_reply_to_nothing_fails(functions: Functions, payload: object) -> None:
    with pytest.raises(FunctionError, match="no run is named"):
        functions["reply"].invoke(payload)


def test_a_connection_that_nobody_knows_is_told_so_and_closed(functions: Functions) -> None:
    stranger = new_connection_id()
    functions.command(stranger, type="hello")
    (error,) = functions.frames(stranger)
    assert (error["code"], error["fatal"]) == ("auth.required", True)
    assert stranger in functions.api.gone


def test_a_command_that_storage_refuses_is_told_so(functions: Functions) -> None:
    here = functions.connect()
    functions.dynamodb.fail("GetItem", FAIL, times=20)
    try:
        functions.command(here, type="send", id="s1", content="Hello")
    finally:
        functions.dynamodb.heal()
    error = functions.last(here)
    assert (error["code"], error["id"], error["retryable"]) == ("storage.unavailable", "s1", True)


def test_a_message_to_a_client_that_is_gone_is_answered_all_the_same(functions: Functions) -> None:
    here = functions.connect()
    functions.api.gone.add(here)
    functions.command(here, type="send", id="s1", content="Hello")
    functions.reply(asked(functions))

    there = functions.connect()
    functions.command(there, type="sessions", id="all")
    assert functions.last(there)["items"]


def test_no_log_line_holds_a_token_or_a_text(functions: Functions) -> None:
    here = functions.connect()
    token = functions.token()
    functions["connect"].invoke(connect_event(new_connection_id(), token=token))
    functions["connect"].invoke(connect_event(new_connection_id(), token=token[:-4] + "AAAA"))
    send(functions, here, "a very private matter")
    functions.reply_to_all()
    logged = "".join(functions[name].said() for name in ("connect", "message", "reply"))
    assert "refused" in logged
    for hidden in (token, token[:-4], "private matter"):
        assert hidden not in logged

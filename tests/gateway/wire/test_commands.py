"""What a frame may be, and that every other one is refused with one typed error."""

import json
from typing import Any, get_args

import pytest
from jsonschema import Draft202012Validator

from gateway.wire import commands
from gateway.wire.answers import error_answer
from gateway.wire.commands import COMMAND_TYPES, FORBIDDEN_FIELDS, AnyCommand, client_id, decode
from gateway.wire.errors import (
    BadRequestError,
    PayloadTooLargeError,
    UnsupportedError,
    WireError,
)
from gateway.wire.json_schema import protocol_schema
from gateway.wire.limits import MESSAGE_BYTES

SHA = "0123456789abcdef" * 4

LEAST: dict[str, dict[str, Any]] = {
    "hello": {},
    "auth": {"id": "a", "token": "t"},
    "send": {"id": "a", "content": "こんにちは"},
    "regenerate": {"id": "a", "message_id": "m"},
    "cancel": {"id": "a"},
    "resume": {"run_id": "r", "after": 0},
    "subscribe": {"session_id": "s"},
    "unsubscribe": {"session_id": "s"},
    "history": {"id": "a", "session_id": "s"},
    "sessions": {"id": "a"},
    "session": {"id": "a", "session_id": "s"},
    "memories": {"id": "a"},
    "forget": {"id": "a", "memory_id": "k"},
    "upload": {"id": "a", "bytes": 1, "sha256": SHA},
    "ping": {},
}

MOST: dict[str, dict[str, Any]] = {
    "hello": {"token": "t" * 16_384, "client": "c" * 200},
    "send": {
        "id": "A-z_0.9:" * 8,
        "session_id": "s" * 128,
        "upload_id": "p",
        "character": "sensei-1",
        "if_busy": "cancel",
    },
    "cancel": {"run_id": "r"},
    "resume": {"run_id": "r", "after": 2**53},
    "subscribe": {"session_id": "s" * 128},
    "unsubscribe": {"session_id": "s" * 128},
    "history": {"id": "a", "session_id": "s", "before": "c" * 512, "limit": 100},
    "sessions": {"id": "a", "before": "c", "limit": 1},
    "session": {"id": "a", "session_id": "s", "title": "題" * 200},
    "memories": {"id": "a", "before": "c", "limit": 1},
    "forget": {"id": "a", "session_id": "s"},
    "upload": {"id": "a", "bytes": 2**53, "sha256": SHA},
    "ping": {"t": 1e300},
}


def frame(kind: str, fields: dict[str, Any]) -> str:
    return json.dumps({"type": kind, **fields}, ensure_ascii=False)


@pytest.fixture(scope="module")
def schema() -> Draft202012Validator:
    return Draft202012Validator({**protocol_schema(), "$ref": "#/$defs/AnyCommand"})


# Good frames


def test_the_tables_know_every_command() -> None:
    assert set(LEAST) == set(COMMAND_TYPES)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        *[pytest.param(kind, fields, id=f"{kind}-least") for kind, fields in LEAST.items()],
        *[pytest.param(kind, fields, id=f"{kind}-most") for kind, fields in MOST.items()],
    ],
)
def test_a_good_frame_becomes_its_command(
    kind: str, fields: dict[str, Any], schema: Draft202012Validator
) -> None:
    command = decode(frame(kind, fields))
    assert command.type == kind
    assert command.model_dump(include=set(fields)) == fields
    assert schema.is_valid({"type": kind, **fields})


@pytest.mark.parametrize("kind", sorted(COMMAND_TYPES))
def test_unknown_fields_are_ignored(kind: str, schema: Draft202012Validator) -> None:
    plain = LEAST[kind]
    assert decode(frame(kind, {**plain, "later": {"role": "x"}})) == decode(frame(kind, plain))
    assert schema.is_valid({"type": kind, **plain, "later": {"role": "x"}})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(' \n{"type": "ping"}\t', commands.Ping(type="ping"), id="white-space"),
        pytest.param('{"t":1,"type":"ping"}', commands.Ping(type="ping", t=1), id="type-not-first"),
        pytest.param(
            '{"type":"ping","t":1,"t":2}', commands.Ping(type="ping", t=2), id="last-duplicate"
        ),
        pytest.param(
            '{"type":"send","type":"ping"}', commands.Ping(type="ping"), id="last-duplicate-type"
        ),
        pytest.param('{"type":"hello","token":null}', commands.Hello(type="hello"), id="null"),
        pytest.param(
            '{"type":"ping","x":' + "[" * 1000 + "]" * 1000 + "}",
            commands.Ping(type="ping"),
            id="nested-unknown-field",
        ),
        pytest.param(
            '{"type":"ping","t":' + "9" * 30 + "}", commands.Ping(type="ping", t=1e30), id="huge-t"
        ),
        pytest.param(
            r'{"type":"send","id":"a","content":"\ud83c\udf38"}',
            commands.Send(type="send", id="a", content="🌸"),
            id="surrogate-pair",
        ),
        pytest.param(
            '{"type":"session","id":"a","session_id":"s","title":"　旅 "}',
            commands.Session(type="session", id="a", session_id="s", title="旅"),
            id="title-stripped",
        ),
    ],
)
def test_a_frame_may_look_unusual(text: str, expected: AnyCommand) -> None:
    assert decode(text) == expected


def test_a_send_is_refused_when_busy_unless_it_says_otherwise() -> None:
    command = decode(frame("send", LEAST["send"]))
    assert isinstance(command, commands.Send)
    assert command.if_busy == "reject"


@pytest.mark.parametrize("character", ["a", "あ", "🌸"], ids=["ascii", "japanese", "emoji"])
def test_size_counts_bytes_of_utf_8(character: str) -> None:
    room = MESSAGE_BYTES - len(frame("send", {"id": "a", "content": ""}))
    count, rest = divmod(room, len(character.encode()))
    largest = frame("send", {"id": "a", "content": character * count + "." * rest})
    assert len(largest.encode()) == MESSAGE_BYTES
    assert isinstance(decode(largest), commands.Send)
    with pytest.raises(PayloadTooLargeError):
        decode(largest + " ")


# Bad frames. "5ecret" is in every value that must not come back.

NOT_JSON = [
    pytest.param("", id="empty"),
    pytest.param(" ", id="blank"),
    pytest.param("5ecret", id="word"),
    pytest.param('{"type":"ping"', id="truncated"),
    pytest.param('{"type":"ping"}}', id="trailing-brace"),
    pytest.param('{"type":"ping"}{"type":"ping"}', id="two-objects"),
    pytest.param('{"type":"ping",}', id="trailing-comma"),
    pytest.param("{'type':'ping'}", id="single-quotes"),
    pytest.param('{"type":"ping"} // 5ecret', id="comment"),
    pytest.param('\ufeff{"type":"ping"}', id="bom"),
    pytest.param('{"type":"ping","t":NaN}', id="nan"),
    pytest.param('{"type":"ping","t":Infinity}', id="infinity"),
    pytest.param('{"type":"ping","t":1e400}', id="beyond-a-double"),
    pytest.param('{"type":"ping","t":-1e400}', id="below-a-double"),
    pytest.param('{"type":"ping","t":01}', id="leading-zero"),
    pytest.param(r'{"type":"send","id":"a","content":"\ud83d"}', id="lone-high-surrogate-escape"),
    pytest.param(r'{"type":"send","id":"a","content":"\udf38"}', id="lone-low-surrogate-escape"),
    pytest.param(r'{"type":"ping","x":"\ud83d"}', id="lone-surrogate-in-unknown-field"),
    pytest.param('{"type":"send","id":"a","content":"\ud83d"}', id="lone-surrogate"),
    pytest.param('{"type":"send","id":"a","content":"a\nb"}', id="raw-newline"),
    pytest.param('{"type":"ping","x":' + "[" * 16_000 + "]" * 16_000 + "}", id="too-deep"),
]

NOT_AN_OBJECT = [
    pytest.param('[{"type":"ping"}]', id="array"),
    pytest.param('"ping"', id="string"),
    pytest.param("1", id="number"),
    pytest.param("true", id="true"),
    pytest.param("null", id="null"),
]

NO_TYPE = [
    pytest.param("{}", id="empty-object"),
    pytest.param('{"Type":"ping"}', id="other-case"),
    pytest.param('{"type":null}', id="null-type"),
    pytest.param('{"type":1}', id="number-type"),
    pytest.param('{"type":["ping"]}', id="array-type"),
    pytest.param('{"type":{"ping":1}}', id="object-type"),
]

UNKNOWN_TYPE = [
    pytest.param('{"type":"5ecret"}', id="unknown"),
    pytest.param('{"type":""}', id="empty"),
    pytest.param('{"type":"PING"}', id="other-case"),
    pytest.param('{"type":"ping "}', id="trailing-space"),
    pytest.param('{"type":"teleport","session_id":"s"}', id="a-word"),
    pytest.param('{"type":"ready"}', id="an-answer"),
]


@pytest.mark.parametrize("text", NOT_JSON)
def test_what_is_not_json_is_a_bad_request(text: str) -> None:
    with pytest.raises(BadRequestError, match=r"^The message is not valid JSON\.$"):
        decode(text)


@pytest.mark.parametrize("text", NOT_AN_OBJECT)
def test_what_is_not_an_object_is_a_bad_request(text: str) -> None:
    with pytest.raises(BadRequestError, match=r"^The message is not a JSON object\.$"):
        decode(text)


@pytest.mark.parametrize("text", NO_TYPE)
def test_what_has_no_type_is_a_bad_request(text: str) -> None:
    with pytest.raises(BadRequestError, match=r"^The message has no type\.$"):
        decode(text)


@pytest.mark.parametrize("text", UNKNOWN_TYPE)
def test_an_unknown_type_is_unsupported(text: str) -> None:
    with pytest.raises(UnsupportedError):
        decode(text)


def test_a_binary_message_is_a_bad_request() -> None:
    with pytest.raises(BadRequestError, match="text"):
        decode(b'{"type":"ping"}')


@pytest.mark.parametrize("kind", sorted(COMMAND_TYPES))
@pytest.mark.parametrize("forbidden", sorted(FORBIDDEN_FIELDS))
@pytest.mark.parametrize("value", [None, "5ecret"], ids=["null", "text"])
def test_a_client_may_not_shape_the_upstream_request(
    kind: str, forbidden: str, value: str | None, schema: Draft202012Validator
) -> None:
    fields = {**LEAST[kind], forbidden: value}
    with pytest.raises(BadRequestError, match="not allowed"):
        decode(frame(kind, fields))
    assert not schema.is_valid({"type": kind, **fields})


MISSING = [
    pytest.param(kind, name, id=f"{kind}-without-{name}")
    for kind, fields in LEAST.items()
    for name in fields
]


@pytest.mark.parametrize(("kind", "name"), MISSING)
@pytest.mark.parametrize("null", [False, True], ids=["absent", "null"])
def test_a_missing_field_is_a_bad_request(
    kind: str, name: str, null: bool, schema: Draft202012Validator
) -> None:
    fields = {other: value for other, value in LEAST[kind].items() if other != name}
    if null:
        fields[name] = None
    with pytest.raises(BadRequestError, match=rf"^Not valid: .*\b{name}\b"):
        decode(frame(kind, fields))
    assert not schema.is_valid({"type": kind, **fields})


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("hello", {"token": ""}),
    ("hello", {"token": "5ecret" * 3000}),
    ("hello", {"token": 5}),
    ("hello", {"client": "5ecret" + "c" * 200}),
    ("auth", {"token": ""}),
    ("auth", {"token": ["5ecret"]}),
    ("send", {"id": ""}),
    ("send", {"id": "i" * 65}),
    ("send", {"id": "5ecret/.."}),
    ("send", {"id": "5ecret\n"}),
    ("send", {"id": "5ecret\x00"}),
    ("send", {"id": "５ecret"}),
    ("send", {"id": 7}),
    ("send", {"id": True}),
    ("send", {"id": {"a": "5ecret"}}),
    ("send", {"session_id": "s" * 129}),
    ("send", {"session_id": "../5ecret"}),
    ("send", {"session_id": ["s"]}),
    ("send", {"content": ""}),
    ("send", {"content": 5}),
    ("send", {"content": ["5ecret"]}),
    ("send", {"content": {"text": "5ecret"}}),
    ("send", {"upload_id": "5ecret upload", "content": None}),
    ("send", {"character": "5ecret.x"}),
    ("send", {"character": "c" * 65}),
    ("send", {"if_busy": "5ecret"}),
    ("send", {"if_busy": "REJECT"}),
    ("send", {"if_busy": True}),
    ("regenerate", {"message_id": "5ecret id"}),
    ("regenerate", {"message_id": 1}),
    ("cancel", {"id": "5ecret id"}),
    ("cancel", {"run_id": "5ecret id", "id": None}),
    ("resume", {"run_id": ""}),
    ("resume", {"after": -1}),
    ("resume", {"after": 2**53 + 1}),
    ("resume", {"after": 10**30}),
    ("resume", {"after": 1.5}),
    ("resume", {"after": "1"}),
    ("resume", {"after": True}),
    ("resume", {"after": False}),
    ("history", {"limit": 0}),
    ("history", {"limit": 101}),
    ("history", {"limit": "20"}),
    ("history", {"limit": True}),
    ("history", {"before": ""}),
    ("history", {"before": "5ecret" + "c" * 512}),
    ("history", {"before": 3}),
    ("sessions", {"limit": -1}),
    ("session", {"title": ""}),
    ("session", {"title": "題" * 201}),
    ("session", {"title": 5}),
    ("memories", {"limit": 2.5}),
    ("forget", {"memory_id": "5ecret id"}),
    ("forget", {"session_id": {}, "memory_id": None}),
    ("upload", {"bytes": 0}),
    ("upload", {"bytes": -1}),
    ("upload", {"bytes": True}),
    ("upload", {"bytes": "5"}),
    ("upload", {"bytes": 2**64 - 1}),
    ("upload", {"bytes": 10**30}),
    ("upload", {"sha256": SHA.upper()}),
    ("upload", {"sha256": SHA[1:]}),
    ("upload", {"sha256": SHA + "0"}),
    ("upload", {"sha256": "g" * 64}),
    ("ping", {"t": "5ecret"}),
    ("ping", {"t": True}),
    ("ping", {"t": []}),
]


def _named(case: tuple[str, dict[str, Any]]) -> Any:
    kind, fields = case
    name, value = next(iter(fields.items()))
    return pytest.param(kind, fields, name, id=f"{kind}-{name}-{str(value)[:16]!a}")


@pytest.mark.parametrize(("kind", "fields", "name"), [_named(case) for case in WRONG])
def test_a_wrong_value_is_a_bad_request_that_names_the_field(
    kind: str, fields: dict[str, Any], name: str, schema: Draft202012Validator
) -> None:
    whole = {key: value for key, value in {**LEAST[kind], **fields}.items() if value is not None}
    with pytest.raises(BadRequestError, match=rf"^Not valid: {name}\.$"):
        decode(frame(kind, whole))
    if whole[name] != "5ecret\n":  # Python's `$` matches before a last newline, ECMA 262's does not
        assert not schema.is_valid({"type": kind, **whole})


ONE_OF = [
    pytest.param("send", ("content", "upload_id"), id="send"),
    pytest.param("cancel", ("run_id", "id"), id="cancel"),
    pytest.param("forget", ("memory_id", "session_id"), id="forget"),
]


@pytest.mark.parametrize(("kind", "names"), ONE_OF)
@pytest.mark.parametrize("both", [False, True], ids=["neither", "both"])
def test_exactly_one_of_two_fields_is_needed(
    kind: str, names: tuple[str, str], both: bool, schema: Draft202012Validator
) -> None:
    fields = {name: value for name, value in LEAST[kind].items() if name not in names}
    if both:
        fields.update(dict.fromkeys(names, "x"))
    told = rf"^Not valid: exactly one of {names[0]} and {names[1]} is needed\.$"
    with pytest.raises(BadRequestError, match=told):
        decode(frame(kind, fields))
    assert not schema.is_valid({"type": kind, **fields})


@pytest.mark.parametrize(
    "content", [" ", "\n\t ", "　", "\u2003\u00a0", "\x1c"], ids=lambda content: ascii(content)
)
def test_a_blank_message_is_a_bad_request(content: str) -> None:
    with pytest.raises(BadRequestError, match=r"^Not valid: content is blank\.$"):
        decode(frame("send", {"id": "a", "content": content}))


def test_a_blank_title_is_a_bad_request() -> None:
    with pytest.raises(BadRequestError, match="title"):
        decode(frame("session", {"id": "a", "session_id": "s", "title": "　"}))


def test_several_wrong_fields_are_all_named() -> None:
    with pytest.raises(BadRequestError, match=r"^Not valid: after, run_id\.$"):
        decode('{"type":"resume","run_id":"","after":"5ecret"}')


# What an error says


EVERY_BAD_FRAME = [
    *[case.values[0] for case in (*NOT_JSON, *NOT_AN_OBJECT, *NO_TYPE, *UNKNOWN_TYPE)],
    *[frame(kind, {**LEAST[kind], **fields}) for kind, fields in WRONG],
    *[
        frame(kind, {**LEAST[kind], name: "5ecret"})
        for kind in LEAST
        for name in sorted(FORBIDDEN_FIELDS)
    ],
    '{"type":"send","id":"a","5ecret":"5ecret"}',
    '{"type":"send","id":"5ecret/","content":"5ecret"}',
]


@pytest.mark.parametrize("text", EVERY_BAD_FRAME, ids=lambda text: ascii(text[:48]))
def test_an_error_never_repeats_what_the_client_sent(text: str) -> None:
    with pytest.raises(WireError) as caught:
        decode(text)
    told = error_answer(caught.value, id=client_id(text)).encode()
    assert b"5ecret" not in told
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param('{"id":"a-1","type":"nope"}', "a-1", id="unknown-type"),
        pytest.param('{"id":"a-1"}', "a-1", id="no-type"),
        pytest.param('{"id":"' + "i" * 64 + '"}', "i" * 64, id="longest"),
        pytest.param('{"id":"' + "i" * 65 + '"}', None, id="too-long"),
        pytest.param('{"id":"<b>"}', None, id="markup"),
        pytest.param('{"id":"a\\n"}', None, id="newline-at-the-end"),
        pytest.param('{"id":""}', None, id="empty"),
        pytest.param('{"id":1}', None, id="number"),
        pytest.param('{"id":null}', None, id="null"),
        pytest.param("{}", None, id="missing"),
        pytest.param('["id"]', None, id="array"),
        pytest.param('{"id":"a"', None, id="not-json"),
        pytest.param('{"id":"\ud83d"}', None, id="lone-surrogate"),
        pytest.param(b'{"id":"a"}', "a", id="binary"),
        pytest.param(b"\xff", None, id="not-utf-8"),
    ],
)
def test_the_id_of_a_bad_frame_is_found_if_it_is_one(text: str | bytes, found: str | None) -> None:
    assert client_id(text) == found


def test_no_repr_shows_a_token_or_a_message() -> None:
    shown = [
        repr(decode(frame("hello", {"token": "5ecret"}))),
        repr(decode(frame("auth", {"id": "a", "token": "5ecret"}))),
        repr(decode(frame("send", {"id": "a", "content": "5ecret"}))),
    ]
    assert not any("5ecret" in text for text in shown)


def test_commands_cannot_be_changed() -> None:
    for kind in get_args(AnyCommand):
        assert kind.model_config["frozen"]
        assert kind.model_config["strict"]

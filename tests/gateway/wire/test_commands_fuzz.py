"""Whatever arrives, it is a command or a `WireError`; and the published schema judges alike."""

from typing import Any, get_args

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from gateway.wire.commands import AnyCommand, Command, client_id, decode
from gateway.wire.errors import BadRequestError, PayloadTooLargeError, UnsupportedError
from gateway.wire.json_schema import protocol_schema

FIELDS = sorted({name for command in get_args(AnyCommand) for name in command.model_fields})
SCHEMA = Draft202012Validator({**protocol_schema(), "$ref": "#/$defs/AnyCommand"})

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"])),
)
json_values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4)
    ),
    max_leaves=12,
)
types = st.sampled_from(
    [command.model_fields["type"].annotation for command in get_args(AnyCommand)]
)
types_named = types.map(lambda annotation: get_args(annotation)[0])


def judge(text: str | bytes) -> Command | str:
    """Decode; let only the documented errors pass."""
    client_id(text)
    try:
        return decode(text)
    except (BadRequestError, UnsupportedError, PayloadTooLargeError) as error:
        return error.public_message


@given(st.text(st.characters()))
def test_any_text_is_judged(text: str) -> None:
    judge(text)


@given(st.binary())
def test_any_binary_message_is_refused(data: bytes) -> None:
    assert isinstance(judge(data), str)


@given(json_values)
def test_any_json_is_judged(value: Any) -> None:
    judge(orjson.dumps(value).decode())


@given(types_named, st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=8))
def test_any_fields_are_judged(kind: str, fields: dict[str, Any]) -> None:
    judge(orjson.dumps({**fields, "type": kind}).decode())


@given(types_named, st.data())
def test_any_cut_or_changed_frame_is_judged(kind: str, data: st.DataObject) -> None:
    whole = f'{{"type":"{kind}",' r'"id":"a","content":"\u3042\ud83c\udf38","after":1}'
    at = data.draw(st.integers(0, len(whole)))
    judge(whole[:at] + data.draw(st.text(st.characters(), max_size=3)) + whole[at + 1 :])


# Values near the edges of some field; none is blank, null or a whole float: there the two differ by
# intention (a schema tells clients to leave optional fields out).
plausible = st.sampled_from(
    [
        *("a", "a b", "a" * 64, "a" * 65, "a" * 129, "a" * 513, "題" * 200, "0" * 64, "reject"),
        *(0, 1, 100, 101, -1, 2**53, 2**53 + 1, 1.5, True, False),
        *([], {}, ["a"], {"id": "a"}),
    ]
)


@settings(max_examples=300)
@given(types_named, st.data())
def test_the_schema_and_the_server_agree(kind: str, data: st.DataObject) -> None:
    own = next(
        command
        for command in get_args(AnyCommand)
        if get_args(command.model_fields["type"].annotation) == (kind,)
    )
    names = [*own.model_fields, "later", "model"]
    chosen = data.draw(st.lists(st.sampled_from(names), unique=True).map(sorted))
    fields = {name: data.draw(plausible) for name in chosen}
    fields["type"] = kind
    accepted = isinstance(judge(orjson.dumps(fields).decode()), Command)
    assert SCHEMA.is_valid(fields) == accepted

"""The generated files: as the types are, whole, and each reference leads somewhere."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from gateway.wire import answers, commands, events, generate
from gateway.wire.asyncapi import ANSWERS, SCHEMA_FILE, asyncapi
from gateway.wire.generate import REPOSITORY, drifted, generated_files
from gateway.wire.json_schema import DIALECT, described, members, protocol_schema
from gateway.wire.markdown import with_tables
from gateway.wire.typescript import declarations, type_of

SCHEMA = protocol_schema()
DEFINITIONS = SCHEMA["$defs"]

MODELS = sorted(
    {
        model
        for module in (commands, answers, events)
        for model in vars(module).values()
        if isinstance(model, type) and issubclass(model, BaseModel)
        if not model.__name__.startswith("_")
    }
    - {BaseModel, commands.Command, answers.Answer, events.Event},
    key=lambda model: model.__name__,
)


# Drift


def test_the_files_in_the_tree_are_as_the_types_are() -> None:
    stale = [str(path.relative_to(REPOSITORY)) for path in drifted(generated_files(REPOSITORY))]
    assert not stale, "run: make generate"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(generate, "REPOSITORY", tmp_path)
    protocol = (REPOSITORY / "PROTOCOL.md").read_text("utf-8")
    (tmp_path / "PROTOCOL.md").write_text(protocol, "utf-8", newline="\n")
    return tmp_path


def test_check_tells_what_is_missing_and_writes_nothing(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate.main(["--check"]) == 1
    told = capsys.readouterr().err.splitlines()
    assert told == [
        "stale: gateway/wire/generated/makoto.v1.schema.json",
        "stale: gateway/wire/generated/makoto.v1.asyncapi.json",
        "stale: gateway/web/wire.d.ts",
    ]
    assert [path.name for path in checkout.iterdir()] == ["PROTOCOL.md"]


def test_what_was_written_is_not_stale(checkout: Path) -> None:
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0


@pytest.mark.parametrize("position", range(4))
def test_one_changed_character_is_found(checkout: Path, position: int) -> None:
    generate.main([])
    path = list(generated_files(checkout))[position]
    text = path.read_text("utf-8")
    marker = "| field | type | |\n" if path.name == "PROTOCOL.md" else "\n"
    path.write_text(text.replace(marker, marker[:-1] + " \n", 1), "utf-8", newline="\n")
    assert drifted(generated_files(checkout)) == [path]
    generate.main([])
    assert path.read_text("utf-8") == text


def test_another_process_writes_the_same() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gateway.wire.generate", "--check"],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


# JSON Schema


def references(node: Any) -> Iterator[str]:
    match node:
        case {"$ref": str(target)}:
            yield target
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for child in children:
        yield from references(child)


def keywords(node: Any) -> Iterator[str]:
    """Yield every key that is no field's name."""
    match node:
        case {"properties": dict(fields), **rest}:
            yield from keywords(rest)
            for field in fields.values():
                yield from keywords(field)
        case dict():
            yield from node
            for child in node.values():
                yield from keywords(child)
        case list():
            for child in node:
                yield from keywords(child)


def test_the_schema_is_of_its_dialect() -> None:
    assert SCHEMA["$schema"] == DIALECT
    Draft202012Validator.check_schema(SCHEMA)


def test_the_schema_has_a_definition_of_every_model() -> None:
    own = {"AnyCommand", "AnyAnswer", "AnyEvent", "ErrorCode", "CloseCode", "DoneReason"}
    assert set(DEFINITIONS) == own | {model.__name__ for model in MODELS}


def test_every_reference_leads_to_a_definition_and_each_is_used() -> None:
    targets = {target.removeprefix("#/$defs/") for target in references(SCHEMA)}
    assert targets == set(DEFINITIONS) - {"AnyCommand", "AnyAnswer", "CloseCode"}


def test_the_schema_uses_no_keyword_of_other_dialects_and_forbids_no_later_field() -> None:
    assert not {"discriminator", "nullable", "definitions"} & set(keywords(SCHEMA))
    assert b'"null"' not in orjson.dumps(SCHEMA)
    assert b'"additionalProperties":false' not in orjson.dumps(SCHEMA)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_field_of_every_model_is_described(model: type[BaseModel]) -> None:
    prose, texts = described(model.__doc__ or "")
    assert prose
    assert set(texts) == set(model.model_fields) - {"type"}
    fields = DEFINITIONS[model.__name__]["properties"]
    assert all(fields[name]["description"] for name in texts)
    assert "type" not in fields or next(iter(fields)) == "type"


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        pytest.param("One.", ("One.", {}), id="one-line"),
        pytest.param("One\n    two.\n\n    Three.", ("One two.\n\nThree.", {}), id="paragraphs"),
        pytest.param(
            "One.\n\n    Attributes:\n        a: first\n            line.\n        b, c_d: `x`: y.\n    ",
            ("One.", {"a": "First line.", "b": "`x`: y.", "c_d": "`x`: y."}),
            id="attributes",
        ),
    ],
)
def test_a_docstring_is_cut_into_prose_and_attributes(
    docstring: str, expected: tuple[str, dict[str, str]]
) -> None:
    assert described(docstring) == expected


# TypeScript


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ({"$ref": "#/$defs/Run"}, "Run"),
        ({"const": "a", "type": "string"}, '"a"'),
        ({"const": 1009}, "1009"),
        ({"enum": ["a", "b"], "type": "string"}, '"a" | "b"'),
        ({"anyOf": [{"type": "number"}, {"type": "integer"}]}, "number"),
        ({"anyOf": [{"type": "string"}, {"type": "boolean"}]}, "string | boolean"),
        ({"type": "array", "items": {"type": "integer"}}, "number[]"),
        ({"type": "array", "items": {"enum": ["a", "b"]}}, '("a" | "b")[]'),
        ({"type": "object", "additionalProperties": {"type": "string"}}, "Record<string, string>"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_schema_becomes_a_type(node: dict[str, Any], expected: str) -> None:
    assert type_of(node) == expected


def test_a_schema_without_a_type_is_an_error() -> None:
    with pytest.raises(ValueError, match="no TypeScript"):
        type_of({"type": "null"})


def test_declarations_are_commented_and_mark_what_is_optional() -> None:
    node = {
        "description": "A thing.\n\nSecond paragraph.",
        "properties": {
            "type": {"const": "thing"},
            "n": {"type": "integer", "description": "How many.", "default": 3},
        },
        "required": ["type"],
    }
    made = declarations({"$defs": {"Thing": node}})
    assert made.endswith(
        "/**\n * A thing.\n *\n * Second paragraph.\n */\n"
        'export interface Thing {\n  type: "thing";\n'
        "  /** How many. Default: 3. */\n  n?: number;\n}\n"
    )


def test_every_definition_is_exported_in_lines_that_fit() -> None:
    made = declarations(SCHEMA)
    for name in DEFINITIONS:
        assert f"export interface {name} {{" in made or f"export type {name} =" in made
    assert max(map(len, made.splitlines())) <= 110


# AsyncAPI


def test_every_command_says_what_answers_it() -> None:
    assert list(ANSWERS) == members(DEFINITIONS["AnyCommand"])
    named = {answer for its in ANSWERS.values() for answer in its}
    assert named <= set(members(DEFINITIONS["AnyAnswer"]))


def test_every_reference_of_the_document_leads_somewhere() -> None:
    document = asyncapi(SCHEMA)
    for target in set(references(document)):
        file, _, path = target.partition("#/")
        assert file in {"", SCHEMA_FILE}
        node = SCHEMA if file else document
        for part in path.split("/"):
            node = node[part]


def test_every_message_can_be_sent_or_received() -> None:
    document = asyncapi(SCHEMA)
    messages = document["channels"]["socket"]["messages"]
    assert set(messages) == set(document["components"]["messages"])
    operations = document["operations"].values()
    named = {message["$ref"] for operation in operations for message in operation["messages"]}
    assert named == {f"#/channels/socket/messages/{name}" for name in messages}


def test_the_document_lists_every_close_and_error_code() -> None:
    text = asyncapi(SCHEMA)["channels"]["socket"]["description"]
    for enumeration in ("CloseCode", "ErrorCode"):
        for code in DEFINITIONS[enumeration]["oneOf"]:
            assert f"- `{code['const']}`: " in text


# Markdown


def test_tables_are_made_between_the_marks_and_nowhere_else() -> None:
    text = "# A\n<!-- fields: Ping -->\nold\n<!-- end -->\n\nB <!-- fields: -->\n"
    assert with_tables(text, SCHEMA) == (
        "# A\n<!-- fields: Ping -->\n"
        "| field | type | |\n|---|---|---|\n"
        "| `t?` | `number` | Any number; comes back in the answer. |\n"
        "<!-- end -->\n\nB <!-- fields: -->\n"
    )


def test_a_bar_in_a_type_does_not_end_the_cell() -> None:
    made = with_tables("<!-- fields: LiveRun -->\n<!-- end -->", SCHEMA)
    assert r'| `state` | `"queued" \| "running"` |' in made

"""The protocol as one JSON Schema document, made from the models and their docstrings.

It says what goes over the wire: an optional field is absent, never null; what the server always sends
is required; unknown fields are allowed, for later versions of the protocol may add some.

Source: JSON Schema, draft 2020-12. An enumeration with a text for each value is a `oneOf` of `const`s
("Understanding JSON Schema", annotated enumerations).
"""

import inspect
import re
from typing import Any, Literal, get_args

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from gateway.wire import errors
from gateway.wire.answers import AnyAnswer
from gateway.wire.commands import COMMAND_ADAPTER, FORBIDDEN_FIELDS
from gateway.wire.events import AnyEvent, DoneReason

DIALECT = "https://json-schema.org/draft/2020-12/schema"

# "    name: text", or "    name, other: text", with deeper lines going on with the text.
_ATTRIBUTE = re.compile(r"^ {4}(\w+(?:, \w+)*): (.+(?:\n {8}.+)*)", re.MULTILINE)


class _AsSent(GenerateJsonSchema):
    """Describes frames instead of Python objects; see the module."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        made = super().default_schema(schema)
        if self.mode == "serialization" or made.get("default") is None:
            made.pop("default", None)
        return made

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> JsonSchemaValue:
        made = super().tagged_union_schema(schema)
        del made["discriminator"]  # each member's constant `type` says the same
        return made

    def field_is_required(self, field: Any, total: bool) -> bool:
        if self.mode == "validation":
            return super().field_is_required(field, total)
        inner = field["schema"]
        return not (inner["type"] == "default" and inner["schema"]["type"] == "nullable")


def protocol_schema() -> JsonSchemaValue:
    """Return the document; entry points are `#/$defs/AnyCommand`, `AnyAnswer` and `AnyEvent`."""
    unions: list[tuple[str, Literal["validation", "serialization"], TypeAdapter[Any]]] = [
        ("AnyCommand", "validation", COMMAND_ADAPTER),
        ("AnyAnswer", "serialization", TypeAdapter(AnyAnswer)),
        ("AnyEvent", "serialization", TypeAdapter(AnyEvent)),
    ]
    made, generated = TypeAdapter.json_schemas(unions, schema_generator=_AsSent)
    entries = {name: made[name, mode] for name, mode, _ in unions}
    models: dict[str, JsonSchemaValue] = generated["$defs"]
    for model in models.values():
        _finish_model(model, entries["AnyEvent"])
    for name in members(entries["AnyCommand"]):
        models[name]["propertyNames"] = {"not": {"enum": sorted(FORBIDDEN_FIELDS)}}
    in_protocol_order = [name for entry in entries.values() for name in members(entry)]
    return {
        "$schema": DIALECT,
        "title": "makoto.v1",
        "description": "Every command, answer and event of the protocol. PROTOCOL.md explains them.",
        "$defs": {
            "AnyCommand": {"description": "What a client sends.", **entries["AnyCommand"]},
            "AnyAnswer": {"description": "What the server sends.", **entries["AnyAnswer"]},
            "AnyEvent": {"description": "What a run's log holds.", **entries["AnyEvent"]},
            "ErrorCode": _error_codes(),
            "CloseCode": _close_codes(),
            "DoneReason": {"description": "How a run ended.", **_enumeration(DoneReason)},
            **{name: models.pop(name) for name in in_protocol_order},
            **models,
        },
    }


def members(union: JsonSchemaValue) -> list[str]:
    """Return the names of the definitions that a union refers to, in order."""
    return [member["$ref"].rpartition("/")[2] for member in union["oneOf"]]


def described(docstring: str) -> tuple[str, dict[str, str]]:
    """Cut a Google docstring into its prose and the texts of its `Attributes`."""
    prose, _, attributes = inspect.cleandoc(docstring).partition("\n\nAttributes:\n")
    texts = {
        name: " ".join((text[0].upper() + text[1:]).split())
        for names, text in _ATTRIBUTE.findall(attributes)
        for name in names.split(", ")
    }
    return "\n\n".join(" ".join(part.split()) for part in prose.split("\n\n")), texts


def _finish_model(model: JsonSchemaValue, any_event: JsonSchemaValue) -> None:
    named = {
        "AnyEvent": any_event,
        "ErrorCode": _enumeration(errors.ErrorCode),
        "DoneReason": _enumeration(DoneReason),
    }
    model.pop("additionalProperties", None)
    model["description"], texts = described(model["description"])
    fields = model["properties"]
    for name in sorted(fields, key=lambda name: name != "type"):
        field = _by_name(fields.pop(name), named)
        fields[name] = {"description": texts[name], **field} if name in texts else field


def _by_name(field: JsonSchemaValue, named: dict[str, JsonSchemaValue]) -> JsonSchemaValue:
    for name, schema in named.items():
        if field == schema:
            return {"$ref": f"#/$defs/{name}"}
    if "items" in field:
        return {**field, "items": _by_name(field["items"], named)}
    return field


def _enumeration(values: Any) -> JsonSchemaValue:
    return {"enum": list(get_args(values)), "type": "string"}


def _error_codes() -> JsonSchemaValue:
    texts = {kind.code: described(kind.__doc__ or "")[0] for kind in error_classes()}
    return {
        "description": "What went wrong, for programs.",
        "oneOf": [
            {"const": code, "description": texts[code]} for code in get_args(errors.ErrorCode)
        ],
    }


def error_classes() -> list[type[errors.WireError]]:
    """Return the class of each error code."""
    return [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and errors.WireError in kind.__bases__
    ]


def _close_codes() -> JsonSchemaValue:
    prose, texts = described(errors.CloseCode.__doc__ or "")
    return {
        "description": prose,
        "oneOf": [
            {"const": int(code), "title": code.name, "description": texts[code.name]}
            for code in errors.CloseCode
        ],
    }

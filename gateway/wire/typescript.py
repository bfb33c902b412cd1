"""TypeScript declarations, made from the protocol's JSON Schema."""

import textwrap
from collections.abc import Iterator

import orjson
from pydantic.json_schema import JsonSchemaValue

WIDTH = 100

HEADER = """\
// The wire protocol `makoto.v1`. Made from gateway/wire by `make generate`; do not edit.
//
// Times are Unix time in milliseconds, sizes are UTF-8 bytes. Later servers may add types, fields and
// values: ignore what you do not know.
"""


def declarations(schema: JsonSchemaValue) -> str:
    """Return the text of a `.d.ts` module with one export per definition of the schema."""
    return "\n".join([HEADER, *(_export(*item) for item in schema["$defs"].items())])


def type_of(node: JsonSchemaValue) -> str:
    """Return the type expression for a schema."""
    match node:
        case {"$ref": str(target)}:
            return target.rpartition("/")[2]
        case {"const": value}:
            return orjson.dumps(value).decode()
        case {"enum": values}:
            return " | ".join(orjson.dumps(value).decode() for value in values)
        case {"anyOf": members} | {"oneOf": members}:
            return " | ".join(dict.fromkeys(map(type_of, members)))
        case {"type": "array", "items": items}:
            element = type_of(items)
            return f"({element})[]" if " | " in element else f"{element}[]"
        case {"type": "object", "additionalProperties": values}:
            return f"Record<string, {type_of(values)}>"
        case {"type": "integer" | "number"}:
            return "number"
        case {"type": "string" | "boolean" as name}:
            return str(name)
    raise ValueError(f"no TypeScript for {node}")


def _export(name: str, node: JsonSchemaValue) -> str:
    if "properties" not in node:
        members = "".join(_member(member) for member in _members(node))
        return f"{_comment(node, '')}export type {name} ={members};\n"
    fields = "".join(
        f"{_comment(field, '  ')}  {field_name}{optional}: {type_of(field)};\n"
        for field_name, field in node["properties"].items()
        for optional in ["" if field_name in node["required"] else "?"]
    )
    return f"{_comment(node, '')}export interface {name} {{\n{fields}}}\n"


def _members(node: JsonSchemaValue) -> list[JsonSchemaValue]:
    return node.get("oneOf") or [{"const": value} for value in node["enum"]]


def _member(node: JsonSchemaValue) -> str:
    return f"\n{_comment(node, '  ')}  | {type_of(node)}"


def _comment(node: JsonSchemaValue, indent: str) -> str:
    text = node.get("description", "")
    if "default" in node:
        text = f"{text} Default: {orjson.dumps(node['default']).decode()}."
    if not text:
        return ""
    lines = list(_wrapped(text, WIDTH - len(indent) - 3))
    if len(lines) == 1 and len(indent) + len(lines[0]) + 7 <= WIDTH:
        return f"{indent}/** {lines[0]} */\n"
    body = "".join(f"{indent} * {line}".rstrip() + "\n" for line in lines)
    return f"{indent}/**\n{body}{indent} */\n"


def _wrapped(text: str, width: int) -> Iterator[str]:
    for number, paragraph in enumerate(text.split("\n\n")):
        if number:
            yield ""
        yield from textwrap.wrap(paragraph, width, break_long_words=False, break_on_hyphens=False)

"""The tables of fields in PROTOCOL.md, made from the protocol's JSON Schema.

A table stands between `<!-- fields: Name -->`, the name of a definition, and `<!-- end -->`.
"""

import re

import orjson
from pydantic.json_schema import JsonSchemaValue

from gateway.wire.typescript import type_of

_TABLE = re.compile(r"(<!-- fields: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_tables(text: str, schema: JsonSchemaValue) -> str:
    """Return the document with every table made anew.

    Args:
        text: Markdown with the marks described in the module.
        schema: from `gateway.wire.json_schema.protocol_schema`.
    """
    return _TABLE.sub(lambda mark: mark[1] + _table(schema["$defs"][mark[2]]) + mark[3], text)


def _table(model: JsonSchemaValue) -> str:
    rows = [
        _row(name, field, optional=name not in model["required"])
        for name, field in model["properties"].items()
        if name != "type"
    ]
    if not rows:
        return "No further field.\n"
    return "".join(["| field | type | |\n", "|---|---|---|\n", *rows])


def _row(name: str, field: JsonSchemaValue, *, optional: bool) -> str:
    kind = type_of(field).replace("|", "\\|")
    text = field["description"]
    if "default" in field:
        text = f"{text} Default: `{orjson.dumps(field['default']).decode()}`."
    return f"| `{name}{'?' if optional else ''}` | `{kind}` | {text} |\n"

"""Writes the table of settings in README.md: `python -m gateway.settings_table`, in a checkout.

It stands between `<!-- settings -->` and `<!-- /settings -->`.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import orjson
from pydantic.fields import FieldInfo

from gateway.settings import Settings, variable

README: Final = Path(__file__).parents[1] / "README.md"
LONGEST_DEFAULT: Final = 72

_TABLE: Final = re.compile(r"(<!-- settings -->\n).*?(<!-- /settings -->)", re.DOTALL)
_UNITS: Final = {"_s": "seconds", "_bytes": "bytes"}


def with_table(text: str) -> str:
    """Return a document with the table between the marks made anew."""
    return _TABLE.sub(lambda mark: mark[1] + settings_table() + mark[2], text)


def settings_table() -> str:
    """Return every setting as a row of a Markdown table: variable, default, unit, meaning."""
    rows = [_row(name, field) for name, field in Settings.model_fields.items()]
    return "".join(["| variable | default | unit | |\n", "|---|---|---|---|\n", *rows])


def _row(name: str, field: FieldInfo) -> str:
    unit = next((unit for suffix, unit in _UNITS.items() if name.endswith(suffix)), "")
    cells = (f"`{variable(name)}`", _shown(field.default), unit, field.description or "")
    return f"| {' | '.join(cells)} |\n"


def _shown(default: object) -> str:
    match default:
        case None | ():
            return ""
        case tuple():
            text = ",".join(default)
        case bool() | Mapping():
            text = orjson.dumps(default).decode()
        case float():
            text = f"{default:g}"
        case _:
            text = str(default)
    return f"`{text if len(text) <= LONGEST_DEFAULT else text[:LONGEST_DEFAULT] + '…'}`"


if __name__ == "__main__":
    README.write_text(with_table(README.read_text("utf-8")), "utf-8", newline="\n")

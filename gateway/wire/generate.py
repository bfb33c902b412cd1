"""Writes everything that is made from the wire's types: `python -m gateway.wire.generate`.

Run it in a checkout of the repository. With `--check` nothing is written, and the exit code is 1 if a
file is not what it would be.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from gateway.wire.asyncapi import SCHEMA_FILE, asyncapi
from gateway.wire.json_schema import protocol_schema
from gateway.wire.markdown import with_tables
from gateway.wire.typescript import declarations

REPOSITORY: Final = Path(__file__).parents[2]


def generated_files(repository: Path) -> Mapping[Path, str]:
    """Return the text of each generated file; the same types always give the same text.

    Args:
        repository: the checkout; its PROTOCOL.md is read for what stands between the tables.
    """
    schema = protocol_schema()
    wire, protocol = repository / "gateway/wire/generated", repository / "PROTOCOL.md"
    return {
        wire / SCHEMA_FILE: _json(schema),
        wire / "makoto.v1.asyncapi.json": _json(asyncapi(schema)),
        repository / "gateway/web/wire.d.ts": declarations(schema),
        protocol: with_tables(protocol.read_text("utf-8"), schema),
    }


def drifted(files: Mapping[Path, str]) -> list[Path]:
    """Return the files that are missing or different on disk."""
    return [
        path for path, text in files.items() if not path.exists() or path.read_text("utf-8") != text
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the files; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m gateway.wire.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if a file drifted")
    check = parser.parse_args(arguments).check
    files = generated_files(REPOSITORY)
    stale = drifted(files)
    for path in stale:
        sys.stderr.write(f"{'stale' if check else 'wrote'}: {path.relative_to(REPOSITORY)}\n")
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files[path], "utf-8", newline="\n")
    return int(check and bool(stale))


def _json(document: dict[str, Any]) -> str:
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()


if __name__ == "__main__":
    sys.exit(main())

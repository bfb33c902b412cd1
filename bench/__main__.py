"""Measure the parser and the gateway, beside others where there are any, and print the tables.

`python -m bench` runs all parts, `python -m bench parser`, `gateway`, `log`, `stalled`, `posts` or
`coldstart` one of them.
"""

import argparse

from bench import report

PARTS = ("parser", "gateway", "log", "stalled", "posts", "coldstart")


def run() -> None:
    """Read the command line and run what it asks for."""
    line = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    line.add_argument("part", nargs="?", choices=PARTS, help="only this part")
    line.add_argument("--quick", action="store_true", help="shorter, rougher")
    line.add_argument(
        "--no-deflate",
        action="store_true",
        help="clients do not offer permessage-deflate (browsers do)",
    )
    asked = line.parse_args()
    print(report.machine())
    for part in [asked.part] if asked.part else PARTS:
        print()
        _run(part, quick=asked.quick, deflate=not asked.no_deflate)


def _run(part: str, *, quick: bool, deflate: bool) -> None:
    # Imported late: each part loads only what it measures.
    match part:
        case "parser":
            from bench import parser

            parser.run(quick=quick)
        case "gateway":
            from bench import gateway

            gateway.run(quick=quick, deflate=deflate)
        case "log":
            from bench import log

            log.run(quick=quick, deflate=deflate)
        case "stalled":
            from bench import stalled

            stalled.run(quick=quick)
        case "posts":
            from bench import posts

            posts.run(quick=quick)
        case "coldstart":
            from bench import coldstart

            coldstart.run(quick=quick)


if __name__ == "__main__":
    run()

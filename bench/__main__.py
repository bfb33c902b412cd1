"""Measure the parser and the gateway beside others and print the tables.

`python -m bench` runs both parts, `python -m bench parser` or `gateway` one of them.
"""

import argparse

from bench import report


def run() -> None:
    """Read the command line and run what it asks for."""
    line = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    line.add_argument("part", nargs="?", choices=("parser", "gateway"), help="only this part")
    line.add_argument("--quick", action="store_true", help="shorter, rougher")
    line.add_argument(
        "--no-deflate",
        action="store_true",
        help="clients do not offer permessage-deflate (browsers do)",
    )
    asked = line.parse_args()
    print(report.machine())
    # Imported late: each part loads only what it measures.
    if asked.part != "gateway":
        from bench import parser

        print()
        parser.run(quick=asked.quick)
    if asked.part != "parser":
        from bench import gateway

        print()
        gateway.run(quick=asked.quick, deflate=not asked.no_deflate)


if __name__ == "__main__":
    run()

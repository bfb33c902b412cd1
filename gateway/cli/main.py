"""`makoto`: what every subcommand takes, and how each ends.

Exit codes: 0 done, 1 it failed (one line says why), 2 wrong usage, 130 interrupted by Ctrl-C.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from gateway.cli import chat, emulate, layer, page, replay, serve, token
from gateway.cli.failure import INTERRUPTED, CommandFailedError, WrongUsageError
from gateway.identity.errors import LocalKeyError
from gateway.settings import SettingsError
from storage.errors import UnusableDataError

COMMANDS = (serve, chat, token, replay, page, emulate, layer)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="makoto",
        description="Async WebSocket streaming chat gateway.",
        epilog="Settings come from the environment; README.md lists them.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in COMMANDS:
        module.add_to(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command line and return its exit code."""
    asked = make_parser().parse_args(arguments)
    try:
        code: int = asked.carry_out(asked)
        sys.stdout.flush()
    except (SettingsError, UnusableDataError, LocalKeyError, CommandFailedError) as exc:
        print(f"makoto: {exc}", file=sys.stderr)
        return 2 if isinstance(exc, WrongUsageError) else 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except (
        BrokenPipeError
    ):  # nobody reads on; what is left must not fail again at exit (docs of `signal`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def run() -> None:
    """Console entry point."""
    sys.exit(main())

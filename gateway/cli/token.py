"""`makoto token`: a token of the embedded issuer, for one's own clients."""

import argparse
import asyncio
import time
from pathlib import Path

from gateway.bootstrap.local import local_issuer
from gateway.cli.failure import CommandFailedError, WrongUsageError
from gateway.identity.local_issuer import MAX_TTL_S
from gateway.settings import Settings, read_settings

MAX_MINUTES = MAX_TTL_S // 60


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "token",
        help="print a token of the embedded issuer",
        description="Print a signed token for a user, made with the key in the data folder.",
    )
    parser.add_argument("--user", default="demo", help="the user it names (demo)")
    parser.add_argument("--minutes", type=int, default=60, help="how long it is good (60)")
    parser.add_argument("--data-dir", help="folder of all data (MAKOTO_DATA_DIR, var)")
    parser.set_defaults(carry_out=_print_token)


def _print_token(asked: argparse.Namespace) -> int:
    settings = read_settings({"data_dir": asked.data_dir})
    print(mint(settings, user=asked.user, minutes=asked.minutes))
    return 0


def mint(settings: Settings, *, user: str, minutes: int) -> str:
    """Return a token of the embedded issuer.

    Raises:
        CommandFailedError: another issuer is configured.
        WrongUsageError: the user or the time is not valid.
        LocalKeyError: the key cannot be used.
    """
    if not 1 <= minutes <= MAX_MINUTES:
        raise WrongUsageError(f"a token lives 1 to {MAX_MINUTES} minutes, not {minutes}")
    if trusted := settings.trusted_issuers():
        names = ", ".join(issuer.rules.issuer for issuer in trusted)
        raise CommandFailedError(f"tokens come from {names}, not from this server")
    make_folder(settings.data_dir)
    issuer = asyncio.run(local_issuer(settings))
    try:
        return issuer.mint(user, ttl_s=minutes * 60, now=time.time())
    except ValueError as exc:
        raise WrongUsageError(str(exc)) from None


def make_folder(path: Path) -> None:
    """Make a data folder where there is none.

    Raises:
        CommandFailedError: it cannot be made.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise CommandFailedError(f"{path}: {exc.strerror}") from None

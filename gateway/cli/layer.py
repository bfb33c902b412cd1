"""`makoto layer`: build, try, publish, list, roll back and prune the Lambda layer."""

import argparse
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cli.failure import CommandFailedError

if TYPE_CHECKING:
    from layers.archive import Archive
    from layers.samconfig import Target
    from layers.stack import Stack
    from layers.versions import Version

ENVIRONMENT = "dev"

Verb = Callable[[argparse.Namespace], None]


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "layer",
        help="build, publish, roll back and prune the Lambda layer",
        description="Everything about the Lambda layer that carries the gateway on AWS. What is deployed "
        "where is read in infra/samconfig.toml, credentials and region as the AWS tools read them. "
        "docs/aws.md says more.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", help="what to do")
    _add(verbs, "build", _build, "build it as a zip", "Build the layer as a zip in build/layers.")
    _add(
        verbs,
        "verify",
        _verify,
        "import all that the built zip offers",
        "Look at every library in the built zip and, where this machine has the runtime and the "
        "processor, import every handler and package in a Python that sees nothing else.",
    )
    publish = _add(
        verbs,
        "publish",
        _publish,
        "build, verify and publish it, unless it is published",
        "Build and verify the layer and publish it, unless a version with the same content is there. "
        "No function uses it before it is deployed: make deploy.",
    )
    publish.add_argument(
        "--overrides",
        action="store_true",
        help="print only what `sam deploy --parameter-overrides` takes, quoted for a shell",
    )
    _add(
        verbs,
        "list",
        _list,
        "list what is published",
        "List the published versions, newest first, and which ones the stack uses and used before.",
    )
    rollback = _add(
        verbs,
        "rollback",
        _rollback,
        "put the functions back on the version before",
        "Put all functions of the stack back on the version that they used before, or on another one, "
        "and wait for the end. Either all change or none. A second time goes forward again.",
    )
    rollback.add_argument(
        "--to", type=_natural, metavar="VERSION", help="number of another version, see `list`"
    )
    rollback.add_argument(
        "--force",
        action="store_true",
        help="take a version, too, that was published for other handlers or variables",
    )
    prune = _add(
        verbs,
        "prune",
        _prune,
        "delete old versions",
        "Delete all but the newest versions, and but those that the stack uses and used before.",
    )
    prune.add_argument(
        "--keep", type=_natural, metavar="N", required=True, help="how many of the newest stay"
    )
    prune.add_argument(
        "--dry-run", action="store_true", help="only say which versions would be deleted"
    )


def _add(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    verb: Verb,
    text: str,
    description: str,
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=text, description=description)
    parser.add_argument(
        "--env", default=ENVIRONMENT, help=f"environment of infra/samconfig.toml ({ENVIRONMENT})"
    )
    parser.set_defaults(carry_out=lambda asked: _carry_out(verb, asked))
    return parser


def _natural(text: str) -> int:
    if not text.isascii() or not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number")
    return int(text)


def _carry_out(verb: Verb, asked: argparse.Namespace) -> int:
    from layers.errors import LayerError

    try:
        verb(asked)
    except LayerError as exc:
        raise CommandFailedError(str(exc)) from None
    return 0


def _build(asked: argparse.Namespace) -> None:
    from layers.samconfig import read_target

    _build_for(read_target(asked.env))


def _build_for(target: "Target") -> "Archive":
    from layers.archive import UNZIPPED_MAX, megabytes
    from layers.publishing import build

    built = build(runtime=target.runtime, architecture=target.architecture)
    made = built.archive
    print(
        f"{made.path.name}: {megabytes(made.zipped)} zipped, {megabytes(made.unzipped)} unzipped "
        f"(of {megabytes(UNZIPPED_MAX)}), sha256 {made.sha256}"
    )
    if not built.compiled:
        print(
            f"makoto: no working {target.runtime} on PATH, so cold starts compile the code",
            file=sys.stderr,
        )
    return made


def _verify(asked: argparse.Namespace) -> None:
    from layers.publishing import archive_path
    from layers.samconfig import read_target

    target = read_target(asked.env)
    _verify_for(target, archive_path(runtime=target.runtime, architecture=target.architecture))


def _verify_for(target: "Target", archive: Path) -> None:
    from layers.canary import verify

    print(verify(archive, runtime=target.runtime, architecture=target.architecture))


def _publish(asked: argparse.Namespace) -> None:
    from layers import aws, publishing, stack, versions
    from layers.samconfig import read_target

    target = read_target(asked.env)
    with (
        aws.clients(target) as (functions, cloudformation),
        redirect_stdout(sys.stderr if asked.overrides else sys.stdout),
    ):
        now = stack.describe(cloudformation, target.stack)  # fails before half a minute is spent
        archive = _build_for(target)
        _verify_for(target, archive.path)
        version, new = publishing.publish(functions, target, archive)
        said = "published" if new else "has this content already, so nothing was published"
        print(f"{target.layer} {said}: version {version.number}")
        found = versions.published(functions, target.layer) if asked.overrides else []
    if asked.overrides:
        print(publishing.overrides(target, version, now, found))


def _list(asked: argparse.Namespace) -> None:
    from layers import aws, stack, versions
    from layers.samconfig import read_target

    target = read_target(asked.env)
    with aws.clients(target) as (functions, cloudformation):
        found = versions.published(functions, target.layer)
        now = stack.describe(cloudformation, target.stack)
    if not found:
        print(f"no version of {target.layer} is published")
        return
    rows: list[tuple[str, ...]] = [("VERSION", "PUBLISHED", "FOR", "COMMIT", "SHA256", "USED")]
    rows += [_row(version, now) for version in found]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print(
            "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        )


def _row(version: "Version", now: "Stack | None") -> tuple[str, ...]:
    used = {now.before: "before", now.in_use: "in use"} if now else {}
    commit, _, changes = version.made.commit.partition("+") if version.made else ("-", "", "")
    return (
        str(version.number),
        version.created,
        " ".join((*version.runtimes, *version.architectures)),
        commit[:12] + ("+" if changes else ""),
        version.made.sha256[:12] if version.made else "-",
        used.get(version.arn, ""),
    )


def _rollback(asked: argparse.Namespace) -> None:
    from layers import aws
    from layers.rollback import rollback
    from layers.samconfig import read_target
    from layers.versions import number_of

    target = read_target(asked.env)
    with aws.clients(target) as (functions, cloudformation):
        version, was = rollback(functions, cloudformation, target, to=asked.to, force=asked.force)
    instead = f" instead of {number_of(was.in_use)}" if was.in_use else ""
    print(f"{target.stack} uses version {version.number} of its layer{instead}")


def _prune(asked: argparse.Namespace) -> None:
    from layers import aws, stack, versions
    from layers.samconfig import read_target

    target = read_target(asked.env)
    with aws.clients(target) as (functions, cloudformation):
        now = stack.describe(cloudformation, target.stack)
        if now is not None:
            stack.refuse_if_busy(now)
        found = versions.published(functions, target.layer)
        used = {now.in_use, now.before} if now else set()
        old = versions.superfluous(found, keep=asked.keep, used=used)
        for version in old:
            if not asked.dry_run:
                versions.delete(functions, target.layer, version.number)
            print(f"{'would delete' if asked.dry_run else 'deleted'} version {version.number}")
    print(f"{len(found) - len(old)} of {len(found)} versions of {target.layer} stay")

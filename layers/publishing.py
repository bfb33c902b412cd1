"""All that `makoto layer build` and `publish` do, in order."""

import shlex
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from layers import archive, contents, versions
from layers.archive import Archive
from layers.contract import BEFORE, IN_USE, read_contract
from layers.samconfig import Target
from layers.stack import Stack
from layers.versions import Made, Version

BUILT: Final = contents.ROOT / "build" / "layers"
_GIT_S: Final = 30.0
_UNKNOWN: Final = "unknown"
_CHANGES: Final = "+changes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What a build made.

    Attributes:
        compiled: whether the code is; else cold starts take longer.
    """

    archive: Archive
    compiled: bool


def archive_path(*, runtime: str, architecture: str) -> Path:
    """Return where a build for these puts its zip."""
    return BUILT / f"common-{runtime}-{architecture}.zip"


def build(*, runtime: str, architecture: str, path: Path | None = None) -> Built:
    """Build the layer; half a minute.

    Args:
        runtime: as `python3.13`.
        architecture: `arm64` or `x86_64`.
        path: of the zip, instead of `archive_path`.

    Raises:
        LayerError: it cannot be built, or is too large.
    """
    with tempfile.TemporaryDirectory(prefix="makoto-layer-") as name:
        folder = Path(name, "layer")
        compiled = contents.fill(folder, runtime=runtime, architecture=architecture)
        place = path or archive_path(runtime=runtime, architecture=architecture)
        return Built(archive=archive.pack(folder, place), compiled=compiled)


def publish(functions: Any, target: Target, built: Archive) -> tuple[Version, bool]:
    """Publish a zip, unless a version with that content is there for the same template.

    Returns:
        The version, and whether it is new.

    Raises:
        LayerError: AWS refuses, or cannot be reached; or the zip has changed since it was built.
    """
    made = Made(
        sha256=built.sha256, contract=read_contract().fingerprint, commit=commit(contents.ROOT)
    )
    for version in versions.published(functions, target.layer):
        if (
            version.made is not None
            and (version.made.sha256, version.made.contract) == (made.sha256, made.contract)
            and version.is_for(target.runtime, target.architecture)
        ):
            return version, False
    new = versions.publish(
        functions,
        target.layer,
        archive.read(built),
        made=made,
        runtime=target.runtime,
        architecture=target.architecture,
    )
    return new, True


def commit(root: Path) -> str:
    """Return the commit that a folder is at, `+changes` behind it if it was edited since, or `unknown`."""
    try:
        head = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "status", "--porcelain")
    except (OSError, subprocess.SubprocessError):
        return _UNKNOWN
    return f"{head}{_CHANGES}" if changed else head


def overrides(
    target: Target, version: Version, stack: Stack | None, found: Sequence[Version]
) -> str:
    """Return what `sam deploy --parameter-overrides` takes for a version, as words of a shell.

    Unless it says so, the one before stays. So it does where that in use is of the same commit, only
    built elsewhere: going back to it would undo nothing.

    Args:
        target: whose own overrides come first.
        version: to be used.
        stack: as it is, or None before it is first deployed.
        found: all that are published.
    """
    words = [*target.overrides, f"{IN_USE}={version.arn}"]
    if stack is not None and stack.in_use and stack.in_use != version.arn:
        in_use = next((each for each in found if each.arn == stack.in_use), None)
        if in_use is None or not _of_same_commit(in_use.made, version.made):
            words.append(f"{BEFORE}={stack.in_use}")
    return shlex.join(words)


def _of_same_commit(one: Made | None, other: Made | None) -> bool:
    if one is None or other is None or one.commit != other.commit:
        return False
    return one.commit != _UNKNOWN and not one.commit.endswith(_CHANGES)


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(  # noqa: S603 - the git of whoever asks
        ["git", "-C", str(root), *arguments],  # noqa: S607
        capture_output=True,
        text=True,
        timeout=_GIT_S,
        check=True,
    ).stdout.strip()

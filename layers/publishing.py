"""All that `makoto layer build` and `publish` do, in order."""

import shlex
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from layers import archive, contents, versions
from layers.archive import Archive
from layers.contract import read_contract
from layers.samconfig import Target
from layers.stack import BEFORE, IN_USE, Stack
from layers.versions import Made, Version

BUILT: Final = contents.ROOT / "build" / "layers"
_GIT_S: Final = 30.0


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
        LayerError: AWS refuses, or cannot be reached.
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
        built.path,
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
        return "unknown"
    return f"{head}+changes" if changed else head


def overrides(target: Target, version: Version, stack: Stack | None) -> str:
    """Return what `sam deploy --parameter-overrides` takes for a version, as words of a shell.

    Args:
        target: whose own overrides come first.
        version: to be used.
        stack: as it is, or None before it is first deployed.
    """
    words = [*target.overrides, f"{IN_USE}={version.arn}"]
    if stack is not None and stack.in_use and stack.in_use != version.arn:
        words.append(f"{BEFORE}={stack.in_use}")
    return shlex.join(words)


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(  # noqa: S603 - the git of whoever asks
        ["git", "-C", str(root), *arguments],  # noqa: S607
        capture_output=True,
        text=True,
        timeout=_GIT_S,
        check=True,
    ).stdout.strip()

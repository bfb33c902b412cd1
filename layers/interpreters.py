"""A Python of a given version on this machine."""

import shutil
import subprocess
import sys
from typing import Final

_BOUND_S: Final = 30.0


def interpreter(runtime: str) -> str | None:
    """Return the path of one that works, or None.

    Args:
        runtime: as `python3.13`, which is looked for on PATH first.
    """
    for path in filter(None, (shutil.which(runtime), sys.executable)):
        version, found = _ask(path)
        if f"python{version}" == runtime:
            return found
    return None


def _ask(path: str) -> tuple[str, str]:
    """Return the version and the place of a Python, both empty if what is there does not work."""
    question = "import sys; print('%d.%d' % sys.version_info[:2], sys.executable)"
    try:  # what is on PATH may be a shim without a Python behind it
        said = subprocess.run(  # noqa: S603 - a Python of this machine
            [path, "-I", "-c", question],
            capture_output=True,
            text=True,
            timeout=_BOUND_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "", ""
    version, _, place = said.stdout.strip().partition(" ")
    return version, place

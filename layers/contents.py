"""The files of the layer: our packages with what they need, for the Lambda runtime.

Wheels for the runtime are fetched and nothing is built: no Docker, and any Python with pip will do. The
same sources give the same files, so that an unchanged layer is not published again.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

from layers.errors import LayerError
from layers.interpreters import interpreter

ROOT: Final = Path(__file__).parent.parent
PACKAGES: Final = ("gateway", "storage", "streaming")
REQUIREMENTS: Final = Path(__file__).parent / "common" / "requirements.txt"

SERVICES: Final = ("s3",)
"""Whose API descriptions the SDK is asked for. All of them would be 25 MB."""

_NEVER_RUN: Final = ("bin", "gateway/cli", "gateway/emulator", "gateway/hosts/local")
_ANYWHERE: Final = ("__pycache__", "tests", "*.pyi", "*-stubs", "py.typed")

_RECORD: Final = "RECORD"
"""pip's list of files, of scripts too, whose first lines name the Python that built them. It is optional:
https://packaging.python.org/en/latest/specifications/recording-installed-packages/#the-record-file"""

_GLIBC: Final = ("manylinux_2_34", "manylinux_2_28", "manylinux_2_17", "manylinux2014")
"""What wheels may ask for: Amazon Linux 2023 has glibc 2.34."""

_COMPILE_S: Final = 300.0
"""Half a minute on one core."""

_MACHINES: Final = {"arm64": "aarch64", "x86_64": "x86_64"}


def fill(folder: Path, *, runtime: str, architecture: str) -> bool:
    """Put the files of a layer into a folder, under `python/`, where Lambda looks for packages.

    Takes half a minute, and a package index.

    Args:
        folder: empty or not there.
        runtime: as `python3.13`.
        architecture: `arm64` or `x86_64`.

    Returns:
        Whether the code is compiled, for which a Python of that version has to be on this machine.
        Without, each cold start compiles it.

    Raises:
        LayerError: pip or the compiler fails; what they say is on stderr.
    """
    place = folder / "python"
    place.mkdir(parents=True)
    _install(place, runtime=runtime, architecture=architecture)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, place / package)
    for path in list(_superfluous(place)):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    return _compile(folder, runtime)


def _install(place: Path, *, runtime: str, architecture: str) -> None:
    machine = _MACHINES.get(architecture)
    if machine is None:
        raise LayerError(f"{architecture!r} is no architecture of Lambda: arm64 or x86_64")
    wheels = [word for libc in _GLIBC for word in ("--platform", f"{libc}_{machine}")]
    done = subprocess.run(  # noqa: S603 - pip of this Python
        [
            *(sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"),
            *("--require-hashes", "--no-deps", "--no-compile", "--only-binary", ":all:"),
            *("--implementation", "cp", "--python-version", runtime.removeprefix("python")),
            *wheels,
            *("--target", str(place), "-r", str(REQUIREMENTS)),
        ],
        stdout=sys.stderr,
        check=False,
    )
    if done.returncode:
        raise LayerError("pip cannot get what the layer needs; its reason is above")


def _superfluous(place: Path) -> Iterator[Path]:
    """Yield what no function reads; of a folder that is left out, not what is in it."""
    yield from (place / name for name in _NEVER_RUN if (place / name).exists())
    yield from place.glob(f"*.dist-info/{_RECORD}")
    data = place / "botocore" / "data"
    yield from (path for path in data.iterdir() if path.is_dir() and path.name not in SERVICES)
    for parent, folders, files in os.walk(place):
        found = [name for name in folders + files if any(fnmatch(name, p) for p in _ANYWHERE)]
        folders[:] = [name for name in folders if name not in found]
        yield from (Path(parent, name) for name in found)


def _compile(folder: Path, runtime: str) -> bool:
    """Compile so that neither the time nor the place of the sources counts (PEP 552)."""
    compiler = interpreter(runtime)
    if compiler is None:
        return False
    try:
        done = subprocess.run(  # noqa: S603 - a Python of this machine
            [
                *(compiler, "-m", "compileall", "-q", "-j", "0", "--invalidation-mode"),
                *("unchecked-hash", "-s", str(folder), "-p", "/opt", str(folder / "python")),
            ],
            env={"PYTHONHASHSEED": "0"},
            stdout=sys.stderr,
            timeout=_COMPILE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise LayerError(f"compiling the layer's code takes more than {_COMPILE_S:.0f} s") from None
    if done.returncode:
        raise LayerError("the layer's code does not compile; the reason is above")
    return True

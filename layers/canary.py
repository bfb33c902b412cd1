"""All that a built layer has to offer, imported before Lambda does it.

Libraries are looked at wherever this runs: each has to be of the layer's processor and Python. Imports are
tried where this machine has both, in a Python that sees the layer and the standard library alone.
"""

import platform
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from layers.contents import SERVICES
from layers.contract import read_contract
from layers.errors import LayerError
from layers.interpreters import interpreter

_BOUND_S: Final = 120.0

_ELF_MACHINES: Final = {"x86_64": 62, "arm64": 183}
"""`EM_X86_64`, `EM_AARCH64`: https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.eheader.html"""

_PLATFORMS: Final = {"x86_64": ("x86_64", "amd64"), "arm64": ("aarch64", "arm64")}

_IMPORT_ALL: Final = """
import importlib, sys
from pathlib import Path
layer, handlers, services = sys.argv[1], sys.argv[2].splitlines(), sys.argv[3].split()
sys.path.insert(0, layer)
for line in handlers:
    exec(line)
for entry in sorted(Path(layer).iterdir()):
    name = entry.name.partition(".")[0]
    if (entry / "__init__.py").is_file() or (entry.is_file() and entry.suffix in {".py", ".so"}):
        importlib.import_module(name)
for service in services:
    session = importlib.import_module("botocore.session").get_session()
    session.create_client(service, region_name="eu-central-1")
for module in list(sys.modules.values()):
    place = getattr(module, "__file__", None)
    if place and not place.startswith((layer, sys.base_prefix)):
        sys.exit(f"{module.__name__} comes from {place}")
print(len(handlers), len(sys.modules))
"""


def verify(archive: Path, *, runtime: str, architecture: str) -> str:
    """Try a built layer, for some seconds.

    Args:
        archive: its zip.
        runtime: that it was built for, as `python3.13`.
        architecture: likewise, `arm64` or `x86_64`.

    Returns:
        What was tried, as a line.

    Raises:
        LayerError: there is none, or something is missing in it or not for that runtime and processor.
    """
    if not zipfile.is_zipfile(archive):
        raise LayerError(f"there is no built {archive.name}: makoto layer build")
    with tempfile.TemporaryDirectory(prefix="makoto-layer-") as folder:
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(folder)
        layer = Path(folder, "python").resolve()
        libraries = _look_at_libraries(layer, runtime=runtime, architecture=architecture)
        python = interpreter(runtime)
        fits = platform.system() == "Linux" and platform.machine() in _PLATFORMS[architecture]
        if python is None or not fits:
            return (
                f"{libraries} libraries are for {runtime} on {architecture}; nothing was imported: "
                f"that takes such a machine, and this is {_here()}"
            )
        handlers = read_contract().handlers
        modules = _import(layer, python, handlers)
    return (
        f"{len(handlers)} handlers and all packages were imported, {modules} modules; "
        f"{libraries} libraries are for {runtime} on {architecture}"
    )


def _here() -> str:
    version = "%d.%d" % sys.version_info[:2]  # noqa: UP031 - shorter
    return f"python{version} on {platform.system()} and {platform.machine()}"


def _look_at_libraries(layer: Path, *, runtime: str, architecture: str) -> int:
    tag = "cpython-" + runtime.removeprefix("python").replace(".", "")
    right = re.compile(rf"\.({tag}-[\w-]+|abi3)\.so")
    libraries = sorted(layer.rglob("*.so"))
    for library in libraries:
        with library.open("rb") as file:
            head = file.read(20)
        machine = int.from_bytes(head[18:20], "little")
        if head[:4] != b"\x7fELF" or machine != _ELF_MACHINES[architecture]:
            raise LayerError(f"{library.relative_to(layer)} is not for {architecture}")
        if not right.search(library.name):
            raise LayerError(f"{library.relative_to(layer)} is not for {runtime}")
    return len(libraries)


def _import(layer: Path, python: str, handlers: Sequence[str]) -> int:
    try:
        done = subprocess.run(  # noqa: S603 - a Python of this machine
            # No site-packages, no variables.
            [python, "-I", "-S", "-c", _IMPORT_ALL, layer, "\n".join(handlers), " ".join(SERVICES)],
            capture_output=True,
            text=True,
            timeout=_BOUND_S,
            cwd="/",
            env={},
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise LayerError(
            f"the layer does not work: its imports take more than {_BOUND_S:.0f} s"
        ) from None
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        raise LayerError(f"the layer does not work: {reason}")
    return int(done.stdout.split()[-1])

"""The layer as `sam build` makes it: what is in it works alone, and is no larger than it must be."""

import importlib.util
import io
import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.infra.deployment import ARCHITECTURE, ROOT, RUNTIME

pytestmark = [
    pytest.mark.timeout(400),  # the first test builds
    pytest.mark.xdist_group("built"),
]

MB = 1_000_000
UNZIPPED_MAX = 95 * MB
"""Lambda takes 250 MB. The bound is ours: who passes it has added something that is worth a look."""

ZIPPED_MAX = 33 * MB
SOURCES_MAX = 65 * MB
AARCH64 = 183
"""`EM_AARCH64` of the ELF header, after https://refspecs.linuxfoundation.org/elf/."""

HANDLERS = ("connect", "disconnect", "http", "message", "reply", "seal")
SERVICES = ("dynamodb", "s3")

IMPORT_ALL = f"""
import importlib, sys
sys.path.insert(0, sys.argv[1])
for name in {HANDLERS}:
    importlib.import_module("gateway.hosts.aws." + name)
import aiobotocore.session, gateway, openai, storage.blobs.s3, streaming.models.openai
from botocore.session import get_session
for service in {SERVICES}:
    get_session().create_client(service, region_name="eu-central-1")
for module in list(sys.modules.values()):
    place = getattr(module, "__file__", None)
    if place and not place.startswith((sys.argv[1], sys.base_prefix)):
        print(module.__name__, place)
print(len(sys.modules) > 500, gateway.__file__)
"""


@pytest.fixture(scope="module")
def layer(built: Path) -> Path:
    return built / "CommonLayer" / "python"


def files(layer: Path) -> list[Path]:
    return [path for path in layer.rglob("*") if path.is_file()]


def test_every_handler_finds_all_it_imports_in_the_layer(layer: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", IMPORT_ALL, layer],  # no site-packages
        capture_output=True,
        text=True,
        timeout=120,
        cwd="/",
        env={},
    )
    expected = f"True {layer}/gateway/__init__.py\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")


def test_the_layer_is_small(layer: Path) -> None:
    sizes = {path: path.stat().st_size for path in files(layer)}
    sources = sum(size for path, size in sizes.items() if path.suffix != ".pyc")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sizes:
            packed.write(path, path.relative_to(layer))
    zipped = len(archive.getvalue())
    figures = f"{sources=:,} {sum(sizes.values())=:,} {zipped=:,}"
    assert sources < SOURCES_MAX, figures
    assert sum(sizes.values()) < UNZIPPED_MAX, figures
    assert zipped < ZIPPED_MAX, figures


def test_what_no_function_runs_is_left_out(layer: Path) -> None:
    names = {path.name for path in layer.iterdir()}
    assert names.isdisjoint({"uvicorn", "uvloop", "websockets", "moto", "pytest", "bin", "tests"})
    assert {path.name for path in (layer / "botocore" / "data").iterdir() if path.is_dir()} == set(
        SERVICES
    )
    assert not (layer / "gateway" / "hosts" / "local").exists()
    assert not (layer / "gateway" / "cli").exists()


def test_no_cold_start_compiles(layer: Path) -> None:
    """What is unpacked has another time than what was compiled: it must count by itself (PEP 552)."""
    sources = [path for path in files(layer) if path.suffix == ".py"]
    for source in sources:
        compiled = Path(importlib.util.cache_from_source(str(source)))
        assert int.from_bytes(compiled.read_bytes()[4:8], "little") == 0b01, source
    assert len(sources) > 1000


def test_the_same_sources_make_the_same_layer(layer: Path, tmp_path: Path) -> None:
    """Wherever it is built. Else each deployment would publish a layer that has not changed."""
    elsewhere = tmp_path / "elsewhere"
    python = another_python(tmp_path / "machine")
    make(elsewhere, runtime=RUNTIME, architecture=ARCHITECTURE, python=python)
    again = elsewhere / "python"
    mine, theirs = needs(layer), needs(again)
    assert len(mine) > 1000
    assert set(mine) == set(theirs)
    assert [path for path, body in mine.items() if theirs[path] != body] == []


def test_the_layer_for_aws_is_of_its_processor_and_python(tmp_path: Path) -> None:
    """It is made of wheels, wherever it is made."""
    make(tmp_path, runtime="python3.13", architecture="arm64")
    compiled = list((tmp_path / "python").rglob("*.so"))
    assert len(compiled) > 15
    for library in compiled:
        header = library.read_bytes()[:20]
        assert (header[:4], int.from_bytes(header[18:20], "little")) == (b"\x7fELF", AARCH64)
        assert re.search(r"\.(cpython-313-aarch64-linux-gnu|abi3)\.so$", library.name), library


def another_python(folder: Path) -> Path:
    """Make an environment that is elsewhere and has the pip of this one; return its Python."""
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/*/site-packages")
    (packages / "pip.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "bin" / "python"


def make(
    folder: Path, *, runtime: str, architecture: str, python: Path = Path(sys.executable)
) -> None:
    """Do what `sam build` does."""
    given = {"ARTIFACTS_DIR": str(folder), "PYTHON": str(python)}
    given |= {"RUNTIME": runtime, "ARCHITECTURE": architecture}
    subprocess.run(
        ["make", "-s", "-f", "layers/common/Makefile", "build-CommonLayer"],
        cwd=ROOT,
        env={**os.environ, **given},
        check=True,
        timeout=300,
    )


def needs(layer: Path) -> dict[Path, bytes]:
    """All but our own packages, which somebody may be editing meanwhile."""
    found = {path.relative_to(layer): path for path in files(layer)}
    ours = {"gateway", "storage", "streaming"}
    return {name: path.read_bytes() for name, path in found.items() if name.parts[0] not in ours}


def test_the_layer_has_the_versions_that_were_tested() -> None:
    def pins(file: str) -> set[str]:
        lines = (ROOT / file).read_text().splitlines()
        return {line.split(" ")[0] for line in lines if "==" in line.split(";")[0]}

    assert pins("layers/common/requirements.txt") <= pins("requirements-dev.txt")

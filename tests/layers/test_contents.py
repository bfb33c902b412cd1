"""What is in the layer: the same wherever it is built, and no more than it needs."""

import importlib.util
import re
import subprocess
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from layers import contents
from layers.archive import Archive
from layers.contents import SERVICES, fill
from layers.errors import LayerError
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


FILL = """
import sys
from pathlib import Path
from layers.contents import fill
fill(Path(sys.argv[1]), runtime=sys.argv[2], architecture=sys.argv[3])
"""


@pytest.fixture(scope="module")
def layer(built: Archive, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(built.path) as packed:
        packed.extractall(folder)
    return folder / "python"


def files(layer: Path) -> list[Path]:
    return [path for path in layer.rglob("*") if path.is_file()]


def test_the_layer_is_small(layer: Path, built: Archive) -> None:
    sources = sum(path.stat().st_size for path in files(layer) if path.suffix != ".pyc")
    assert sources < SOURCES_MAX, (sources, built)
    assert built.unzipped < UNZIPPED_MAX, (sources, built)
    assert built.zipped < ZIPPED_MAX, (sources, built)


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
    subprocess.run(
        [python, "-c", FILL, elsewhere, RUNTIME, ARCHITECTURE], cwd=ROOT, check=True, timeout=300
    )
    mine, theirs = needs(layer), needs(elsewhere / "python")
    assert len(mine) > 1000
    assert set(mine) == set(theirs)
    assert [path for path, body in mine.items() if theirs[path] != body] == []


def test_the_layer_for_aws_is_of_its_processor_and_python(tmp_path: Path) -> None:
    """It is made of wheels, wherever it is made."""
    fill(tmp_path / "layer", runtime="python3.13", architecture="arm64")
    compiled = list((tmp_path / "layer" / "python").rglob("*.so"))
    assert len(compiled) > 15
    for library in compiled:
        header = library.read_bytes()[:20]
        assert (header[:4], int.from_bytes(header[18:20], "little")) == (b"\x7fELF", AARCH64)
        assert re.search(r"\.(cpython-313-aarch64-linux-gnu|abi3)\.so$", library.name), library


def test_a_layer_without_its_python_at_hand_is_not_compiled_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(contents, "_install", fake_install)
    assert not fill(tmp_path / "3.99", runtime="python3.99", architecture="arm64")
    assert list(tmp_path.rglob("*.pyc")) == []
    assert fill(tmp_path / "here", runtime=RUNTIME, architecture=ARCHITECTURE)
    assert list(tmp_path.rglob("*.pyc")) != []


def test_a_compiler_that_has_no_end_makes_no_layer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "_install", fake_install)
    monkeypatch.setattr(contents, "_COMPILE_S", 0.0)
    with pytest.raises(LayerError, match=r"^compiling the layer's code takes more than 0 s$"):
        fill(tmp_path / "layer", runtime=RUNTIME, architecture=ARCHITECTURE)


def fake_install(place: Path, *, runtime: str, architecture: str) -> None:
    (place / "botocore" / "data").mkdir(parents=True)


def test_what_pip_cannot_get_is_no_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = tmp_path / "requirements.txt"
    wanted.write_text("makoto-needs-this==1 --hash=sha256:" + 64 * "0" + "\n")
    monkeypatch.setattr(contents, "REQUIREMENTS", wanted)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(LayerError, match="pip cannot get"):
        fill(tmp_path / "layer", runtime="python3.13", architecture="arm64")


def test_a_processor_that_lambda_has_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LayerError, match="'riscv64' is no architecture"):
        fill(tmp_path / "layer", runtime="python3.13", architecture="riscv64")


def another_python(folder: Path) -> Path:
    """Make an environment that is elsewhere and has the pip of this one; return its Python."""
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/*/site-packages")
    (packages / "pip.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "bin" / "python"


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

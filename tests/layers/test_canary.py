"""What a layer lacks is found before Lambda finds it."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from layers import canary
from layers.archive import Archive, pack
from layers.canary import verify
from layers.contract import Contract
from layers.errors import LayerError
from tests.infra.deployment import ARCHITECTURE, RUNTIME

TAG = "cpython-" + RUNTIME.removeprefix("python").replace(".", "")
OTHER = {"x86_64": "arm64", "arm64": "x86_64"}[ARCHITECTURE]
MACHINES = {"x86_64": 62, "arm64": 183}

CONTRACT = Contract(handlers=("from hello import handler",), variables=())
HELLO = b"from words import greet\ndef handler(event, context): return greet()\n"
WORKING = {"hello.py": HELLO, "words/__init__.py": b"def greet(): return 'Hello'\n"}


@pytest.mark.timeout(400)  # it may be the first that asks for the layer
@pytest.mark.xdist_group("built")
def test_every_handler_and_package_of_ours_finds_all_it_imports(built: Archive) -> None:
    said = verify(built.path, runtime=RUNTIME, architecture=ARCHITECTURE)
    assert said.startswith("6 handlers and all packages were imported, 1")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is expected of a layer here."""
    monkeypatch.setattr(canary, "SERVICES", ())
    monkeypatch.setattr(canary, "read_contract", lambda: CONTRACT)


def tried(folder: Path, files: Mapping[str, bytes], *, runtime: str = RUNTIME) -> str:
    for name, body in files.items():
        path = folder / "layer" / "python" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    made = pack(folder / "layer", folder / "layer.zip")
    return verify(made.path, runtime=runtime, architecture=ARCHITECTURE)


def library(architecture: str) -> bytes:
    return b"\x7fELF" + bytes(14) + MACHINES[architecture].to_bytes(2, "little")


@pytest.mark.usefixtures("small")
def test_a_layer_that_works(tmp_path: Path) -> None:
    said = tried(tmp_path, WORKING)
    assert said.startswith("1 handlers and all packages were imported")
    assert said.endswith(f"0 libraries are for {RUNTIME} on {ARCHITECTURE}")


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"words/__init__.py": b""}, "No module named 'hello'"),
        ({"hello.py": HELLO}, "No module named 'words'"),
        (WORKING | {"hello.py": b""}, "cannot import name 'handler'"),
        (WORKING | {"unused.py": b"import not_there"}, "No module named 'not_there'"),
        (WORKING | {"unused.py": b"import pytest"}, "No module named 'pytest'"),
        (
            WORKING | {f"words/fast.{TAG}-some-linux-gnu.so": library(OTHER)},
            f"not for {ARCHITECTURE}",
        ),
        (
            WORKING | {"words/fast.abi3.so": b"no library"},
            f"fast.abi3.so is not for {ARCHITECTURE}",
        ),
        (
            WORKING | {"words/fast.cpython-38-some-linux-gnu.so": library(ARCHITECTURE)},
            f"is not for {RUNTIME}",
        ),
    ],
)
def test_a_layer_that_lacks_something(tmp_path: Path, files: dict[str, bytes], told: str) -> None:
    with pytest.raises(LayerError, match=told) as failed:
        tried(tmp_path, files)
    assert "\n" not in str(failed.value)


@pytest.mark.usefixtures("small")
def test_a_layer_whose_imports_have_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canary, "_BOUND_S", 0.5)
    endless = WORKING | {"unused.py": b"import time; time.sleep(60)"}
    with pytest.raises(LayerError, match=r"^the layer does not work: its imports take more than"):
        tried(tmp_path, endless)


@pytest.mark.usefixtures("small")
def test_what_cannot_be_imported_here_is_said(tmp_path: Path) -> None:
    named = {"words/fast.cpython-399-some-linux-gnu.so": library(ARCHITECTURE)}
    said = tried(tmp_path, named, runtime="python3.99")
    assert said.startswith(
        f"1 libraries are for python3.99 on {ARCHITECTURE}; nothing was imported"
    )


def test_a_layer_that_was_not_built(tmp_path: Path) -> None:
    with pytest.raises(LayerError, match=r"there is no built a\.zip: makoto layer build"):
        verify(tmp_path / "a.zip", runtime=RUNTIME, architecture=ARCHITECTURE)
    (tmp_path / "a.zip").write_bytes(b"half of one")
    with pytest.raises(LayerError, match="there is no built"):
        verify(tmp_path / "a.zip", runtime=RUNTIME, architecture=ARCHITECTURE)

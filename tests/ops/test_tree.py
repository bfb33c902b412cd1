"""What is true of every file of the repository."""

import ast
import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.ops.examples import ROOT

PACKAGES = ("gateway", "streaming", "storage", "layers", "bench")
PAGES = ("README.md", "PROTOCOL.md", "CHANGELOG.md", "CONTRIBUTING.md", "bench/README.md", "docs")
LOCKS = ("requirements.txt", "requirements-dev.txt")
OTHER_LOCKS = (
    "layers/common/requirements.txt",
    "tests/engines/requirements-ministack.txt",
    "tests/engines/requirements-sam.txt",
)

LINES = 500
LONGER = {"gateway/web/makoto.js": "one file that any page can import, or copy"}

# Written so that this file does not contain what it looks for.
REGISTRY = re.compile(
    r"\b(?:[\w-]+\.)*(?:py[p]i\.(?:org|python\.org)|python[h]osted\.org|npm[j]s\.(?:org|com)"
    r"|yarn[p]kg\.com|git[h]ub\.com/[\w-]+/[\w-]+/releases)\b|index[-_]url|find[-_]links"
)
MACHINE = re.compile(r"(?<![\w.$}])/(?:root|home/\w+|Users/\w+|work|tmp/\w+)/")


@cache
def tracked() -> tuple[Path, ...]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode != 0:
        pytest.skip("only in a checkout")
    return tuple(
        path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()
    )


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def texts() -> list[tuple[str, str]]:
    images = {".png", ".ico", ".woff2"}
    return [
        (name_of(path), path.read_text("utf-8")) for path in tracked() if path.suffix not in images
    ]


def found(pattern: re.Pattern[str], *, but_for: str = "") -> list[str]:
    return [
        f"{name}: {match[0]}"
        for name, text in texts()
        if name != but_for
        for match in pattern.finditer(text)
    ]


def test_no_package_registry_is_named() -> None:
    makes_the_locks = "Makefile"
    assert found(REGISTRY, but_for=makes_the_locks) == []
    locks = [*LOCKS, *OTHER_LOCKS]
    assert [lock for lock in locks if "://" in (ROOT / lock).read_text()] == []


def test_no_path_of_somebodys_machine_is_named() -> None:
    assert found(MACHINE) == []


def requirements(lock: str) -> dict[str, str]:
    """Return the pinned version of every name; continuation lines hold the hashes."""
    pinned: dict[str, str] = {}
    for entry in (ROOT / lock).read_text().replace("\\\n", " ").splitlines():
        words = entry.split(";")[0].split()
        name, _, version = words[0].partition("==")
        hashes = re.findall(r"--hash=(\S+)", entry)
        assert version, f"{lock}: {name} has no version"
        assert hashes, f"{lock}: {name} has no hash"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in hashes)
        pinned[canonicalize_name(name)] = version
    return pinned


@pytest.mark.parametrize(
    ("lock", "extras"), [(LOCKS[0], {"build"}), (LOCKS[1], {"build", "dev", "bench"})], ids=LOCKS
)
def test_a_lock_file_pins_what_pyproject_asks_for(lock: str, extras: set[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    asked = [*project["dependencies"], *(one for extra in extras for one in optional[extra])]
    pinned = requirements(lock)
    for text in asked:
        requirement = Requirement(text)
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), text


def test_developers_run_what_users_run() -> None:
    run, develop = map(requirements, LOCKS)
    assert run.items() <= develop.items()


def test_modules_are_of_a_size_that_can_be_read() -> None:
    modules = {
        name: text.count("\n")
        for name, text in texts()
        if name.startswith(PACKAGES) and name.endswith((".py", ".js", ".mjs"))
    }
    long = {name for name, lines in modules.items() if lines > LINES}
    assert long == LONGER.keys(), "split it, or list it with the reason"


def test_every_package_and_module_says_what_it_is() -> None:
    sources = [path for path in tracked() if path.suffix == ".py"]
    ours = [path for path in sources if name_of(path).startswith(PACKAGES)]
    packages = {path.parent for path in ours}
    assert {name_of(p) for p in packages if not (p / "__init__.py").is_file()} == set()
    silent = [path for path in sources if not ast.get_docstring(ast.parse(path.read_text("utf-8")))]
    assert [name_of(path) for path in silent if path in ours] == []


def test_a_package_of_the_gateway_names_its_modules() -> None:
    beside = {"gateway/emulator": "its users need `emulator` only; docs/emulator.md has the rest"}
    missing = [
        name_of(path)
        for path in tracked()
        if path.suffix == ".py" and path.stem not in {"__init__", "__main__"}
        if (package := path.parent).is_relative_to(ROOT / "gateway")
        if name_of(package) not in beside
        if not re.search(rf"\b{path.stem}\b", (package / "__init__.py").read_text("utf-8"))
    ]
    assert missing == []


def pages() -> list[Path]:
    return [path for path in tracked() if path.suffix == ".md" and name_of(path).startswith(PAGES)]


def anchors(page: Path) -> set[str]:
    """Return the fragments that a page's headings can be linked by, as GitHub makes them."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    for link in re.finditer(r"\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"", prose):
        target = link[1] or link[2]
        if "://" in target:
            continue
        file, _, fragment = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), target
        if fragment:
            assert fragment in anchors(path), target

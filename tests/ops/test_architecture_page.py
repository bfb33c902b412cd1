"""What docs/architecture.md and CONTRIBUTING.md name is there."""

import re
from pkgutil import resolve_name

import pytest

from tests.ops.examples import ROOT

PAGES = ("docs/architecture.md", "CONTRIBUTING.md")
ROOMS = {path.stem for path in (ROOT / "gateway").iterdir()}
TREES = ("gateway", "storage", "streaming", "layers", "tests", "bench", "infra", "docs")


def quoted(page: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", (ROOT / page).read_text("utf-8"))


def names(page: str) -> list[str]:
    dotted = [each for each in quoted(page) if re.fullmatch(r"[a-z]\w*(\.\w+)+(?<!\.py)", each)]
    below = [f"gateway.{each}" for each in dotted if each.split(".")[0] in ROOMS]
    return below + [each for each in dotted if each.startswith(("storage.", "streaming."))]


def test_the_page_names_many() -> None:
    assert len(names(PAGES[0])) > 70


@pytest.mark.parametrize("page", PAGES)
def test_every_module_and_function_that_a_page_names_exists(page: str) -> None:
    for name in names(page):
        resolve_name(name)


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_exists(page: str) -> None:
    files = [each for each in quoted(page) if re.fullmatch(rf"({'|'.join(TREES)})/[\w/.]+", each)]
    assert [file for file in files if not (ROOT / file).exists()] == []

"""What docs/architecture.md and CONTRIBUTING.md name is there."""

import re
from pkgutil import resolve_name

import pytest

from tests.ops.examples import ROOT

PAGES = ("docs/architecture.md", "CONTRIBUTING.md")
ROOMS = {path.stem for path in (ROOT / "gateway").iterdir()}
TREES = ("gateway", "storage", "streaming", "layers", "tests", "bench", "infra", "docs")


def quoted(page: str, form: str) -> list[str]:
    """Return what stands in backticks and has that form."""
    found = re.findall(r"`([^`\n]+)`", (ROOT / page).read_text("utf-8"))
    return [each for each in found if re.fullmatch(form, each)]


def test_every_module_and_function_that_the_page_names_exists() -> None:
    names = quoted(PAGES[0], r"[a-z]\w*(\.\w+)+")
    for name in names:
        resolve_name(f"gateway.{name}" if name.split(".")[0] in ROOMS else name)
    assert len(names) > 80


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_exists(page: str) -> None:
    files = quoted(page, rf"({'|'.join(TREES)})/[\w/.]+")
    assert [file for file in files if not (ROOT / file).exists()] == []
    assert files

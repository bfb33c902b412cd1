"""What docs/promises.md names is there."""

import re

from tests.ops.examples import ROOT

PAGE = (ROOT / "docs" / "promises.md").read_text("utf-8")
NAMED = re.findall(r"`(tests/[\w/.]+?)(?:::(\w+))?`", PAGE)


def test_every_test_that_the_page_names_exists() -> None:
    missing = [f"{file}::{name}" for file, name in NAMED if not is_there(file, name)]
    assert not missing
    assert len(NAMED) > 50


def is_there(file: str, name: str) -> bool:
    path = ROOT / file
    if not path.is_file():
        return False
    return (
        not name or re.search(rf"^(async )?def {name}\(", path.read_text("utf-8"), re.M) is not None
    )


def test_every_promise_has_its_row() -> None:
    promises = (ROOT / "PROTOCOL.md").read_text("utf-8").split("## Promises\n")[1].split("\n## ")[0]
    made = re.findall(r"^(\d+)\. \*\*", promises, re.M)
    held = re.findall(r"^\| (\d+) ", PAGE, re.M)
    assert held == made == [str(number) for number in range(1, 12)]

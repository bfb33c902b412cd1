"""The examples of the documentation: what is tested is what stands there."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def example(page: str, name: str) -> str:
    """Return the fenced block that follows `<!-- example: name -->` on that page."""
    text = (ROOT / page).read_text("utf-8")
    pattern = rf"<!-- example: {re.escape(name)} -->\n```\w+\n(.*?)^```$"
    found = re.findall(pattern, text, re.DOTALL | re.MULTILINE)
    assert len(found) == 1, f"{page} has {len(found)} examples named {name}"
    return str(found[0])


def with_changes(text: str, changes: dict[str, str]) -> str:
    """Replace what differs on the test's machine; each must be there, or the page has moved on."""
    for old, new in changes.items():
        assert old in text, f"the example no longer has: {old}"
        text = text.replace(old, new)
    return text

"""What the terminal shows: tables, and targets with whether they were met."""

import importlib.metadata
import math
import os
import platform
import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One target and what this run measured for it.

    Attributes:
        what: the measured quantity with its unit.
        target: the highest value that still meets the target.
        measured: this run's value, None when it could not be measured.
        below: whether the target itself is already too high ("below", not "at most").
    """

    what: str
    target: float
    measured: float | None
    below: bool = False

    def row(self) -> tuple[str, str, str, str]:
        """Return the cells of the targets table."""
        bound = f"{'<' if self.below else '<='} {self.target:.4g}"
        if self.measured is None:
            return self.what, bound, "-", "not measured"
        met = self.measured < self.target or (not self.below and self.measured == self.target)
        return self.what, bound, f"{self.measured:.4g}", "met" if met else "MISSED"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print aligned columns, the first one to the left, all others to the right."""
    cells = [list(head), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    cells.insert(1, ["-" * width for width in widths])
    for row in cells:
        first = row[0].ljust(widths[0])
        rest = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        print("  ".join([first, *rest]).rstrip(), flush=True)


def verdicts(found: Iterable[Verdict]) -> None:
    """Print the targets of a part."""
    print()
    table(("target", "bound", "measured", ""), (verdict.row() for verdict in found))


def median(values: Iterable[float]) -> float | None:
    """Return the median, None when there is no value."""
    kept = list(values)
    return statistics.median(kept) if kept else None


def ratio(one: float | None, other: float | None) -> float | None:
    """Return how many times the other it is; None where that says nothing."""
    if one is None or other is None or not other or math.isinf(other):
        return None
    return one / other


def number(value: float | None, scale: float, digits: int) -> str:
    """Return a cell: the value times `scale`, "-" for none, "never" for infinity."""
    if value is None:
        return "-"
    return "never" if math.isinf(value) else f"{value * scale:,.{digits}f}"


def machine() -> str:
    """Describe in one line what the figures were measured on."""
    model = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = (line for line in cpuinfo.read_text().splitlines() if line.startswith("model name"))
        model = next(names, f": {model}").partition(":")[2].strip()
    return (
        f"{os.cpu_count()} cores ({model}), {platform.system()} {platform.release()}, "
        f"Python {sys.version.split()[0]}"
    )


def version(distribution: str) -> str:
    """Return an installed distribution's name and version."""
    return f"{distribution} {importlib.metadata.version(distribution)}"

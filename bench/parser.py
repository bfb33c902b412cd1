"""Part (a): the arguments parser beside other ways to read JSON while it arrives."""

import gc
import math
import statistics
import sys
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from types import FunctionType, ModuleType

from bench.peers import MAKOTO, ORJSON_LINE, PEERS, Contender
from bench.report import Verdict, table, verdicts, version
from bench.texts import KINDS, Kind, fragments, reply
from streaming.arguments import ArgumentsParser

SIZES = (1_000, 10_000, 100_000, 1_000_000)
LENGTHS = (4, 16, 64)
GROWTH_SIZES = (10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000)

BLOCK = 256  # fragments between two looks at the clock
SHORTEST = 0.003  # seconds: shorter passes are repeated until they take that long
ROUNDS = 5


@dataclass(slots=True, kw_only=True)
class Lane:
    """One contender on one cell of the table; `passes` are seconds of CPU per pass."""

    contender: Contender
    inputs: Sequence[object]
    repeats: int = 1
    passes: list[float] = field(default_factory=list)

    def run(self, bound: float) -> bool:
        """Time one pass, False when it was given up after `bound` seconds."""
        started = time.process_time()
        for _ in range(self.repeats):
            feed = self.contender.start()
            for at in range(0, len(self.inputs), BLOCK):
                for item in self.inputs[at : at + BLOCK]:
                    feed(item)
                if time.process_time() - started > bound:
                    return False
        self.passes.append((time.process_time() - started) / self.repeats)
        return True

    def seconds(self) -> float:
        """Return the median of the passes."""
        return statistics.median(self.passes)

    def per_fragment(self) -> float:
        """Return microseconds per fragment."""
        return self.seconds() / len(self.inputs) * 1e6


def enter(
    contender: Contender, document: str, length: int, bound: float, expected: float = 0.0
) -> Lane | None:
    """Prepare a lane and warm it up; None when one pass is longer than `bound` seconds.

    Args:
        expected: seconds a pass takes at least, to give up before preparing anything.
    """
    if expected > bound:
        return None
    lane = Lane(contender=contender, inputs=contender.prepare(fragments(document, length)))
    if not lane.run(bound):
        return None
    lane.repeats = max(1, int(SHORTEST / lane.passes.pop()))
    return lane


def race(lanes: Sequence[Lane], rounds: int) -> None:
    """Run the lanes in turns, so that a busy moment of the machine falls on all alike."""
    gc.collect()
    gc.freeze()  # what was prepared is not walked again by every collection
    for _ in range(rounds):
        for lane in lanes:
            lane.run(math.inf)
    gc.unfreeze()


def check(contender: Contender, kind: Kind, length: int) -> None:
    """Make sure that a contender reads what was written, before its speed counts."""
    document, content = reply(kind, 1_000)
    feed = contender.start()
    read = (contender.text(feed(item)) for item in contender.prepare(fragments(document, length)))
    if "".join(read) != content:
        raise SystemExit(f"{contender.name} did not return the {kind} content")


Cells = dict[tuple[Kind, int, int], dict[str, float]]


def compare(kind: Kind, length: int, bound: float, rounds: int) -> Iterator[dict[str, float]]:
    """Yield microseconds per fragment by contender's name, one dict per size."""
    known: dict[str, float] = {}
    for contender in (MAKOTO, *PEERS):
        check(contender, kind, length)
    for before, size in zip((SIZES[0], *SIZES), SIZES, strict=False):
        document, _ = reply(kind, size)
        lanes = [enter(one, document, length, math.inf) for one in (MAKOTO, ORJSON_LINE)]
        for peer in PEERS:
            grown = known.get(peer.name, 0.0 if size == SIZES[0] else math.inf) * size / before
            lanes.append(enter(peer, document, length, bound, grown))
        running = [lane for lane in lanes if lane]
        race(running, rounds)
        known = {lane.contender.name: lane.seconds() for lane in running}
        yield {lane.contender.name: lane.per_fragment() for lane in running}


def growth(kind: Kind, length: int, rounds: int) -> float:
    """Return the exponent of a pass's time over its size, by least squares on logarithms."""
    documents = [reply(kind, size)[0] for size in GROWTH_SIZES]
    lanes = [lane for text in documents if (lane := enter(MAKOTO, text, length, math.inf))]
    race(lanes, rounds)
    sizes = [math.log(len(text)) for text in documents]
    return statistics.linear_regression(sizes, [math.log(lane.seconds()) for lane in lanes]).slope


def reachable_bytes(root: object) -> int:
    """Add up the sizes of all objects a parser holds, code and classes left out."""
    seen: set[int] = set()
    total = 0
    waiting = [root]
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, type | ModuleType | FunctionType):
            continue
        seen.add(id(one))
        total += sys.getsizeof(one)
        waiting.extend(gc.get_referents(one))
    return total


def held(size: int) -> tuple[int, int]:
    """Feed a reply up to the middle of its content and see what the parser keeps.

    Returns:
        Bytes reachable from the parser, and bytes that feeding left allocated.
    """
    pieces = fragments(reply("ascii", size)[0], 4)[:-16]
    parser = ArgumentsParser(streamed=("content",))
    for piece in islice(pieces, 16):
        parser.feed(piece)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for piece in islice(pieces, 16, None):
        parser.feed(piece)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return reachable_bytes(parser), after - before


def _size(size: int) -> str:
    return f"{size // 1_000_000} MB" if size >= 1_000_000 else f"{size // 1_000} KB"


def _cell(found: dict[str, float], name: str) -> str:
    if name not in found:
        return "too long"
    return f"{found[name] / found[MAKOTO.name]:,.1f}x ({found[name]:.3g})"


def _print_cells(cells: Cells, bound: float) -> None:
    names = [peer.name for peer in (*PEERS, ORJSON_LINE)]
    print(
        "\nMicroseconds of CPU per fragment: makoto's, then how many times as long the others "
        "take (and their own figure).\n"
        f"'too long': one pass over the document would exceed {bound:g} s, most often because cost "
        "grows with the square of its size.\n"
        "ijson gives a string only when it is complete, so it has nothing to show meanwhile; the "
        "SDK's chunk objects are built beforehand.\n"
    )
    rows = [
        (
            f"{kind}, {length}, {_size(size)}",
            f"{found[MAKOTO.name]:.3f}",
            *(_cell(found, name) for name in names),
        )
        for (kind, length, size), found in cells.items()
    ]
    table(("text, fragment, document", MAKOTO.name, *names), rows)


def _targets(cells: Cells, exponents: dict[Kind, float], kept: int) -> list[Verdict]:
    large = SIZES[1:]
    plain = [cells["ascii", 4, size] for size in large]
    escaped = [cells["escaped", 4, size][MAKOTO.name] for size in large]
    lines = [found[MAKOTO.name] / found[ORJSON_LINE.name] for found in plain]
    return [
        Verdict(
            what="us per 4-character ASCII fragment, worst of 10 KB to 1 MB",
            target=0.45,
            measured=max(found[MAKOTO.name] for found in plain),
        ),
        *(
            Verdict(what=f"growth exponent, 10 KB to 1 MB, {kind}", target=1.1, measured=slope)
            for kind, slope in exponents.items()
        ),
        Verdict(
            what="times orjson.loads of the SSE line, ASCII, 4 characters, worst",
            target=0.35,
            measured=max(lines),
        ),
        Verdict(
            what="us per 4-character fully escaped fragment, worst of 10 KB to 1 MB",
            target=1.2,
            measured=max(escaped),
        ),
        Verdict(what="bytes held after 1 MB of content beyond those at 10 KB", target=1024,
                measured=kept),
    ]  # fmt: skip


def run(*, quick: bool) -> None:
    """Measure and print part (a); `quick` gives up sooner and repeats less."""
    bound, rounds = (0.1, 3) if quick else (0.4, ROUNDS)
    print("== The arguments parser ==")
    used = [name for one in (*PEERS, ORJSON_LINE) for name in one.distributions]
    print(", ".join(map(version, used)))
    cells: Cells = {}
    for kind in KINDS:
        for length in LENGTHS:
            found = compare(kind, length, bound, rounds)
            cells |= {(kind, length, size): times for size, times in zip(SIZES, found, strict=True)}
    _print_cells(cells, bound)
    exponents = {kind: growth(kind, 4, rounds) for kind in KINDS}
    (small, small_left), (large, large_left) = held(10_000), held(1_000_000)
    print(
        f"\nHeld in the middle of the content: {small:,} bytes after 10 KB, {large:,} after 1 MB "
        f"(reachable); left allocated by feeding: {small_left:,} and {large_left:,} (tracemalloc)."
    )
    verdicts(_targets(cells, exponents, max(large - small, large_left - small_left)))

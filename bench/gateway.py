"""Part (b): the gateway beside two relays, all in front of one fake provider."""

import time
from collections.abc import Callable

from bench.load import EVERY, FEW, SESSIONS, Visit
from bench.process import choose_cores
from bench.report import Verdict, median, number, ratio, table, verdicts, version
from bench.rounds import FULL, QUICK, Visits, in_turns, median_of, raise_descriptor_limit
from bench.systems import Direct, FastApiRelay, Gateway, NodeRelay, available


def _over_direct(visits: Visits, name: str, read: Callable[[Visit], float]) -> float | None:
    """Return the median of what a system adds to the direct way, round by round."""
    if name not in visits:
        return None
    pairs = zip(visits[name], visits[Direct.name], strict=True)
    return median(read(one) - read(direct) for one, direct in pairs)


Row = tuple[str, Callable[[str], float | None], float, int]


def _rows(visits: Visits) -> list[Row]:
    def plain(read: Callable[[Visit], float | None]) -> Callable[[str], float | None]:
        return lambda name: median_of(visits[name], read)

    def over(read: Callable[[Visit], float]) -> Callable[[str], float | None]:
        return lambda name: None if name == Direct.name else _over_direct(visits, name, read)

    return [
        ("server CPU per delivered chunk, us", plain(lambda one: one.chunk_cpu), 1e6, 1),
        ("delivered chunks per second", plain(lambda one: one.delivered), 1, 0),
        ("chunks per message", plain(lambda one: one.merged), 1, 2),
        ("server's core busy, %", plain(lambda one: one.busy), 100, 0),
        ("clients' and provider's core busy, %", plain(lambda one: one.clients_busy), 100, 0),
        ("first delta, quiet, us", plain(lambda one: one.first_delta), 1e6, 0),
        ("  over direct, us", over(lambda one: one.first_delta), 1e6, 0),
        (f"first delta, {FEW} streaming, us", plain(lambda one: one.few_first_delta), 1e6, 0),
        ("  over direct, us", over(lambda one: one.few_first_delta), 1e6, 0),
        ("first delta, under load, us", plain(lambda one: one.loaded_first_delta), 1e6, 0),
        ("  over direct, us", over(lambda one: one.loaded_first_delta), 1e6, 0),
        ("server CPU per turn of 3 chunks, us", plain(lambda one: one.turn_cpu), 1e6, 0),
        ("RSS per idle connection, KB", plain(lambda one: one.idle_bytes), 1 / 1000, 1),
    ]


def _print(visits: Visits) -> None:
    names = list(visits)
    rows: list[tuple[str, ...]] = []
    for label, value, scale, digits in _rows(visits):
        cells = []
        base = value(Gateway.name) if Gateway.name in visits else None
        for name in names:
            found = value(name)
            times = ratio(found, base)
            beside = f" ({times:.2f}x)" if times is not None and name != Gateway.name else ""
            cells.append(number(found, scale, digits) + beside)
        rows.append((label, *cells))
    table(("", *names), rows)


def _targets(visits: Visits) -> list[Verdict]:
    def cpu(name: str) -> float | None:
        return median_of(visits.get(name, []), lambda one: one.chunk_cpu)

    def added(read: Callable[[Visit], float]) -> float | None:
        """Return what Makoto adds to the direct way, times what the relay adds."""
        ours, theirs = (
            _over_direct(visits, name, read) for name in (Gateway.name, FastApiRelay.name)
        )
        return ratio(ours, theirs)

    idle = median_of(visits.get(Gateway.name, []), lambda one: one.idle_bytes)
    return [
        Verdict(
            what="server CPU per chunk, times the FastAPI + SDK relay's",
            target=0.2,
            measured=ratio(cpu(Gateway.name), cpu(FastApiRelay.name)),
        ),
        Verdict(
            what="server CPU per chunk, times the Node ws relay's",
            target=1.0,
            measured=ratio(cpu(Gateway.name), cpu(NodeRelay.name)),
            below=True,
        ),
        Verdict(
            what=f"first delta over direct, {FEW} streaming, times the FastAPI + SDK relay's",
            target=1 / 3,
            measured=added(lambda one: one.few_first_delta),
        ),
        Verdict(
            what="first delta over direct, quiet, times the FastAPI + SDK relay's",
            target=1 / 3,
            measured=added(lambda one: one.first_delta),
        ),
        Verdict(
            what="KB resident per idle authenticated connection",
            target=20,
            measured=None if idle is None else idle / 1000,
        ),
    ]


def run(*, quick: bool, deflate: bool) -> None:
    """Measure and print part (b).

    Args:
        quick: one short round instead of three.
        deflate: let the clients offer permessage-deflate, as browsers do.
    """
    raise_descriptor_limit()
    systems, missing = available(deflate=deflate)
    plan, rounds = (QUICK, 1) if quick else (FULL, 3)
    cores = choose_cores()
    print("== The gateway ==")
    print(", ".join(map(version, ("fastapi", "uvicorn", "websockets", "openai"))))
    print(
        f"{SESSIONS} sessions, {1000 // EVERY} chunks/s each, chunks of 16 characters in "
        f"function-call mode; {cores};\n{rounds} interleaved round(s) of fresh servers, medians; "
        f"permessage-deflate {'offered as browsers do' if deflate else 'not offered'}."
    )
    for line in missing:
        print(f"left out: {line}")
    began = time.monotonic()
    visits = in_turns(systems, rounds, plan, cores)
    print(f"took {time.monotonic() - began:.0f} s; in brackets: times makoto's\n")
    _print(visits)
    verdicts(_targets(visits))
    if Gateway.name not in visits:
        raise SystemExit("the gateway itself could not be measured")

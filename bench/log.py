"""What it costs to log every event: the gateway beside one whose log keeps nothing."""

import time
from dataclasses import replace

from bench.load import EVERY, SESSIONS
from bench.process import choose_cores
from bench.report import number, ratio, table
from bench.rounds import FULL, QUICK, in_turns, median_of, raise_descriptor_limit
from bench.systems import Gateway, System, Unlogged

ROWS = (
    ("server CPU per delivered chunk, us", lambda one: one.chunk_cpu, 1e6, 1),
    ("delivered chunks per second", lambda one: one.delivered, 1, 0),
    ("chunks per message", lambda one: one.merged, 1, 2),
    ("server's core busy, %", lambda one: one.busy, 100, 0),
    ("first delta, quiet, us", lambda one: one.first_delta, 1e6, 0),
    ("server CPU per turn of 3 chunks, us", lambda one: one.turn_cpu, 1e6, 0),
    ("RSS per streaming session, KB", lambda one: one.streaming_bytes, 1 / 1000, 1),
)


def run(*, quick: bool, deflate: bool) -> None:
    """Measure and print it.

    Args:
        quick: one short round instead of five.
        deflate: let the clients offer permessage-deflate, as browsers do.
    """
    raise_descriptor_limit()
    plan, rounds = (QUICK, 1) if quick else (FULL, 5)
    systems: list[System] = [Gateway(deflate=deflate), Unlogged(deflate=deflate)]
    names = [system.name for system in systems]
    cores = choose_cores()
    print("== The run log ==")
    print(
        f"{SESSIONS} sessions, {1000 // EVERY} chunks/s each; {cores};\n"
        f"{rounds} interleaved round(s) of fresh servers, medians."
    )
    began = time.monotonic()
    # Memory that idle connections have left free would take up what the sessions need.
    visits = in_turns(systems, rounds, replace(plan, idle=0), cores)
    print(f"took {time.monotonic() - began:.0f} s; in brackets: times {Unlogged.name}\n")
    if list(visits) != names:
        raise SystemExit("the gateway itself could not be measured")
    rows: list[tuple[str, ...]] = []
    for label, read, scale, digits in ROWS:
        logged, unlogged = (median_of(visits[name], read) for name in names)
        times = ratio(logged, unlogged)
        beside = f" ({times:.2f}x)" if times is not None else ""
        rows.append(
            (label, number(logged, scale, digits) + beside, number(unlogged, scale, digits))
        )
    table(("", *names), rows)

"""How near a batch comes to what its server allows, and what a call costs us.

Why: an experiment's time is the model's time only if the client keeps the server busy, starts at
once and spends little. Each figure here comes from the real command ``python -m graphs.batch`` in a
process of its own, see :mod:`benchmarks.batch_run`; the two figures of the arena without a model
come from :mod:`benchmarks.episodes`.

How to run::

    python -m benchmarks.throughput            # about 7 minutes on two cores
    python -m benchmarks.throughput --quick    # 1 minute: the peers' situation and the small ones
    python -m benchmarks.throughput --json

Definitions
    Efficiency is ideal / actual. Every episode has at most one call at a time, so *in flight* calls
    are served at once at best, and ideal = calls x latency / in flight.

    *Tail left out*: the span begins with the first call's arrival at the server and ends when an
    episode ends and fewer than *in flight* episodes are left, for then nothing could keep the
    server full. A call that is under way at the end counts with the part that lies within.

    *Whole span*: from the first call's arrival to the last answer, tail included; the peers'
    situation (48 episodes, 16 in flight, 0.2 s) is measured so.

    CPU per call is user and system time of the whole client process, all threads, less those of a
    batch of one episode of the same recipe (interpreter, imports, opening the store, loading the
    encoder), over the calls of the difference. It is measured twice: with every sentence vector
    already in the store (the same run again under another name), and cold, where the sentence
    encoder embeds each statement; the difference is the encoder's.

    Start-up is the time from the start of the process to the first call's arrival.

    Memory per episode in flight is the slope between two batches of the same episodes, few and many
    in flight: resident size, largest in the second half of the run, less the text of an episode
    (all its answers, and one prompt under way).

    What the machine does besides is in every figure but the CPU seconds; the load is printed.
"""

import argparse
import json
import os
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from rich.console import Console

from benchmarks.batch_run import BatchRun, Situation, run_batch
from benchmarks.episodes import BUDGETS as EPISODE_BUDGETS
from benchmarks.episodes import measure_episodes
from benchmarks.figures import Figure, table, write_recipe
from mentalarena.config import ArenaConfig, Recipe

CALLS_20 = Recipe(exchanges=3, probe_rounds=1, max_plans=1, judge_samples=1)
"""21 calls an episode: principle, opening, 3 exchanges of 2, formulation, a probe of 4, diagnosis,
confirmation, and 3 for each of two plans (the mock's formulations are always rerouted)."""
CALLS_13 = Recipe(exchanges=1, probe_rounds=0, max_plans=1, judge_samples=1)
"""13 calls an episode, for the many episodes that memory takes."""

PEERS = (0.2, 16, 48)
"""Latency, in flight and episodes of the situation in which peers were measured."""
GRID = tuple((latency, in_flight) for latency in (0.2, 1.0) for in_flight in (16, 64, 200))
QUICK_GRID = ((1.0, 64),)


def whole_span_efficiency(run: BatchRun) -> float:
    """Ideal / actual from the first call to the last answer."""
    start, end = run.span
    return run.calls * run.situation.latency / run.situation.in_flight / (end - start)


def full_span_efficiency(run: BatchRun, episode_ends: Sequence[float]) -> float:
    """Ideal / actual with the tail left out.

    Args:
        run: the batch.
        episode_ends: Unix times at which its episodes ended, in order.
    """
    latency, in_flight = run.situation.latency, run.situation.in_flight
    start, end = run.span[0], episode_ends[len(episode_ends) - in_flight]
    within = sum(
        min(one.received + latency, end) - one.received
        for one in run.answered
        if one.received < end
    )
    return within / in_flight / (end - start)


def ends_of_episodes(db: Path, run: str = "batch") -> list[float]:
    """Unix times at which the episodes of a run were stamped, in order."""
    with closing(sqlite3.connect(f"{db.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        rows = connection.execute(
            "select finished_at from episodes where run_id = ? order by finished_at", (run,)
        ).fetchall()
    return [datetime.fromisoformat(row[0]).timestamp() for row in rows]


def cpu_ms_per_call(run: BatchRun, one: BatchRun) -> float:
    """CPU milliseconds of a call, the start-up that a batch of one episode shows taken off."""
    return 1000 * (run.cpu - one.cpu) / (run.calls - one.calls)


def measure_peers(folder: Path, note: Callable[[str], None]) -> Iterator[Figure]:
    """The peers' situation: efficiency, start-up, CPU per call."""
    latency, in_flight, episodes = PEERS
    situation = Situation(
        latency, in_flight, episodes, write_recipe(CALLS_20, folder / "calls20.toml")
    )
    db = folder / "peers.db"
    note(f"{episodes} episodes, {in_flight} in flight, {latency:g} s: cold")
    cold = run_batch(situation, db)
    note("the same with every vector known")
    warm = run_batch(situation, db, "warm")
    note("one episode, for start-up")
    one = run_batch(replace(situation, episodes=1), db, "one")
    yield Figure("peers: calls per episode", cold.calls / episodes, "")
    yield Figure("peers: efficiency, whole span", whole_span_efficiency(cold), "", ">=", 0.9)
    yield Figure("peers: the same, vectors known", whole_span_efficiency(warm), "")
    yield Figure("peers: first call after", cold.first_call_seconds, "s", "<=", 4.0)
    per_call = cpu_ms_per_call(warm, one)
    yield Figure("peers: CPU per call", per_call, "ms", "<=", 6.0)
    yield Figure("CPU per call (design)", per_call, "ms", "<=", 5.0)
    encoding = 1000 * (cold.cpu - warm.cpu) / cold.calls
    yield Figure("the sentence encoder, besides, per call", encoding, "ms")
    yield Figure("start-up CPU (one episode)", one.cpu, "s")


def measure_grid(
    grid: Sequence[tuple[float, int]], folder: Path, note: Callable[[str], None]
) -> Iterator[Figure]:
    """Efficiency with the tail left out, over latencies and numbers in flight."""
    recipe = write_recipe(CALLS_20, folder / "calls20.toml")
    for latency, in_flight in grid:
        # Episodes are of equal length, so one and a half waves are a whole wave at the limit.
        situation = Situation(latency, in_flight, in_flight * 3 // 2, recipe)
        where = f"{latency:g} s, {in_flight} in flight"
        note(f"{situation.episodes} episodes, {where}")
        db = folder / f"grid-{latency:g}-{in_flight}.db"
        run = run_batch(situation, db)
        value = full_span_efficiency(run, ends_of_episodes(db))
        limit = (">=", 0.9) if (latency, in_flight) == (1.0, 64) else ("", 0.0)
        yield Figure(f"efficiency, tail left out: {where}", value, "", *limit)
        start, end = run.span
        yield Figure(f"calls a second: {where}", run.calls / (end - start), "/s")


def measure_memory(few: int, many: int, folder: Path, note: Callable[[str], None]) -> Figure:
    """Resident kB that one more episode in flight takes, beyond its text."""
    recipe = write_recipe(CALLS_13, folder / "calls13.toml")
    sizes = []
    for in_flight, latency in ((few, 0.05), (many, 1.0)):
        note(f"memory: {many} episodes, {in_flight} in flight")
        # A new store each time: what the encoder needs to embed must be in both sizes or in none.
        db = folder / f"memory{in_flight}.db"
        run = run_batch(Situation(latency, in_flight, many, recipe), db)
        sizes.append(run.settled_memory())
    prompt = sum(one.prompt_bytes for one in run.answered) / run.calls
    with closing(sqlite3.connect(f"{db.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        (answers,) = connection.execute(
            "select sum(length(cast(answer as blob))) from calls"
        ).fetchone()
    text = prompt + answers / many
    slope = ((sizes[1] - sizes[0]) / (many - few) - text) / 1000
    return Figure(f"memory per episode in flight ({few} to {many})", slope, "kB", "<=", 150.0)


def measure_alone(folder: Path, note: Callable[[str], None]) -> Iterator[Figure]:
    """The arena without a model: graph and store, and rule-based episodes."""
    note("rule-based episodes, and graph and store alone")
    found = measure_episodes(ArenaConfig(db=str(folder / "alone.db")), episodes=40, in_flight=8)
    for name, label, unit in (
        ("super_step_cpu_ms", "CPU of graph and store, per super-step", "ms"),
        ("cold_episodes_per_second", "rule-based episodes, cold", "/s"),
    ):
        yield Figure(label, found[name], unit, *EPISODE_BUDGETS[name])
    yield Figure("rule-based episodes, vectors known", found["warm_episodes_per_second"], "/s")


def measure(*, quick: bool, note: Callable[[str], None]) -> Iterator[Figure]:
    """Every figure, in order."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        yield from measure_peers(folder, note)
        yield from measure_grid(QUICK_GRID if quick else GRID, folder, note)
        yield measure_memory(16, 128 if quick else 512, folder, note)
        # Last: it loads the encoder into this process, whose children start as its copies.
        yield from measure_alone(folder, note)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.throughput",
        description="How near a batch comes to what its server allows.",
    )
    parser.add_argument("--quick", action="store_true", help="fewer and smaller situations")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    progress = Console(stderr=True, highlight=False)
    figures = list(measure(quick=options.quick, note=progress.print))
    machine = {"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 2)}
    if options.json:
        rows = [one._asdict() | {"verdict": one.verdict} for one in figures]
        sys.stdout.write(json.dumps({"machine": machine, "figures": rows}, indent=1) + "\n")
    else:
        console = Console(highlight=False)
        console.print(table("throughput", figures))
        console.print(f"{machine['cores']} cores, load {machine['load']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What an episode costs beside the models: rule-based seats, the real graph, store and scorer.

Why: with models on the seats, everything that the arena itself spends is hidden behind them. With
the built-in seats it is all there is: how many episodes a second, what a super-step of graph and
store takes, how much an episode leaves in the store, and how soon something is seen.

How to run::

    python -m benchmarks.episodes --episodes 40 --json

Cold: a new store, so that every sentence which is not a built-in text is embedded (the encoder
itself is loaded before the clock starts, and reported apart). Warm: the same store opened again and
the same episodes as new samples, so that every vector is read from the store. A super-step: the
warm episodes once more, with nodes that return at once what they returned before, so that graph,
routes and store are all there is.

CPU seconds say more than wall seconds on a machine that is shared; both are given.
"""

import argparse
import asyncio
import json
import os
import re
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from agents.seats import Place
from graphs import arena
from graphs.routes import recursion_limit
from graphs.session import Session, open_session
from mentalarena.config import RECIPES, ArenaConfig, read_recipe

ROOT = Path(__file__).resolve().parent.parent

BUDGETS: dict[str, tuple[str, float]] = {
    "cold_episodes_per_second": (">=", 2.0),
    "super_step_cpu_ms": ("<=", 1.2),
    "store_kb_per_episode": ("<=", 60.0),
    "first_line_seconds": ("<=", 5.0),
    "help_seconds": ("<=", 0.5),
}
"""The limits of the design, on two cores."""


class Clock(NamedTuple):
    """Seconds of wall and of CPU (all threads of this process)."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> "Clock":
        """Both clocks."""
        return cls(time.perf_counter(), time.process_time())

    def since(self, start: "Clock") -> "Clock":
        """What has passed from ``start`` to this."""
        return Clock(self.wall - start.wall, self.cpu - start.cpu)


class Recording:
    """What every node returned, so that the graph can be run again without them."""

    def __init__(self) -> None:
        self._updates: dict[tuple[int, str, int], Any] = {}

    @property
    def steps(self) -> int:
        """How many super-steps were recorded."""
        return len(self._updates)

    def graph(self, *, replay: bool) -> Any:
        """The arena's graph, made again with nodes that are recorded, or replayed."""
        wrap = self._replayed if replay else self._recorded
        plain = dict(arena.NODES)
        try:
            arena.NODES.update(
                {name: (wrap(node), schema) for name, (node, schema) in plain.items()}
            )
            return arena.build()
        finally:
            arena.NODES.update(plain)

    def _recorded(self, node: arena.Node) -> arena.Node:
        async def run(state: Any, session: Session, at: Place) -> Any:
            update = await node(state, session, at)
            self._updates[at.seed, at.node, at.visit] = update
            return update

        return run

    def _replayed(self, node: arena.Node) -> arena.Node:
        async def run(state: Any, session: Session, at: Place) -> Any:
            return self._updates[at.seed, at.node, at.visit]

        return run


async def play(session: Session, graph: Any, episodes: int, in_flight: int) -> Clock:
    """Play the built-in cases in turn, each episode under a seed of its own; what it took."""
    cases = sorted(session.cases)
    room = asyncio.Semaphore(in_flight)

    async def one(ordinal: int) -> None:
        async with room:
            await graph.ainvoke(
                {"case_id": cases[ordinal % len(cases)], "seed": ordinal},
                {"recursion_limit": recursion_limit(session.config)},
                context=session.config,
            )

    await asyncio.to_thread(session.ledger.open_run)
    start = Clock.now()
    await asyncio.gather(*(one(ordinal) for ordinal in range(episodes)))
    return Clock.now().since(start)


def measure_episodes(config: ArenaConfig, episodes: int, in_flight: int) -> dict[str, float]:
    """Episodes a second with a cold and a warm embedding cache, and the cost of a super-step."""
    found: dict[str, float] = {}
    with closing(open_session(config)) as session:
        start = Clock.now()
        session.embedder.vectors(["A sentence that no patient says."])
        found["encoder_load_seconds"] = Clock.now().since(start).wall
        before = pages(config.db, vectors=False)
        cold = asyncio.run(play(session, arena.graph, episodes, in_flight))
        vectors = session.store.fetch("select count(*) as n from embeddings")[0]["n"]
    # Closing has folded the log into the file: its pages are the whole truth.
    found["store_kb_per_episode"] = (pages(config.db, vectors=False) - before) / episodes / 1000
    found["vectors_kb_per_episode"] = pages(config.db, vectors=True) / episodes / 1000
    found["vectors_per_episode"] = vectors / episodes
    with closing(open_session(config)) as session:
        recording = Recording()
        warm = asyncio.run(play(session, recording.graph(replay=False), episodes, in_flight))
        bare = asyncio.run(play(session, recording.graph(replay=True), episodes, in_flight))
    for name, clock in (("cold", cold), ("warm", warm)):
        found[f"{name}_episodes_per_second"] = episodes / clock.wall
        found[f"{name}_cpu_ms_per_episode"] = 1000 * clock.cpu / episodes
    found["super_steps_per_episode"] = recording.steps / episodes
    found["super_step_cpu_ms"] = 1000 * bare.cpu / recording.steps
    found["super_step_wall_ms"] = 1000 * bare.wall / recording.steps
    return found


def pages(db: str, *, vectors: bool) -> int:
    """Bytes of the file's pages that hold embeddings, or of all the others."""
    connection = sqlite3.connect(f"{Path(db).absolute().as_uri()}?mode=ro", uri=True)
    with closing(connection):
        which = "in" if vectors else "not in"
        (total,) = connection.execute(
            f"select coalesce(sum(pgsize), 0) from dbstat where name {which}"
            " (select name from sqlite_schema where tbl_name = 'embeddings')"
        ).fetchone()
    return int(total)


def seconds_to(command: Sequence[str], sign: str, folder: Path) -> float:
    """Seconds from the start of a command to the first line of output that ``sign`` matches.

    Raises:
        RuntimeError: the command ended without that line.
    """
    start = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    found = None
    for line in process.stdout:
        if found is None and re.match(sign, line):
            found = time.perf_counter() - start
    _, complaint = process.communicate()
    if found is None or process.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit {process.returncode}: {complaint[-500:]}")
    return found


def measure_start(runs: int) -> dict[str, float]:
    """Medians of how soon something is seen; one run before, so that the disk is warm."""
    script = str(Path(sys.executable).parent / "mentalarena")
    found: dict[str, float] = {}
    for name, command, sign in (
        ("first_line_seconds", [sys.executable, "-m", "graphs.arena", "--seed", "1"], " +patient "),
        ("help_seconds", [script, "--help"], "Usage"),
    ):
        taken = []
        for _ in range(runs + 1):
            with tempfile.TemporaryDirectory() as folder:
                taken.append(seconds_to(command, sign, Path(folder)))
        found[name] = statistics.median(taken[1:])
    return found


def line(name: str, value: float, budgets: Mapping[str, tuple[str, float]] = BUDGETS) -> str:
    """One figure as text, with its budget where it has one."""
    text = f"{name:32} {value:10.3f}"
    if name in budgets:
        sense, limit = budgets[name]
        kept = value >= limit if sense == ">=" else value <= limit
        text += f"   {'ok' if kept else 'OVER'} (budget {sense} {limit:g})"
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.episodes", description="What an episode costs beside the models."
    )
    parser.add_argument("--episodes", type=int, default=40, help="episodes a measurement")
    parser.add_argument("--in-flight", type=int, default=8, help="episodes at once, cold and warm")
    parser.add_argument("--recipe", default="default", help=f"{'|'.join(RECIPES)}|FILE.toml")
    parser.add_argument("--starts", type=int, default=3, help="runs a start-up time; 0: none")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        config = replace(
            ArenaConfig().with_recipe(read_recipe(options.recipe)), db=f"{folder}/arena.db"
        )
        found = measure_episodes(config, options.episodes, options.in_flight)
    if options.starts:
        found |= measure_start(options.starts)
    if options.json:
        settings = {
            name: getattr(options, name) for name in ("episodes", "in_flight", "recipe", "starts")
        }
        figures = {name: round(value, 4) for name, value in found.items()}
        machine = {"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 2)}
        budgets = {name: f"{sense} {limit:g}" for name, (sense, limit) in BUDGETS.items()}
        result = {"settings": settings, "machine": machine, "figures": figures, "budgets": budgets}
        text = json.dumps(result, indent=1)
    else:
        text = "\n".join(line(name, value) for name, value in found.items())
    sys.stdout.write(text + "\n")
    return 0


if __name__ == "__main__":
    # LangSmith's tracing, when the environment asks for it, would be what is measured.
    os.environ["LANGSMITH_TRACING"] = "false"
    sys.exit(main())

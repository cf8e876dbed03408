"""What the store takes and gives: episodes written a second, bytes each, views over thousands.

Why: many episodes wait for one writer, and people ask their questions of a file that has grown.

How to run::

    python -m benchmarks.store --json

A few episodes are played against the mock server, and copies of them written (see
:mod:`benchmarks.shapes`). As played: every batch an episode hands over, one a call and one a
super-step, awaited before its next one. Whole: an episode in one batch. Then a store of
``--stored`` episodes, and the seconds that ``show`` and each view take in it; the first rows, those
of one episode, those of one run, and all of them counted.
"""

import argparse
import asyncio
import gc
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from rich.console import Console

from benchmarks.episodes import Clock, line, pages, seconds_to
from benchmarks.shapes import Batch, Shape, copy, played
from mentalarena.rows import Change, Insert, Write
from mentalarena.show import render
from mentalarena.store import Store, open_store
from mentalarena.store_reader import open_readonly
from mentalarena.trajectory import read_trajectory

_SECONDS = 0.3
_BY_EPISODE = ("episode_summary", "sft_candidates", "preference_pairs")
_BY_RUN = (*_BY_EPISODE, "bias_by_component", "cost_by_seat")
_AT_ONCE = 50
"""Episodes a batch when a large store is made."""


def copies(shape: Shape, episodes: int, first: int = 0) -> list[list[Batch]]:
    """This many episodes, every one under ids of its own."""
    kinds = len(shape.episodes)
    return [copy(shape.episodes[i % kinds], i) for i in range(first, first + episodes)]


async def write_all(store: Store, episodes: Sequence[Sequence[Batch]], in_flight: int) -> None:
    """Write each episode's batches one after the other, ``in_flight`` episodes at a time."""
    left = iter(episodes)

    async def some() -> None:
        for episode in left:
            for batch in episode:
                await store.write(batch)

    await asyncio.gather(*(some() for _ in range(in_flight)))


def measure_writing(shape: Shape, episodes: int, in_flight: int, folder: str) -> dict[str, float]:
    """Episodes a second, CPU an episode, and bytes an episode."""
    found: dict[str, float] = {}
    batches = copies(shape, episodes)
    whole = [[[row for batch in episode for row in batch]] for episode in batches]
    for name, work in (("as_played", batches), ("whole", whole)):
        path = f"{folder}/{name}.db"
        with open_store(path) as store:
            store.write_sync(shape.shared)
            # What is to be written was made before and is none of the store's business.
            gc.collect()
            gc.freeze()
            start = Clock.now()
            asyncio.run(write_all(store, work, in_flight))
            took = Clock.now().since(start)
            gc.unfreeze()
        found[f"{name}_episodes_per_second"] = episodes / took.wall
        found[f"{name}_cpu_ms_per_episode"] = 1000 * took.cpu / episodes
    found["batches_per_episode"] = sum(map(len, batches)) / episodes
    found["rows_per_episode"] = sum(len(batch) for work in batches for batch in work) / episodes
    found["kb_per_episode"] = pages(path, vectors=False) / episodes / 1000
    return found


def build(path: str, shape: Shape, episodes: int) -> float:
    """Make a store of this many episodes in large batches; episodes a second."""
    start = time.perf_counter()
    with open_store(path) as store:
        store.write_sync(shape.shared)
        for first in range(0, episodes, _AT_ONCE):
            work = copies(shape, min(_AT_ONCE, episodes - first), first)
            rows = [row for episode in work for batch in episode for row in batch]
            # Rows of one table side by side; episodes begin before them, and end after them.
            rows.sort(key=_order)
            store.write_sync(rows)
    return episodes / (time.perf_counter() - start)


def _order(row: Write) -> tuple[bool, bool, str]:
    return isinstance(row, Change), not isinstance(row, Insert), row.table


def questions(episode: str, run: str) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Name, statement and parameters of what people ask of the views."""
    for view in _BY_RUN:
        yield f"{view}: 50 rows", f"select * from {view} limit 50", ()
        yield f"{view}: 50 of a run", f"select * from {view} where run_id = ? limit 50", (run,)
        yield f"{view}: count", f"select count(*) from {view}", ()
    for view in _BY_EPISODE:
        yield f"{view}: an episode", f"select * from {view} where episode_id = ?", (episode,)
    yield (
        "episode_summary: means by status",
        "select status, count(*), avg(turns), sum(tokens), avg(reroutes) from episode_summary "
        "group by status",
        (),
    )


def measure_reading(path: str, folder: str) -> dict[str, float]:
    """Seconds of ``show`` and of each question."""
    found: dict[str, float] = {}
    with closing(open_readonly(path)) as reader:
        chosen = "select id, run_id from episodes order by id limit 1 offset"
        [row] = reader.fetch(f"{chosen} (select count(*) / 2 from episodes)")
        start = time.perf_counter()
        Console(file=io.StringIO()).print(render(read_trajectory(reader, row["id"])))
        found["show: in process"] = time.perf_counter() - start
        for name, sql, values in questions(row["id"], row["run_id"]):
            start = time.perf_counter()
            reader.fetch(sql, values)
            found[name] = time.perf_counter() - start
    script = str(Path(sys.executable).parent / "mentalarena")
    command = [script, "show", row["id"], "--db", path]
    found["show: command"] = seconds_to(command, "episode ep-", Path(folder))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.store", description="What the store takes and gives."
    )
    parser.add_argument("--episodes", type=int, default=300, help="episodes written a measurement")
    parser.add_argument("--in-flight", type=int, default=64, help="episodes written at once")
    parser.add_argument("--stored", type=int, default=10_000, help="episodes to read from; 0: none")
    parser.add_argument("--recipe", default="default", help="of the episodes that are copied")
    parser.add_argument("--reply-words", type=int, default=60, help="words of a mock answer")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    shape = played(3, options.recipe, options.reply_words)
    budgets = {
        "as_played_episodes_per_second": (">=", 500.0),
        "whole_episodes_per_second": (">=", 500.0),
        "kb_per_episode": ("<=", 60.0),
    }
    with tempfile.TemporaryDirectory() as folder:
        found = measure_writing(shape, options.episodes, options.in_flight, folder)
        if options.stored:
            large = f"{folder}/large.db"
            found["built_episodes_per_second"] = build(large, shape, options.stored)
            reading = measure_reading(large, folder)
            budgets |= {name: ("<=", _SECONDS) for name in reading}
            found |= reading
    if options.json:
        settings = {name: value for name, value in vars(options).items() if name != "json"}
        machine = {"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 2)}
        result = {
            "settings": settings,
            "machine": machine,
            "figures": {name: round(value, 4) for name, value in found.items()},
            "budgets": {name: f"{sense} {limit:g}" for name, (sense, limit) in budgets.items()},
        }
        text = json.dumps(result, indent=1)
    else:
        text = "\n".join(line(name, value, budgets) for name, value in found.items())
    sys.stdout.write(text + "\n")
    return 0


if __name__ == "__main__":
    # LangSmith's tracing, when the environment asks for it, would only slow things down.
    os.environ["LANGSMITH_TRACING"] = "false"
    sys.exit(main())

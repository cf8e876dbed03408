"""What a viewer that follows a batch costs the batch: CPU seconds, in pairs.

Why: a page that is looked at must not slow down what is paid for. The batch is the real command
against the mock server; in one half of each pair the viewer runs beside it and is asked for the
run's page and an episode's every 2.5 seconds, as the pages' own script does. Only the batch's CPU
time counts, which the system tells; the order changes from pair to pair.

How to run::

    python -m benchmarks.viewer [--pairs 6] [--episodes 40] [--json]
"""

import argparse
import json
import math
import re
import statistics
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks.batch_run import Situation, run_batch
from benchmarks.figures import Figure, table, write_recipe
from mentalarena.config import read_recipe
from mentalarena.errors import StoreError
from mentalarena.store_reader import open_readonly

EVERY = 2.5
"""Seconds between two looks; ``data-live`` of the pages."""
LIMIT = 5.0
"""Percent that the batch's CPU time may grow by."""
_T_95 = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26}
"""Two-sided 95 % points of Student's t by degrees of freedom."""


class Pair(NamedTuple):
    """CPU seconds of the same batch."""

    alone: float
    followed: float
    looks: int
    """Pages that the viewer answered meanwhile."""

    @property
    def growth(self) -> float:
        """Percent."""
        return 100 * (self.followed / self.alone - 1)


class Follower:
    """A viewer beside a batch, looked at until it is told to stop."""

    def __init__(self, db: Path) -> None:
        self._db = db
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow)
        self.looks = 0

    def __enter__(self) -> "Follower":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._is_there():
            if self._ended.wait(0.1):
                return
        viewer = subprocess.Popen(
            [sys.executable, "-m", "mentalarena.cli", "view", "--db", str(self._db), "--port", "0"],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert viewer.stdout is not None
            address = viewer.stdout.readline().split()[0].rstrip("/")
            while not self._ended.wait(EVERY):
                page = self._look(f"{address}/run/batch")
                found = re.search(r'href="(/episode/[^"]+)"', page)
                if found:
                    self._look(address + found[1])
        finally:
            viewer.terminate()
            viewer.wait()

    def _is_there(self) -> bool:
        try:
            open_readonly(self._db).close()
        except StoreError:
            return False
        return True

    def _look(self, address: str) -> str:
        with urllib.request.urlopen(address, timeout=30) as answer:
            page: str = answer.read().decode()
        self.looks += 1
        return page


def measure(pairs: int, episodes: int, folder: Path) -> list[Pair]:
    """Play the batches."""
    recipe = write_recipe(read_recipe("pilot"), folder / "pilot.toml")
    situation = Situation(latency=0.5, in_flight=16, episodes=episodes, recipe=recipe)
    made = []
    for number in range(pairs):
        cpu = {}
        looks = 0
        for followed in (False, True) if number % 2 == 0 else (True, False):
            db = folder / f"{number}-{'followed' if followed else 'alone'}.db"
            if followed:
                with Follower(db) as follower:
                    cpu[followed] = run_batch(situation, db).cpu
                looks = follower.looks
            else:
                cpu[followed] = run_batch(situation, db).cpu
        made.append(Pair(cpu[False], cpu[True], looks))
    return made


def interval(values: Sequence[float]) -> float:
    """Half of the 95 % interval of a mean."""
    if len(values) < 2:
        return math.nan
    spread = statistics.stdev(values) / math.sqrt(len(values))
    return _T_95.get(len(values) - 1, 2.2) * spread


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 when the limit is passed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.viewer")
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--episodes", type=int, default=40)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    with TemporaryDirectory() as folder:
        pairs = measure(options.pairs, options.episodes, Path(folder))
    growths = [pair.growth for pair in pairs]
    mean, half = statistics.fmean(growths), interval(growths)
    figures = [
        Figure("CPU of the batch alone", statistics.fmean(p.alone for p in pairs), "s"),
        Figure("CPU of the batch, followed", statistics.fmean(p.followed for p in pairs), "s"),
        Figure("growth, mean of the pairs", mean, "%", "<=", LIMIT),
        Figure("half of its 95 % interval", half, "%"),
        Figure("pages looked at meanwhile", statistics.fmean(p.looks for p in pairs), ""),
    ]
    if options.json:
        result = {"pairs": [pair._asdict() for pair in pairs], "growth": mean, "half": half}
        sys.stdout.write(json.dumps(result, indent=1) + "\n")
    else:
        from rich.console import Console

        Console().print(table(f"a viewer beside a batch, {len(pairs)} pairs", figures))
    return int(mean > LIMIT)


if __name__ == "__main__":
    sys.exit(main())

"""What a batch loses, repeats or makes up when it is killed, throttled, cut off or left alone.

Why: an experiment of thousands of paid calls meets all of it. Each situation runs the real command
``python -m graphs.batch`` against the mock server, breaks it, says the same command again, and
compares what is stored with an undisturbed run: the mock's answers are a function of the prompt, so
trajectories have to be equal to the last digit.

How to run::

    python -m benchmarks.durability            # about 15 minutes on two cores
    python -m benchmarks.durability --quick    # fewer kills, a smaller storm
    python -m benchmarks.durability --json

Definitions
    A kill is SIGKILL at a random moment: half of them a random number of requests after the start,
    half a random time after it (so that starting up is hit too).

    A call made again is a second whole answer to a prompt that had one: paid twice. The bound is
    what was in flight at the kills: asked for since the command began and not stored when it died,
    counted from the server's requests and the store's calls. What the server had not answered yet
    is given beside it; an answer that is on its way to the store is in flight too.
"""

import argparse
import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from benchmarks.figures import Figure, table, write_recipe
from benchmarks.mock_server import MockServerProcess
from benchmarks.throughput import CALLS_20
from mentalarena.gate import UNSTORED
from mentalarena.store import Store, open_store
from mentalarena.trajectory import read_trajectory, without_volatile

ROOT = Path(__file__).resolve().parent.parent
IN_FLIGHT = 16
STORM = {"429": 0.2, "500": 0.1, "cut": 0.05, "garbage": 0.02, "hang": 0.02}
_PATIENCE = 900.0
"""Seconds after which a batch counts as hanging."""


class Ended(NamedTuple):
    """How a batch ended."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def result(self) -> dict[str, Any]:
        """What ``--json`` printed."""
        values: dict[str, Any] = json.loads(self.out)
        return values


@dataclass(frozen=True, slots=True)
class Lab:
    """Where situations are tried."""

    folder: Path
    note: Callable[[str], None]

    def start(self, base_url: str, db: Path, *flags: str) -> "subprocess.Popen[str]":
        """A batch in a process of its own."""
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "graphs.batch", "--model", "openai:mock"),
                *("--base-url", base_url, "--db", str(db), "--json", *flags),
                *("--recipe", str(write_recipe(CALLS_20, self.folder / "calls20.toml"))),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "LANGSMITH_TRACING": "false"},
        )

    def run(self, base_url: str, db: Path, *flags: str) -> Ended:
        """A batch, to its end.

        Raises:
            TimeoutExpired: it hangs.
        """
        started = time.monotonic()
        process = self.start(base_url, db, *flags)
        try:
            out, err = process.communicate(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return Ended(process.returncode, out, err, time.monotonic() - started)


def trajectories(store: Store) -> dict[str, str]:
    """Every complete episode, by case and sample, less ids and times."""
    found = {}
    for row in store.fetch("select id, case_id, sample from episodes where status = 'ok'"):
        played = without_volatile(read_trajectory(store, row["id"]))
        del played["run"]
        found[f"{row['case_id']}/{row['sample']}"] = json.dumps(played, sort_keys=True)
    return found


def faults_of_the_file(store: Store) -> int:
    """Findings of SQLite's integrity check and of its foreign keys' check."""
    whole = store.fetch("pragma integrity_check") == [{"integrity_check": "ok"}]
    return (not whole) + len(store.fetch("pragma foreign_key_check"))


def blank_answers(db: Path) -> int:
    """Turns, plans and diagnoses of complete episodes that say nothing."""
    query = (
        "select (select count(*) from turns t join episodes e on e.id = t.episode_id"
        " where e.status = 'ok' and trim(t.text) = '')"
        " + (select count(*) from plans p join episodes e on e.id = p.episode_id"
        " where e.status = 'ok' and trim(p.name) = '')"
        " + (select count(*) from diagnoses d join episodes e on e.id = d.episode_id"
        " where e.status = 'ok' and trim(d.label) = '')"
    )
    return int(_one(db, query))


def stored_calls(db: Path) -> int:
    """Calls whose answers are in a store; 0 when there is none yet."""
    made = "select count(*) from sqlite_schema where name = 'calls'"
    if not db.exists() or not _one(db, made):
        return 0
    return int(_one(db, "select count(*) from calls"))


def _one(db: Path, query: str) -> Any:
    with closing(sqlite3.connect(f"{db.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchone()[0]


def measure_kills(lab: Lab, kills: int, workers: int) -> Iterator[Figure]:
    """SIGKILL again and again, then once to the end."""
    episodes = 40
    flags = ("--episodes", str(episodes), "--concurrency", str(IN_FLIGHT))
    calm = lab.folder / f"calm-{workers}.db"
    with MockServerProcess() as server:
        lab.run(server.base_url, calm, *flags)
        calls = server.stats()["chat_requests"]
    db = lab.folder / f"killed-{workers}.db"
    spread = (*flags, "--workers", str(workers))
    draw = random.Random(workers)
    done, unanswered = 0, 0
    in_flight: list[int] = []
    with MockServerProcess(latency=0.05) as server:
        while done < kills:
            begun = server.stats()
            before, stored = begun["prompts_answered"], stored_calls(db)
            # Spread over what is left, so that the batch is not complete before the last kill.
            share = max(2, 2 * (calls - before) // (kills - done + 1))
            process = lab.start(server.base_url, db, *spread)
            by_time = time.monotonic() + draw.uniform(0, 6) if draw.random() < 0.5 else None
            target = server.stats()["chat_requests"] + draw.randrange(1, share)
            while process.poll() is None and (
                server.stats()["chat_requests"] < target
                and (by_time is None or time.monotonic() < by_time)
            ):
                threading.Event().wait(0.001)
            if process.poll() is not None:
                break
            unanswered += server.stats()["in_flight"] - 1  # The question itself is one.
            process.send_signal(signal.SIGKILL)
            process.communicate()
            # Workers notice a moment later that nobody listens.
            while server.stats()["in_flight"] > 1:
                threading.Event().wait(0.01)
            asked = server.stats()["chat_requests"] - begun["chat_requests"]
            in_flight.append(asked - (stored_calls(db) - stored))
            done += 1
            lab.note(f"kill {done} of {kills}, {before} of {calls} calls answered")
        last = lab.run(server.base_url, db, *spread)
        again = server.stats()["answered_again"]
    name = f"{done} kills, {workers} worker{'s' if workers > 1 else ''}"
    with open_store(calm) as one, open_store(db) as other:
        wanted, got = trajectories(one), trajectories(other)
        yield Figure(f"{name}: exit of the last command", last.code, "", "<=", 0)
        yield Figure(f"{name}: complete episodes of {episodes}", len(got), "", ">=", episodes)
        different = sum(wanted[key] != got.get(key) for key in wanted)
        yield Figure(f"{name}: trajectories that differ", different, "", "<=", 0)
        yield Figure(f"{name}: faults of the file", faults_of_the_file(other), "", "<=", 0)
    yield Figure(f"{name}: calls the server had not answered at the kills", unanswered, "")
    yield Figure(f"{name}: calls in flight at a kill, most", max(in_flight, default=0), "",
                 "<=", IN_FLIGHT + IN_FLIGHT // UNSTORED)  # fmt: skip
    yield Figure(f"{name}: calls in flight at the kills", sum(in_flight), "")
    yield Figure(f"{name}: calls made again", again, "", "<=", sum(in_flight))


def measure_burst(lab: Lab, in_flight: int) -> Iterator[Figure]:
    """The first 64 requests are turned away for a second."""
    flags = ("--episodes", "64", "--concurrency", str(in_flight))
    walls = []
    for burst in ({}, {"429": 64}):
        lab.note(f"burst of {burst.get('429', 0)} refusals, {in_flight} in flight")
        db = lab.folder / f"burst-{in_flight}-{len(burst)}.db"
        with MockServerProcess(latency=0.2, burst=burst, retry_after=1.0) as server:
            ended = lab.run(server.base_url, db, *flags)
        walls.append(ended.result["seconds"])
    name = f"burst of 64 x 429, {in_flight} in flight"
    yield Figure(f"{name}: complete of 64", ended.result["complete"], "", ">=", 64)
    yield Figure(f"{name}: blank answers", blank_answers(db), "", "<=", 0)
    # Each of those in flight is turned away 64 / in flight times, a second at a time.
    told = 64 / in_flight
    yield Figure(f"{name}: seconds beyond the {told:g} it was told to wait",
                 walls[1] - walls[0] - told, "s")  # fmt: skip


def measure_down(lab: Lab) -> Iterator[Figure]:
    """Nothing listens; and a server that goes away in the middle."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = taken.getsockname()[1]
    db = lab.folder / "down.db"
    ended = lab.run(f"http://127.0.0.1:{free}/v1", db, "--episodes", "48")
    stored = _one(db, "select count(*) from episodes where status = 'ok'") if db.exists() else 0
    yield Figure("server down: exit", ended.code, "", "<=", 2)
    yield Figure("server down: lines said", len(ended.err.strip().splitlines()), "", "<=", 1)
    yield Figure("server down: episodes stored as complete", stored, "", "<=", 0)
    lab.note(ended.err.strip())

    db = lab.folder / "gone.db"
    flags = ("--episodes", "48", "--concurrency", str(IN_FLIGHT))
    with MockServerProcess(latency=0.2) as server:
        process = lab.start(server.base_url, db, *flags)
        while server.stats()["chat_requests"] < 300:
            threading.Event().wait(0.01)
    _, err = process.communicate(timeout=_PATIENCE)
    lab.note(err.strip())
    states = {"ok", "failed", "aborted"}
    with open_store(db) as store:
        found = {row["status"] for row in store.fetch("select distinct status from episodes")}
    yield Figure("server gone in the middle: exit", process.returncode, "", ">=", 1)
    yield Figure("server gone: episodes in no known state", len(found - states), "", "<=", 0)
    yield Figure("server gone: blank answers", blank_answers(db), "", "<=", 0)
    with MockServerProcess() as server:
        again = lab.run(server.base_url, db, *flags)
    yield Figure("server back: complete of 48", again.result["complete"], "", ">=", 48)


def measure_storm(lab: Lab, episodes: int) -> Iterator[Figure]:
    """Throttled, failing, cut, garbled and silent at once."""
    lab.note(f"storm, {episodes} episodes: {STORM}")
    db = lab.folder / "storm.db"
    flags = ("--episodes", str(episodes), "--concurrency", "64", "--timeout", "5")
    with MockServerProcess(latency=0.1, fail=STORM, retry_after=0.2) as server:
        first = lab.run(server.base_url, db, *flags)
        recorded = _one(
            db,
            "select count(*) from episodes e where status = 'failed' and exists"
            " (select 1 from errors x where x.episode_id = e.id and x.boundary = 'provider')",
        )
        yield Figure("storm: complete", first.result["complete"], "")
        yield Figure("storm: failed, as recorded", recorded, "")
        accounted = first.result["complete"] + recorded
        yield Figure(f"storm: accounted for, of {episodes}", accounted, "", ">=", episodes)
        yield Figure("storm: blank answers", blank_answers(db), "", "<=", 0)
        yield Figure("storm: seconds", first.seconds, "s")
        rounds, ended = 1, first
        while ended.result["left"] and rounds < 10:
            rounds, ended = rounds + 1, lab.run(server.base_url, db, *flags)
    yield Figure("storm: commands until all are complete", rounds, "")
    yield Figure("storm: complete in the end", ended.result["complete"], "", ">=", episodes)


def measure_budget(lab: Lab) -> Iterator[Figure]:
    """A budget stops the run, a higher one goes on."""
    db = lab.folder / "budget.db"
    flags = ("--episodes", "40", "--concurrency", str(IN_FLIGHT))
    with MockServerProcess(latency=0.05) as server:
        stopped = lab.run(server.base_url, db, *flags, "--max-calls", "300")
        over = stopped.result["calls"] - 300
        yield Figure("budget of 300 calls: spent beyond it", over, "calls", "<=", IN_FLIGHT)
        rest = lab.run(server.base_url, db, *flags, "--max-calls", "100000")
        yield Figure("budget raised: complete of 40", rest.result["complete"], "", ">=", 40)
        again = server.stats()["answered_again"]
        yield Figure("budget: calls made again", again, "", "<=", 0)


def measure(*, quick: bool, note: Callable[[str], None]) -> Iterator[Figure]:
    """Every figure, in order."""
    with tempfile.TemporaryDirectory() as name:
        lab = Lab(Path(name), note)
        for workers in (1, 2):
            yield from measure_kills(lab, 5 if quick else 30, workers)
        for in_flight in (IN_FLIGHT, 64):
            yield from measure_burst(lab, in_flight)
        yield from measure_down(lab)
        yield from measure_budget(lab)
        yield from measure_storm(lab, 40 if quick else 200)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 when a limit is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.durability",
        description="What a batch loses or repeats when it is disturbed.",
    )
    parser.add_argument("--quick", action="store_true", help="fewer kills and a smaller storm")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    progress = Console(stderr=True, highlight=False)
    figures = list(measure(quick=options.quick, note=progress.print))
    if options.json:
        rows = [one._asdict() | {"verdict": one.verdict} for one in figures]
        sys.stdout.write(json.dumps({"figures": rows}, indent=1) + "\n")
    else:
        Console(highlight=False).print(table("durability", figures))
    return int(any(one.verdict == "miss" for one in figures))


if __name__ == "__main__":
    sys.exit(main())
